"""Reads the contents of a TFLite file without running it: tensors, operators, metadata and appended files."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.core.errors import BadArtefact, MissingDependency, TrtPoetsError, first_line
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.optional import tensorflow
from trtpoets.core.tflite_file import IDENTIFIER, tflite_bytes

_LARGEST_FILE = 1 << 20
"""Largest appended file in bytes whose text is read."""

_MAX_FILES = 100

GIVE_SOURCE = "give the file from which it was converted, such as a Keras file, a SavedModel or an ONNX file"
"""The hint of errors about networks whose TFLite file cannot be adopted, although another file of them may be."""

_DOWNLOAD = "download or copy the file again, or convert the network to TFLite again"

_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, EOFError, OSError)
"""Exceptions that reading a damaged zip archive may raise; NotImplementedError is a RuntimeError."""


@dataclass(frozen=True)
class Quantisation:
    """`(q - zero_point) * scale` is the value of q. Both have one element, or one for each index of `axis`."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    @property
    def single(self) -> tuple[float, int]:
        """Scale and zero point of the whole tensor. Raises ValueError if they differ along an axis."""
        return float(self.scale.item()), int(self.zero_point.item())


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network. `dtype` is numpy's name, or TFLite's in lower case if numpy has no such type.

    `dynamic` says which dimensions may change. `data` is the content of a constant, as it is stored.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dynamic: tuple[bool, ...]
    quantisation: Quantisation | None = None
    data: np.ndarray | None = None

    @property
    def integer_range(self) -> tuple[int, int] | None:
        """Smallest and largest stored integer of a quantised tensor, None if it is not quantised."""
        if self.quantisation is None or self.dtype not in ("int8", "uint8", "int16"):
            return None
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def real_data(self) -> np.ndarray | None:
        """The content of a constant as float32 if it is floating-point or quantised, else as it is stored."""
        if self.data is None or (self.quantisation is None and self.data.dtype.kind != "f"):
            return self.data
        if self.quantisation is None:
            return self.data.astype(np.float32)
        scale, zero = self.quantisation.scale, self.quantisation.zero_point
        if scale.size > 1:
            along = [1] * self.data.ndim
            along[self.quantisation.axis] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        values: np.ndarray = ((self.data.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
        return values


@dataclass(frozen=True)
class Operator:
    """An operator: TFLite's name, or "CUSTOM:" and the name of a custom one. An input of -1 is left out.

    `options` is the object of the schema, such as Conv2DOptionsT, or None.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None


@dataclass(frozen=True)
class TfliteContents:
    """The contents of a TFLite file. `content` are all its bytes, of which the interpreter loads the network.

    `operators` are those of the main graph in the order in which they run; `subgraphs` is the number of graphs.
    `signature` is the name of the first signature with the names that it gives to input and output. `metadata` are
    the entries of the file by name, `files` the texts of the files in the appended zip archive.
    """

    path: Path
    content: bytes = field(repr=False)
    description: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    signature: tuple[str, ...]
    metadata: Mapping[str, bytes]
    files: Mapping[str, str]

    def producer_of(self, tensor: int) -> Operator | None:
        """Return the operator that computes a tensor, None for inputs and constants."""
        return next((operator for operator in self.operators if tensor in operator.outputs), None)


def is_hybrid(contents: TfliteContents, operator: Operator) -> bool:
    """Whether an operator has weights of 8 bits and a float input, which the interpreter quantises when it runs."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return False
    source, weights = (contents.tensors[index] for index in operator.inputs[:2])
    return source.dtype == "float32" and weights.dtype == "int8" and weights.quantisation is not None


def read_contents(path: Path) -> TfliteContents:
    """Read a TFLite file of any program.

    Raises MissingArtefact if it does not exist, BadArtefact if it is another kind of file or damaged, and
    MissingDependency if neither ai-edge-litert nor TensorFlow is installed.
    """
    content = tflite_bytes(path)
    if content[4:8] != IDENTIFIER:
        require_kind(path, expected="a TFLite file")
        raise BadArtefact(f"{path} is not a TFLite file: it has no TFL3 identifier", hint=_DOWNLOAD, code="TP9303")
    schema = _schema()
    try:
        return _contents(path, content, schema)
    except TrtPoetsError:
        raise
    except Exception as error:
        raise BadArtefact(
            f"{path} is damaged: the description of its network can't be read ({first_line(error)})",
            hint=_DOWNLOAD,
            code="TP9304",
        ) from error


def _schema() -> Any:
    """The module of TFLite's schema, from ai-edge-litert or else from TensorFlow. Raises MissingDependency."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as missing:
        try:
            tensorflow()
            from tensorflow.lite.python import schema_py_generated as schema
        except (MissingDependency, ImportError):
            raise MissingDependency(
                f"reading TFLite files needs ai-edge-litert, but it can't be imported: {missing}",
                hint="pip install 'trtpoets[tflite]'",
                code="TP9305",
            ) from missing
    return schema


def _contents(path: Path, content: bytes, schema: Any) -> TfliteContents:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    types = {number: name for name, number in vars(schema.TensorType).items() if not name.startswith("_")}
    operators = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    _check_numbers(graph)
    buffers = [_buffer(buffer, content) for buffer in model.buffers]
    codes = [_operator_name(code, operators) for code in model.operatorCodes]
    return TfliteContents(
        path,
        content,
        _text(model.description),
        tuple(_tensor(tensor, buffers, types) for tensor in graph.tensors),
        tuple(
            Operator(
                codes[operator.opcodeIndex],
                _numbers(operator.inputs),
                _numbers(operator.outputs),
                operator.builtinOptions,
            )
            for operator in graph.operators
        ),
        _numbers(graph.inputs),
        _numbers(graph.outputs),
        len(model.subgraphs),
        _signature(model),
        {_text(entry.name): buffers[entry.buffer] for entry in model.metadata or ()},
        _appended_files(content),
    )


def _check_numbers(graph: Any) -> None:
    """Raise ValueError if an operator or the graph refers to a tensor that does not exist."""
    count = len(graph.tensors)
    for numbers in (graph.inputs, graph.outputs, *(operator.outputs for operator in graph.operators)):
        if any(not 0 <= number < count for number in _numbers(numbers)):
            raise ValueError(f"there is no tensor with one of the numbers {_numbers(numbers)}")
    for operator in graph.operators:
        if any(not -1 <= number < count for number in _numbers(operator.inputs)):
            raise ValueError(f"there is no tensor with one of the numbers {_numbers(operator.inputs)}")


def _operator_name(code: Any, names: Mapping[int, str]) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = names.get(number, f"operator {number}")
    return f"CUSTOM:{_text(code.customCode)}" if name == "CUSTOM" else name


def _tensor(tensor: Any, buffers: list[bytes], types: Mapping[int, str]) -> Tensor:
    dtype = types.get(tensor.type, f"type {tensor.type}").lower()
    shape = _numbers(tensor.shape)
    signature = _numbers(tensor.shapeSignature) or shape
    quantisation = None
    stored = tensor.quantization
    if stored is not None and stored.scale is not None and len(stored.scale):
        scale = np.array(stored.scale, np.float32)
        zero = np.array(stored.zeroPoint if stored.zeroPoint is not None else [0], np.int64)
        if scale.size > 1 and shape[stored.quantizedDimension] != scale.size:
            raise ValueError(f"a tensor {shape} has {scale.size} scales")
        quantisation = Quantisation(scale, np.broadcast_to(zero, scale.shape), int(stored.quantizedDimension))
    data = None
    if buffers[tensor.buffer] and dtype in _NUMPY_TYPES and tensor.sparsity is None:
        data = np.frombuffer(buffers[tensor.buffer], np.dtype(dtype).newbyteorder("<")).reshape(shape)
    return Tensor(_text(tensor.name), dtype, shape, tuple(size < 0 for size in signature), quantisation, data)


_NUMPY_TYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")


def _buffer(buffer: Any, content: bytes) -> bytes:
    if buffer.offset > 1:  # of large files the data lies behind the flatbuffer
        return content[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else np.asarray(buffer.data, np.uint8).tobytes()


def _signature(model: Any) -> tuple[str, ...]:
    for signature in model.signatureDefs or ():
        names = [tensor.name for tensor in (*(signature.inputs or ()), *(signature.outputs or ()))]
        return tuple(_text(name) for name in (signature.signatureKey, *names))
    return ()


def _appended_files(content: bytes) -> dict[str, str]:
    """The text files of the zip archive behind the network; none if there is no archive or it is damaged."""
    files: dict[str, str] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist()[:_MAX_FILES]:
                if entry.file_size <= _LARGEST_FILE and not entry.is_dir():
                    files[entry.filename] = archive.read(entry).decode("utf-8", "replace")
    except _ZIP_DAMAGE:
        pass
    return files


def _numbers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
