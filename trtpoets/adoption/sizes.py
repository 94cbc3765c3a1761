"""Refuses classifier files that are too large, before they are read: for the format of fp32.onnx, or for the memory."""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.errors import BadArtefact, RunFailed, TrtPoetsError
from trtpoets.core.file_kinds import FileKind
from trtpoets.core.files import size_of_folder
from trtpoets.core.onnx_external import LARGEST_NETWORK, external_files
from trtpoets.core.system_files import available_memory, memory_of

_MEMORY_FACTOR, _MEMORY_OF_PACKAGES = 8, 1 << 30
"""Memory that adopting a file needs: this multiple of its size (7 is measured), and that of the packages in bytes."""

_SMALL = 128 << 20
"""Files of at most this size in bytes are not compared with the memory."""

_SMALL_GRAPH = 64 << 20
"""Only ONNX files of at most this size are searched for external data."""

_GIB = 1 << 30
_SMALLER = (
    "adopt a smaller network; an ONNX file of any size can be built without measurements by TensorRT's own "
    "trtexec --onnx=FILE"
)
_WITHOUT_OPTIMIZER = (
    "if it contains the state of the optimizer, save the network without it: "
    "keras.models.load_model(FILE).save('net.keras', include_optimizer=False); else adopt a smaller network"
)


def require_usable_size(path: Path, kind: FileKind) -> None:
    """Raise BadArtefact if a file is too large for its weights to be in one ONNX file, RunFailed for the memory.

    The size of a SavedModel is that of its folder, that of an ONNX file includes its external data. Raises OSError.
    """
    size = _size(path, kind)
    if size > LARGEST_NETWORK:
        hint = _WITHOUT_OPTIMIZER if kind.name in ("keras", "keras-h5") else _SMALLER
        raise too_large(path, size, hint)
    needed = needed_memory(size)
    if size > _SMALL and memory_of() and needed > (free := available_memory()):
        raise RunFailed(
            f"{path} has {size / _GIB:.1f} GiB; adopting it needs about {needed / _GIB:.0f} GiB of memory, and "
            f"{free / _GIB:.1f} GiB are free",
            hint="end other programs, or adopt it on a machine with more memory and copy the run",
            code="TP9508",
        )


def needed_memory(size: int) -> int:
    """Return the memory in bytes that adopting a file of this size needs."""
    return _MEMORY_FACTOR * size + _MEMORY_OF_PACKAGES


def too_large(path: Path, size: int, hint: str = _SMALLER, what: str = "") -> BadArtefact:
    """The error for a file whose weights don't fit into one ONNX file; `what` follows the size."""
    return BadArtefact(
        f"{path} has {size / _GIB:.2f} GiB{what}, and networks of at most 2 GiB can be adopted: one ONNX file, with "
        "all weights in float32, holds no more",
        hint=hint,
        code="TP9507",
    )


def _size(path: Path, kind: FileKind) -> int:
    if path.is_dir():
        return size_of_folder(path)
    size = path.stat().st_size
    if kind.name == "onnx" and size <= _SMALL_GRAPH:
        try:
            size += sum(file.bytes or 0 for file in external_files(path))
        except TrtPoetsError:
            return size  # the reader of ONNX files reports it
    return size
