"""Whether a TFLite network can be loaded and run without harm: tried in a process of its own (`tflite_child.py`)."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

from trtpoets.core.child_environment import child_environment
from trtpoets.core.errors import BadArtefact
from trtpoets.core.files import temporary_file

_SECONDS = 120.0
"""A network that takes longer for two photos hangs, or is of no use."""

_AGAIN = "make it again: trtpoets bundle NAME --for tflite --force"

_sound: set[tuple[str, bool]] = set()
"""The sha256 of networks that were tried by this process, each with the kernels that ran it."""


def require_sound(path: Path, network: bytes, threads: int, own_kernels: bool) -> None:
    """Raise BadArtefact where loading or running `network`, the bytes of the file `path`, fails or ends the process.

    Those bytes can then be loaded here: that they are the same is up to the caller, who must not read the file again.
    """
    key = hashlib.sha256(network).hexdigest(), own_kernels
    if key in _sound:
        return
    failure = _failure(network, threads, own_kernels)
    if failure:
        raise BadArtefact(f"TFLite can't load {path}: {failure}", hint=_AGAIN, code="TP4109")
    _sound.add(key)


def _failure(network: bytes, threads: int, own_kernels: bool) -> str:
    # The parent's import path as it is: the child must find the same packages, and nothing of the current folder.
    program = f"import sys; sys.path[:] = {sys.path!r}; from trtpoets.device.tflite_child import main; main()"
    order = json.dumps({"threads": threads, "own_kernels": own_kernels}).encode() + b"\n"
    command = [sys.executable, "-B", "-c", program]
    with temporary_file() as noise:
        try:  # a child that takes too long is killed
            child = subprocess.run(
                command,
                input=order + network,
                stdout=subprocess.PIPE,
                stderr=noise,
                env=child_environment(),
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it takes longer than {_SECONDS:g} seconds for two photos"
        if child.returncode == 0 and child.stdout:
            return str(json.loads(child.stdout)["failure"])
        noise.seek(0)
        said = [line.strip() for line in noise.read().decode("utf-8", "replace").splitlines() if line.strip()]
    words = f"; its last words: {said[-1][:300]}" if said else ""
    return f"the network is damaged: the process that tried it {_how(child.returncode)}{words}"


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    name = next((member.name for member in signal.Signals if member == -code), f"signal {-code}")
    return f"died of {name}{', most likely because memory ran out' if name == 'SIGKILL' else ''}"
