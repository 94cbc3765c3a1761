"""Writes small TFLite files operator by operator with the schema of ai-edge-litert, without TensorFlow."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_OLD = (
    *(
        "RESHAPE",
        "SQUARE",
        "RELU_N1_TO_1",
        "ELU",
        "NEG",
        "FLOOR",
        "CEIL",
        "HARD_SWISH",
        "PRELU",
        "EXPAND_DIMS",
        "SQUEEZE",
    ),
    "LOCAL_RESPONSE_NORMALIZATION",
)
"""Operators of which TFLite has one version only."""


@dataclass
class TfliteFile:
    """A TFLite network in the making: `tensor` and `constant` return numbers of tensors, `operator` adds one."""

    description: str = "made by a test"
    metadata: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "float32",
        scale: float | np.ndarray | None = None,
        zero_point: int = 0,
        *,
        axis: int = 0,
        signature: tuple[int, ...] | None = None,
    ) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = getattr(self.schema.TensorType, dtype.upper())
        if signature:
            tensor.shapeSignature = list(signature)
        if scale is not None:
            quantisation = self.schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            quantisation.scale, quantisation.zeroPoint = scales, np.full(len(scales), zero_point, np.int64)
            quantisation.quantizedDimension = axis
            tensor.quantization = quantisation
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, array: np.ndarray, scale: Any = None, zero_point: int = 0, *, axis: int = 0) -> int:
        number = self.tensor(
            f"constant_{len(self._graph.tensors)}", array.shape, array.dtype.name, scale, zero_point, axis=axis
        )
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        self._graph.tensors[number].buffer = len(self._model.buffers) - 1
        return number

    def operator(
        self,
        kind: str,
        inputs: list[int],
        outputs: list[int],
        options: str = "",
        custom: str = "",
        *,
        at_start: bool = False,
        **values: Any,
    ) -> None:
        """`options` is the name of the table of options, such as "Conv2DOptions", and `values` are its fields."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 5 if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") else 1 if kind in _OLD else 2
        code.customCode = custom or None
        self._model.operatorCodes.append(code)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")()
            for name, value in values.items():
                assert hasattr(operator.builtinOptions, name)
                setattr(operator.builtinOptions, name, value)
        self._graph.operators.insert(0 if at_start else len(self._graph.operators), operator)

    def write(self, path: Path) -> Path:
        import flatbuffers

        self._model.description = self.description
        self._graph.inputs, self._graph.outputs = self.inputs, self.outputs
        self._model.metadata = []
        for name, data in self.metadata.items():
            buffer, entry = self.schema.BufferT(), self.schema.MetadataT()
            buffer.data = np.frombuffer(data, np.uint8)
            self._model.buffers.append(buffer)
            entry.name, entry.buffer = name, len(self._model.buffers) - 1
            self._model.metadata.append(entry)
        builder = flatbuffers.Builder(4096)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        content = bytes(builder.Output())
        if self.files:
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as written:
                for name, text in self.files.items():
                    written.writestr(name, text)
            content += archive.getvalue()
        path.write_bytes(content)
        return path


def tflite_classifier(
    *,
    shape: tuple[int, ...] = (1, 8, 8, 3),
    dtype: str = "float32",
    scale: float = 1 / 255,
    zero_point: int = 0,
    classes: int = 4,
    last: str = "SOFTMAX",
    signature: tuple[int, ...] | None = None,
    seed: int = 0,
) -> TfliteFile:
    """A convolution with Relu6, a mean, a dense layer and the operator `last` ("" for logits).

    `dtype` is that of input, output and everything between; `scale` and `zero_point` are those of an integer input.
    """
    file = TfliteFile()
    random = np.random.default_rng(seed)
    quantised = dtype != "float32"
    low = 0 if dtype == "uint8" else -128
    batch, height, width, channels = shape

    def activation(name: str, size: tuple[int, ...], largest: float, zero: int = low) -> int:
        return file.tensor(name, size, dtype, largest / 255 if quantised else None, zero)

    def weights(size: tuple[int, ...], source: float) -> tuple[int, int]:
        """Weights and bias for an input of this scale."""
        real = random.normal(0, np.prod(size[1:]) ** -0.5, size).astype(np.float32)
        bias = random.normal(0, 0.1, size[0]).astype(np.float32)
        if not quantised:
            return file.constant(real), file.constant(bias)
        if dtype == "uint8":
            step = np.array([np.max(np.abs(real)) / 127], np.float32)
            stored, zero = (np.rint(real / step) + 128).astype(np.uint8), 128
        else:
            step = (abs(real).reshape(size[0], -1).max(axis=1) / 127).astype(np.float32)
            stored, zero = np.rint(real / step.reshape(-1, *[1] * (len(size) - 1))).astype(np.int8), 0
        return (
            file.constant(stored, step, zero),
            file.constant(np.rint(bias / (step * source)).astype(np.int32), step * np.float32(source)),
        )

    photo = file.tensor("photo", shape, dtype, scale if quantised else None, zero_point, signature=signature)
    convolved = activation("convolved", (batch, height // 2, width // 2, 6), 6.0)
    kernel, bias = weights((6, 3, 3, channels), scale)
    file.operator(
        "CONV_2D",
        [photo, kernel, bias],
        [convolved],
        "Conv2DOptions",
        padding=0,
        strideH=2,
        strideW=2,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=3,
    )
    mean = activation("mean", (batch, 6), 6.0)
    axes = file.constant(np.array([1, 2], np.int32))
    file.operator("MEAN", [convolved, axes], [mean], "ReducerOptions", keepDims=False)
    logits = activation("logits", (batch, classes), 8.0, low + 128)
    kernel, bias = weights((classes, 6), 6 / 255)
    file.operator("FULLY_CONNECTED", [mean, kernel, bias], [logits], "FullyConnectedOptions")
    answers = logits
    if last:
        answers = file.tensor("scores", (batch, classes), dtype, 1 / 256 if quantised else None, low)
        if last == "SOFTMAX":
            file.operator(last, [logits], [answers], "SoftmaxOptions", beta=1.0)
        else:
            file.operator(last, [logits], [answers])
    file.inputs, file.outputs = [photo], [answers]
    return file
