"""Reads the tensors of PyTorch weight files (.pth) without PyTorch, and without running what is in them.

Such a file contains a pickle, a program for building Python objects that can run any code. It is not given to the
pickle module: its instructions are decoded by `pickletools`, which only decodes, and interpreted here. The interpreter
knows the instructions that PyTorch writes for a mapping of names to tensors, and builds numbers, text, tuples,
dictionaries and tensors, nothing else.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from trtpoets.core.errors import BadArtefact

ZIP_MAGIC = b"PK\x03\x04"
"""The first bytes of files that PyTorch 1.6 and later write."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_LARGEST_PICKLE = 16 << 20
"""Largest size in bytes of the pickle in a zip file. That of a network with 500 tensors has less than 100 KB."""

_STORAGES: Mapping[str, str] = {
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.DoubleStorage": "<f8",
    "torch.LongStorage": "<i8",
}
_REBUILD = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED = "collections.OrderedDict"

_Damage = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, EOFError, RecursionError)
"""Exceptions that damaged bytes cause in pickletools and in the interpreter."""


class _Name(str):
    """A global name in a pickle, such as torch.FloatStorage. It stays text: nothing is imported."""


class _Storage:
    """The numbers of one or several tensors; a legacy file contains them after the pickle that refers to them."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.count = count
        self.values = np.empty(0, self.dtype)

    def fill(self, content: bytes) -> None:
        """Use these bytes as numbers. Raises ValueError if they are not as many as the pickle declares."""
        if self.count < 0 or len(content) != self.count * self.dtype.itemsize:
            raise ValueError(f"the file declares {self.count} numbers, but does not contain them")
        self.values = np.frombuffer(content, self.dtype)


class _View:
    """A tensor before its numbers are read: offset, shape and strides in a storage."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """Return the tensor as an array. Raises ValueError if it exceeds its storage, or repeats numbers of it."""
        values = self.storage.values
        sizes = np.array(self.shape, object)
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides)) < 0 or self.offset + reach >= values.size:
            raise ValueError(f"a tensor of shape {self.shape} exceeds its storage")
        if sizes.prod() > values.size:
            raise ValueError(f"a tensor of shape {self.shape} has more numbers than its storage")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


class _Interpreter:
    """Interprets one pickle. `storages` maps keys to storages, and gets those that the pickle refers to."""

    def __init__(self, storages: dict[str, _Storage]) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], object]] = {
            "GLOBAL": lambda names: self._push(_Name(names.replace(" ", "."))),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_TUPLE": lambda _: self._push(()),
            "NONE": lambda _: self._push(None),
            "NEWTRUE": lambda _: self._push(True),
            "NEWFALSE": lambda _: self._push(False),
            "MARK": lambda _: self._marks.append(len(self._stack)),
            "TUPLE": lambda _: self._push(tuple(self._above_mark())),
            "TUPLE1": lambda _: self._push(tuple(self._last(1))),
            "TUPLE2": lambda _: self._push(tuple(self._last(2))),
            "TUPLE3": lambda _: self._push(tuple(self._last(3))),
            "APPEND": lambda _: self._append(self._last(1)),
            "APPENDS": lambda _: self._append(self._above_mark()),
            "SETITEM": lambda _: self._set_items(self._last(2)),
            "SETITEMS": lambda _: self._set_items(self._above_mark()),
            "BINPERSID": lambda _: self._refer(*self._last(1)),
            "REDUCE": lambda _: self._call(*self._last(2)),
            # The metadata of a state dict are set as an attribute. They are not needed.
            "BUILD": lambda _: self._last(1),
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "STOP": lambda _: None,
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._remember),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda number: self._push(self._memo[number])),
            **dict.fromkeys(
                ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), self._push
            ),
        }

    def result(self, stream: BinaryIO) -> Any:
        """Return the object of the pickle at the position of `stream`, which is then after the pickle."""
        for instruction, argument, _ in pickletools.genops(stream):
            step = self._steps.get(instruction.name)
            if step is None:
                raise BadArtefact(
                    f"the file contains the instruction {instruction.name}, which a file of plain tensors does not "
                    "need",
                    hint="download the file again, from its publisher",
                    code="TP2150",
                )
            step(argument)
        return self._stack.pop()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _last(self, count: int) -> list[Any]:
        return [self._stack.pop() for _ in range(count)][::-1]

    def _above_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _remember(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise TypeError("an item is appended to something that is not a list")
        target.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise TypeError("an item is set in something that is not a dictionary")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _refer(self, reference: Any) -> None:
        """Push the storage that a reference names: ("storage", type, key, device, count), and None in legacy files."""
        kind, storage_type, key, _, count, *view = reference
        dtype = _STORAGES.get(storage_type)
        if kind != "storage" or dtype is None or any(part is not None for part in view):
            raise BadArtefact(
                f"the file contains a reference of kind {str(kind)[:40]!r} to {str(storage_type)[:60]}; only plain "
                "storages of float and int64 tensors are supported",
                hint="save the tensors as a safetensors file",
                code="TP2151",
            )
        self._push(self._storages.setdefault(str(key), _Storage(dtype, int(count))))

    def _call(self, name: Any, arguments: Any) -> None:
        """Push the result of one of three functions: that of a tensor, of a parameter, of an empty OrderedDict."""
        if name == _REBUILD and isinstance(name, _Name) and isinstance(arguments[0], _Storage):
            self._push(_View(*arguments))
        elif name == _PARAMETER and isinstance(name, _Name) and isinstance(arguments[0], _View):
            self._push(arguments[0])
        elif name == _ORDERED and isinstance(name, _Name) and arguments == ():
            self._push({})
        else:
            raise BadArtefact(
                f"the file requests {str(name)[:80]}, which a file of plain tensors does not need",
                hint="do not open it with PyTorch; download the file again, from its publisher",
                code="TP2152",
            )


def read_tensors(content: bytes, most: int) -> dict[str, np.ndarray]:
    """Return the tensors of a PyTorch file, a flat mapping of names to tensors, as arrays of their own types.

    `most` is the largest number of bytes that they may have together. Raises BadArtefact for any other content.
    """
    try:
        views = _zip_views(content, most) if content.startswith(ZIP_MAGIC) else _legacy_views(content)
        if not all(isinstance(name, str) and isinstance(view, _View) for name, view in views.items()):
            raise ValueError("it contains more than a mapping of names to tensors")
        tensors = {name: view.array() for name, view in views.items()}
        total = sum(tensor.nbytes for tensor in tensors.values())
        if total > most:
            raise ValueError(f"its tensors have {total / 1e6:,.0f} MB, which is too large for this network")
    except (*_Damage, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise BadArtefact(
            f"it is not a PyTorch file of plain tensors: {type(error).__name__}: {error}",
            hint="download the file again, from its publisher",
            code="TP2153",
        ) from error
    return tensors


def _legacy_views(content: bytes) -> dict[str, _View]:
    """Read the format before PyTorch 1.6: five pickles, followed by the numbers of the storages."""
    stream = io.BytesIO(content)
    storages: dict[str, _Storage] = {}
    magic, protocol = (_Interpreter({}).result(stream) for _ in range(2))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise ValueError("it begins with another pickle")
    _Interpreter({}).result(stream)  # byte order and type sizes of the writer: always little-endian in practice
    views: dict[str, _View] = _Interpreter(storages).result(stream)
    for key in _Interpreter({}).result(stream):
        storage = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        storage.fill(stream.read(storage.count * storage.dtype.itemsize) if count == storage.count >= 0 else b"")
    return views


def _zip_views(content: bytes, most: int) -> dict[str, _View]:
    """Read the format since PyTorch 1.6: a zip archive of one pickle and a file for each storage, not compressed."""
    storages: dict[str, _Storage] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (folder,) = (name[: -len("data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl"))
        if archive.getinfo(f"{folder}data.pkl").file_size > _LARGEST_PICKLE:
            raise ValueError("its pickle is too large")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian")
        views: dict[str, _View] = _Interpreter(storages).result(io.BytesIO(archive.read(f"{folder}data.pkl")))
        unpacked = 0
        for key, storage in storages.items():
            unpacked += archive.getinfo(f"{folder}data/{key}").file_size
            if unpacked > most:
                raise ValueError(f"it unpacks to more than {most / 1e6:,.0f} MB")
            storage.fill(archive.read(f"{folder}data/{key}"))
    return views
