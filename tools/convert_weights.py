"""Converts a published PyTorch file to one of the embedded weight files. Not part of the product; run once.

    python -m tools.convert_weights SOURCE.pth OUT.safetensors

SOURCE is one of the two files in README.md, identified by its sha256; other files are rejected. Such a file is a
pickle, which could run any code, so it is read without PyTorch by an unpickler that accepts only four harmless names.

Names become those of the Keras network (`stem/kernel`), kernels get Keras's layout, and arrays with two or more
dimensions are rounded to float16. Vectors (biases, batch-norm statistics) stay float32: they are a fiftieth of the
numbers, and variances down to 1e-44 would underflow. Batch norms are not folded. The same source always gives the same
bytes.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save_file

from trtpoets.core.errors import BadArtefact, BadInput, TrtPoetsError
from trtpoets.core.files import atomic_file, sha256_of_file
from trtpoets.train.weights import EMBEDDED, HEAD_BIAS, HEAD_KERNEL

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


class _Storage:
    """The data of one or several tensors; in the file it follows the pickle that refers to it."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self.dtype, self.count = dtype, count
        self.values = np.empty(0, dtype)

    def fill(self, stream: BinaryIO) -> None:
        """Read the data. Raises ValueError if it is incomplete."""
        count = int.from_bytes(stream.read(8), "little")
        content = stream.read(count * self.dtype.itemsize) if count == self.count else b""
        if len(content) != self.count * self.dtype.itemsize:
            raise ValueError(f"the file declares {self.count} numbers, but does not contain them")
        self.values = np.frombuffer(content, self.dtype)


class _View:
    """A tensor before its data is read: offset, shape and strides in a storage."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """Return the tensor as an array. Raises ValueError if it exceeds its storage."""
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        values = self.storage.values
        if min((self.offset, *self.shape, *self.strides)) < 0 or self.offset + reach >= values.size:
            raise ValueError(f"a tensor of shape {self.shape} exceeds its storage")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


class _TensorUnpickler(pickle.Unpickler):
    """Accepts tensors, their storages and OrderedDict; raises BadArtefact for any other name in the file."""

    _KNOWN = {  # noqa: RUF012 - a constant of a private class
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _View,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise BadArtefact(
                f"the file requests {module}.{name}, which a file of plain tensors does not need",
                hint="do not open it; download the source again",
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None:
            raise BadArtefact(f"the file contains a reference of kind {kind!r}, only 'storage' is supported")
        return self.storages.setdefault(key, _Storage(dtype, count))


def read_tensors(stream: BinaryIO) -> dict[str, np.ndarray]:
    """Read a PyTorch file in the format before 1.6: a flat mapping of names to tensors.

    Raises BadArtefact for anything else, in particular for a pickle that names anything but tensors.
    """
    try:
        if _TensorUnpickler(stream).load() != _MAGIC or _TensorUnpickler(stream).load() != _PROTOCOL:
            raise BadArtefact("not a PyTorch file of the format before 1.6")
        _TensorUnpickler(stream).load()  # byte order and type sizes of the writer: always little-endian in practice
        reader = _TensorUnpickler(stream)
        views = reader.load()
        for key in _TensorUnpickler(stream).load():
            reader.storages[key].fill(stream)
        return {name: view.array() for name, view in views.items()}
    except TrtPoetsError:
        raise
    except Exception as error:  # a damaged pickle can raise any exception
        raise BadArtefact(f"not a PyTorch file of plain tensors: {type(error).__name__}: {error}") from error


def keras_name_of_lite0(name: str) -> str | None:
    """Convert `_blocks.3._bn1.running_var` to `block_03_depthwise_norm/moving_variance`; None for unused variables."""
    fixed = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "top", "_bn1": "top_norm"}
    inner = {
        "_expand_conv": "expand",
        "_bn0": "expand_norm",
        "_depthwise_conv": "depthwise",
        "_bn1": "depthwise_norm",
        "_project_conv": "project",
        "_bn2": "project_norm",
    }
    if name.startswith("_fc."):
        return HEAD_KERNEL if name.endswith("weight") else HEAD_BIAS
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        return _variable(f"block_{int(block[1]):02}_{inner[block[2]]}", block[3])
    layer, _, variable = name.partition(".")
    return _variable(fixed[layer], variable)


def keras_name_of_mobilenet_v2(name: str) -> str | None:
    """Convert `features.4.conv.1.1.running_var` to `block_03_depthwise_norm/moving_variance`; None if unused.

    The first block has no expansion, so its names have one part less; `features.1` is block 0, `features.18` the top.
    """
    if name.startswith("classifier.1."):
        return HEAD_KERNEL if name.endswith("weight") else HEAD_BIAS
    _, number, *parts = name.split(".")
    if number in ("0", "18"):
        layer = "stem" if number == "0" else "top"
        return _variable(layer + ("_norm" if parts[0] == "1" else ""), parts[1])
    stages = ("depthwise", "project") if number == "1" else ("expand", "depthwise", "project")
    *place, variable = parts[1:]
    if len(place) == 2:  # a convolution and its norm, in a pair
        stage, norm = stages[int(place[0])], place[1] == "1"
    else:  # the projection and its norm, side by side
        stage, norm = "project", int(place[0]) == len(stages)
    return _variable(f"block_{int(number) - 1:02}_{stage}" + ("_norm" if norm else ""), variable)


def _variable(layer: str, variable: str) -> str | None:
    if variable == "num_batches_tracked":
        return None
    if layer.endswith("_norm"):
        return f"{layer}/{_BATCH_NORM[variable]}"
    return f"{layer}/kernel"


_RULES: dict[str, Callable[[str], str | None]] = {
    "efficientnet_lite0": keras_name_of_lite0,
    "mobilenet_v2": keras_name_of_mobilenet_v2,
}


def keras_tensors(backbone: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a source file with Keras's names and layout, still float32."""
    renamed = {_RULES[backbone](name): value for name, value in tensors.items()}
    return {name: _laid_out(name, value) for name, value in renamed.items() if name is not None}


