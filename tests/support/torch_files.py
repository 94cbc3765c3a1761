"""Writes files as PyTorch writes them, without PyTorch, and falsified ones."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

_PythonPickler: Any = vars(pickle)["_Pickler"]
"""The pickler in Python: its `save` can be overridden."""

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class Reference:
    """Pickles as a storage reference of PyTorch, or as whatever else is asked for."""

    def __init__(self, *pid: object) -> None:
        self.pid = pid


class Named:
    """Pickles as a call of module.name(*arguments)."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class Writer(_PythonPickler):
    """Writes what PyTorch writes, without PyTorch: names are put in as text."""

    def persistent_id(self, value: object) -> Any:
        return value.pid if isinstance(value, Reference) else None

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if isinstance(value, Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
            if value.arguments:
                super().save(value.arguments)
                self.write(pickle.REDUCE)
            return
        super().save(value, save_persistent_id)


def pickled(value: object) -> bytes:
    out = io.BytesIO()
    Writer(out, 2).dump(value)
    return out.getvalue()


def _state(
    tensors: Mapping[str, np.ndarray],
    view: tuple[object, ...],
    strides: tuple[int, ...] | None,
    offset: int,
    count: int | None,
) -> OrderedDict[str, Named]:
    values: OrderedDict[str, Named] = OrderedDict()
    for key, array in tensors.items():
        size = array.size if count is None else count
        storage = Reference("storage", Named("torch", _STORAGES[str(array.dtype)]), key, "cpu", size, *view)
        steps = strides or tuple(step // array.itemsize for step in array.strides)
        values[key] = Named("torch._utils", "_rebuild_tensor_v2", storage, offset, array.shape, steps, False, None)
    return values


def legacy_file(
    tensors: Mapping[str, np.ndarray],
    *,
    strides: tuple[int, ...] | None = None,
    offset: int = 0,
    count: int | None = None,
) -> bytes:
    """A file of tensors in PyTorch's format before 1.6; what is keyword-only falsifies it."""
    values = _state(tensors, (None,), strides, offset, count)
    out = io.BytesIO()
    parts: list[Any] = [MAGIC, PROTOCOL, {"little_endian": True}, values, list(tensors)]
    for part in parts:
        out.write(pickled(part))
    for array in tensors.values():
        out.write(struct.pack("<q", array.size) + array.ravel("K").tobytes())
    return out.getvalue()


def zip_file(
    tensors: Mapping[str, np.ndarray],
    *,
    compression: int = zipfile.ZIP_STORED,
    byteorder: bytes = b"little",
    strides: tuple[int, ...] | None = None,
    count: int | None = None,
) -> bytes:
    """A file of tensors in PyTorch's format since 1.6; what is keyword-only falsifies it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("net/data.pkl", pickled(_state(tensors, (), strides, 0, count)))
        archive.writestr("net/byteorder", byteorder)
        for key, array in tensors.items():
            archive.writestr(f"net/data/{key}", array.ravel("K").tobytes())
    return out.getvalue()
