"""HDF5 files of weights, looked through before their numbers are read: a few kilobytes can stand for terabytes."""

from __future__ import annotations

import io
import zipfile
from typing import Any

WEIGHTS_IN_KERAS = "model.weights.h5"
"""The HDF5 file in a `.keras` archive."""


TOPS = 8_000_000
"""More numbers than any network here has in the layers behind its features, which `Backbone.parameters` leaves out."""


def largest_weights(parameters: int) -> int:
    """Bytes that a weight file of a network with so many numbers may have, in the file and unpacked.

    Four times as many as the numbers need as float32: a whole model is saved with its optimizer's two slots.
    """
    return 16 * parameters + (16 << 20)


def h5_in_keras(content: bytes, most: int) -> bytes:
    """The HDF5 file in a `.keras` archive. Raises ValueError where it would have more than `most` bytes, BadZipFile."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            entry = archive.getinfo(WEIGHTS_IN_KERAS)
        except KeyError:
            raise ValueError(f"it holds no {WEIGHTS_IN_KERAS}") from None
        with archive.open(entry) as stream:  # what is declared may be wrong: what comes out is counted
            found = stream.read(most + 1) if entry.file_size <= most else b""
    if entry.file_size > most or len(found) > most:
        raise ValueError(f"its {WEIGHTS_IN_KERAS} unpacks to {_mb(max(entry.file_size, len(found)))}, {_allowed(most)}")
    return found


def require_modest(h5: bytes, most: int) -> None:
    """Raise ValueError where the arrays of an HDF5 file have more than `most` bytes, or lie in other files.

    An array of any shape may be stored as nothing but its shape, and links may name any file of this machine.
    """
    import h5py

    total = 0
    seen: set[int] = set()
    with h5py.File(io.BytesIO(h5), "r") as file:
        pending: list[Any] = [file]
        while pending:
            group = pending.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.SoftLink):  # to what is in this file, where it is met by its own name
                    continue
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"{name} is a link to another file")
                found = group[name]
                place = h5py.h5o.get_info(found.id).addr
                if place in seen:
                    continue
                seen.add(place)
                if isinstance(found, h5py.Group):
                    pending.append(found)
                elif isinstance(found, h5py.Dataset):
                    total += _bytes_of(found)
                    if total > most:
                        raise ValueError(f"its arrays have {_mb(total)} or more, {_allowed(most)}")


def _bytes_of(dataset: Any) -> int:
    """Bytes that reading an array takes: its own, or those of one chunk, which may be larger."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"the numbers of {dataset.name} are in another file")
    chunk = 1
    for side in dataset.chunks or ():
        chunk *= int(side)
    return int(max(dataset.size or 0, chunk) * dataset.dtype.itemsize)


def _allowed(most: int) -> str:
    return f"and weights of this network have at most {_mb(most)}"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