def _laid_out(name: str, value: np.ndarray) -> np.ndarray:
    """Transpose (out, in, h, w) to (h, w, in, out), and depthwise (channels, 1, h, w) to (h, w, channels, 1)."""
    if value.ndim == 4:
        value = value.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
    elif value.ndim == 2:
        value = value.T
    return np.ascontiguousarray(value)


def half_kernels(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round arrays with two or more dimensions to float16. Raises BadArtefact if that overflows."""
    with np.errstate(over="ignore"):  # checked below
        halved = {name: value.astype(np.float16) if value.ndim > 1 else value for name, value in tensors.items()}
    for name, value in halved.items():
        if not np.isfinite(value).all():
            raise BadArtefact(f"{name} does not fit float16")
    return halved


def convert(source: Path, out: Path) -> None:
    """Write `out` from a published file. Raises BadInput if `source` is not one of those in README.md."""
    digest = sha256_of_file(source)
    known = {entry.origin_sha256: name for name, entry in EMBEDDED.items()}
    if digest not in known:
        raise BadInput(
            f"{source} has the sha256 {digest}, which is not that of a published file",
            hint=f"known: {', '.join(f'{name} {sha}' for sha, name in known.items())}",
        )
    tensors = half_kernels(keras_tensors(known[digest], read_tensors(io.BytesIO(source.read_bytes()))))
    with atomic_file(out) as part:
        save_file(tensors, part)


def main() -> int:
    """Convert the file given on the command line."""

    if len(sys.argv) != 3:
        print("usage: python -m tools.convert_weights SOURCE.pth OUT.safetensors", file=sys.stderr)
        return 2
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except (TrtPoetsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{sys.argv[2]}: sha256 {sha256_of_file(Path(sys.argv[2]))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
