"""Checks in a child process (`tflite_child.py`) that a TFLite network can be loaded and run without crashing."""

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
"""Time limit for loading a network and running two photos."""

_AGAIN = "make it again: trtpoets bundle NAME --for tflite --force"

_sound: set[tuple[str, bool]] = set()
"""Networks that this process has checked: sha256 and whether own kernels were used."""


def require_sound(path: Path, network: bytes, threads: int, own_kernels: bool, hint: str = _AGAIN) -> None:
    """Raise BadArtefact if loading or running `network`, the bytes of the file `path`, fails or crashes the child.

    Afterwards the caller can load the same bytes; it must not read the file again, which may have changed. `hint` is
    that of the error; the default is for files that trtpoets wrote.
    """
    key = hashlib.sha256(network).hexdigest(), own_kernels
    if key in _sound:
        return
    failure = _failure(network, threads, own_kernels)
    if failure:
        raise BadArtefact(f"TFLite can't load {path}: {failure}", hint=hint, code="TP4109")
    _sound.add(key)


def _failure(network: bytes, threads: int, own_kernels: bool) -> str:
    # With the parent's sys.path the child imports the same packages, and nothing from the current folder.
    program = f"import sys; sys.path[:] = {sys.path!r}; from trtpoets.device.tflite_child import main; main()"
    request = json.dumps({"threads": threads, "own_kernels": own_kernels}).encode() + b"\n"
    command = [sys.executable, "-B", "-c", program]
    with temporary_file() as output:
        try:  # a child that takes too long is killed
            child = subprocess.run(
                command,
                input=request + network,
                stdout=subprocess.PIPE,
                stderr=output,
                env=child_environment(),
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it needs more than {_SECONDS:g} seconds for two photos"
        if child.returncode == 0 and child.stdout:
            return str(json.loads(child.stdout)["failure"])
        output.seek(0)
        lines = [line.strip() for line in output.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last_output = f"; its last output: {lines[-1][:300]}" if lines else ""
    return f"the network is damaged: the process that tried it {_ending(child.returncode)}{last_output}"


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    name = next((member.name for member in signal.Signals if member == -code), f"signal {-code}")
    return f"was ended by {name}{', probably because memory ran out' if name == 'SIGKILL' else ''}"
