"""Arrays with a row per photo: in memory if they are small, otherwise in a temporary file that is mapped to memory.

A mapped array is an ordinary numpy array. The pages that were read or written stay in the memory of the process until
they are released, although the system could read them again from the file. So whoever goes through many rows takes them
in blocks (`blocks_of`) or calls `release` from time to time.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.own_files import PART
from trtpoets.core.storage import UNSUPPORTED, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN_MEMORY = 2**28
"""Arrays of up to so many bytes are kept in memory: features of 1,280 values of 52,000 photos."""

BLOCK_ROWS = 4096
"""Number of rows in a block: 20 MiB of 1,280 features."""


def empty_rows(count: int, width: int, dtype: type[np.generic], folder: Path) -> np.ndarray:
    """Return an uninitialised array (count, width). If it is large, it is mapped from a temporary file in `folder`.

    The file has no name, so that it disappears with the array, also if the process is killed. Raises StorageFailed if
    the disk has no room for it.
    """
    size = count * width * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty((count, width), dtype=dtype)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=f".rows{PART}", dir=folder) as stream:
            _allocate(stream.fileno(), size)
            mapped = mmap.mmap(stream.fileno(), size)
    return np.frombuffer(mapped, dtype=dtype).reshape(count, width)


def release(rows: np.ndarray) -> None:
    """Release the pages of a mapped array from the memory of this process. Its content remains."""
    mapped = _mapping_of(rows)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def is_mapped(rows: np.ndarray) -> bool:
    """Return whether an array is mapped from a file."""
    return _mapping_of(rows) is not None


def blocks_of(rows: np.ndarray, chosen: np.ndarray | None = None, size: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """Yield the rows, or those with the indices `chosen`, in blocks of `size` rows, and release each after its use."""
    count = len(rows) if chosen is None else len(chosen)
    for start in range(0, count, size):
        yield rows[start : start + size] if chosen is None else rows[chosen[start : start + size]]
        release(rows)


def _mapping_of(rows: np.ndarray) -> mmap.mmap | None:
    base: object = rows
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def _allocate(handle: int, size: int) -> None:
    """Reserve the room of a file, so that a full disk is an error here and not a signal when the array is written."""
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        os.ftruncate(handle, size)
