"""Checks HDF5 weight files before their arrays are read, because a few kilobytes can declare terabytes."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from trtpoets.core.optional import needs

WEIGHTS_IN_KERAS = "model.weights.h5"
"""Name of the HDF5 file in a `.keras` archive."""


TOPS = 8_000_000
"""Upper limit for the parameters after the features, which `Backbone.parameters` does not include."""


def largest_weights(parameters: int) -> int:
    """Return the largest size in bytes, stored or unpacked, that is accepted for a network with so many parameters.

    This is four times the size of the parameters in float32: a whole model also contains two slots of its optimizer.
    """
    return 16 * parameters + (16 << 20)


def h5_in_keras(content: bytes, most: int) -> bytes:
    """Return the HDF5 file in a `.keras` archive. Raises ValueError if it has more than `most` bytes, BadZipFile."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            entry = archive.getinfo(WEIGHTS_IN_KERAS)
        except KeyError:
            raise ValueError(f"it does not contain {WEIGHTS_IN_KERAS}") from None
        with archive.open(entry) as stream:  # the declared size may be wrong, so the read is limited too
            content = stream.read(most + 1) if entry.file_size <= most else b""
    if entry.file_size > most or len(content) > most:
        size = max(entry.file_size, len(content))
        raise ValueError(f"its {WEIGHTS_IN_KERAS} unpacks to {_mb(size)}, {_allowed(most)}")
    return content


def require_small_arrays(h5: bytes, most: int) -> None:
    """Raise ValueError if the arrays of an HDF5 file have more than `most` bytes, or are in other files.

    An array of any size can be stored as its shape alone, and links can name any file of this machine.
    """
    with needs("train", reason="reading an HDF5 file"):
        import h5py

    total = 0
    seen: set[int] = set()
    with h5py.File(io.BytesIO(h5), "r") as file:
        pending: list[Any] = [file]
        while pending:
            group = pending.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.SoftLink):  # its target in this file is visited under its own name
                    continue
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"{name} is a link to another file")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    pending.append(item)
                elif isinstance(item, h5py.Dataset):
                    total += _bytes_of(item)
                    if total > most:
                        raise ValueError(f"its arrays have {_mb(total)} or more, {_allowed(most)}")


def _bytes_of(dataset: Any) -> int:
    """Return the bytes needed to read an array: its own, or those of a chunk, which may be larger."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"the data of {dataset.name} is in another file")
    chunk = 1
    for side in dataset.chunks or ():
        chunk *= int(side)
    return int(max(dataset.size or 0, chunk) * dataset.dtype.itemsize)


def _allowed(most: int) -> str:
    return f"but weights of this network have at most {_mb(most)}"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
