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


_COPIED_ROWS = 256
"""Pages are released after so many scattered rows: the system maps hundreds of KiB around each."""


class ChosenRows:
    """Some rows of an array, without a copy of them: `rows[chosen]` for those who index it."""

    def __init__(self, rows: np.ndarray, chosen: np.ndarray) -> None:
        """`rows` (N, D), `chosen` int (n,)."""
        self.rows, self.chosen = rows, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Return a copy of some rows."""
        return _copied(self.rows, self.chosen[index])

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.rows.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and their shape."""
        return (len(self.chosen), *self.rows.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes that a copy would take."""
        return len(self.chosen) * self.rows.itemsize * int(np.prod(self.rows.shape[1:]))


RowArray = np.ndarray | ChosenRows
"""Rows that are read in blocks, or by their indices."""


def rows_at(rows: np.ndarray, chosen: np.ndarray) -> RowArray:
    """Return the rows with the indices `chosen`: a copy, or a reference if the array is mapped from a file."""
    return ChosenRows(rows, chosen) if is_mapped(rows) else rows[chosen]


def take_rows(rows: RowArray, chosen: np.ndarray, out: np.ndarray) -> None:
    """Copy the rows with the indices `chosen`, which must exist, to `out`."""
    source, places = (rows.rows, rows.chosen[chosen]) if isinstance(rows, ChosenRows) else (rows, chosen)
    np.take(source, places, axis=0, out=out, mode="clip")  # "raise" would copy `out`


def release(rows: RowArray) -> None:
    """Release the pages of a mapped array from the memory of this process. Its content remains."""
    mapped = _mapping_of(rows.rows if isinstance(rows, ChosenRows) else rows)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def is_mapped(rows: np.ndarray) -> bool:
    """Return whether an array is mapped from a file."""
    return _mapping_of(rows) is not None


def blocks_of(rows: RowArray, chosen: np.ndarray | None = None, size: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """Yield the rows, or those with the indices `chosen`, in blocks of `size` rows, and release each after its use."""
    count = len(rows) if chosen is None else len(chosen)
    for start in range(0, count, size):
        if chosen is None:
            yield rows[start : start + size]
        else:
            block = chosen[start : start + size]
            yield rows[block] if isinstance(rows, ChosenRows) else _copied(rows, block)
        release(rows)


def _copied(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return a copy of the rows with the indices `chosen`."""
    if not is_mapped(rows):
        return np.asarray(rows[chosen])
    copy = np.empty((len(chosen), *rows.shape[1:]), rows.dtype)
    for start in range(0, len(chosen), _COPIED_ROWS):
        copy[start : start + _COPIED_ROWS] = rows[chosen[start : start + _COPIED_ROWS]]
        release(rows)
    return copy


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
