"""Checks in a child process (`tflite_child.py`) that a TFLite network can be loaded and run without crashing."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from trtpoets.core.child_process import Child, ChildFailed, python_program
from trtpoets.core.errors import BadArtefact

_SECONDS = 120.0
"""Time limit for loading a network and running two photos."""

_REDO_HINT = "make it again: trtpoets bundle NAME --for tflite --force"

_sound: set[tuple[str, bool]] = set()
"""Networks that this process has checked: sha256 and whether own kernels were used."""


def require_sound(path: Path, network: bytes, threads: int, own_kernels: bool, hint: str = _REDO_HINT) -> None:
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
    request = {"threads": threads, "own_kernels": own_kernels, "network": base64.b64encode(network).decode()}
    with Child(python_program("trtpoets.device.tflite_child")) as child:
        try:
            child.ask(request, _SECONDS)
        except ChildFailed as failed:
            if failed.alive:
                return failed.why
            if failed.hung:
                return f"it needs more than {_SECONDS:g} seconds for two photos"
            return f"the network is damaged: {failed.why}"
    return ""
