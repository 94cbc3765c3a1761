"""TfliteGraph reads, changes and writes the flatbuffer of a TFLite network."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.core.optional import needs

PIXELS = 255.0
"""The highest value of a pixel."""

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


class TfliteGraph:
    """A TFLite flatbuffer with one graph, as objects of TensorFlow's schema that can be changed."""

    def __init__(self, content: bytes) -> None:
        with needs("train", reason="reading TFLite's flatbuffers"):
            from tensorflow.lite.python import schema_py_generated as schema
        self.schema: Any = schema
        self.model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(content), 0))
        (self.graph,) = self.model.subgraphs
        self._kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}

    @property
    def content(self) -> bytes:
        """The flatbuffer. Equal vectors, such as the zero points of weights, are written once."""
        from flatbuffers import Builder

        class Sharing(Builder):  # type: ignore[misc]
            """Writes equal vectors once; a flatbuffer may refer to one from several places."""

            def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 - the name in flatbuffers
                key = (x.dtype.str, x.tobytes())
                if key not in written:
                    written[key] = super().CreateNumpyVector(x)
                return written[key]

        written: dict[tuple[str, bytes], int] = {}
        builder = Sharing(1 << 20)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    @property
    def operators(self) -> list[Any]:
        """The operators, in order of execution."""
        return list(self.graph.operators)

    @property
    def convolutions(self) -> list[Any]:
        """The operators CONV_2D and DEPTHWISE_CONV_2D that have a bias, in order of execution."""
        return [
            op for op in self.operators if self.kind(op) in _CONVOLUTIONS and len(op.inputs) == 3 and op.inputs[2] >= 0
        ]

    def kind(self, operator: Any) -> str:
        """Return the kind of an operator, such as CONV_2D."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return str(self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def constant(self, index: int) -> np.ndarray | None:
        """Return the values of a float32, int32 or int8 constant; None for other tensors."""
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        kinds = self.schema.TensorType
        types = {kinds.FLOAT32: np.float32, kinds.INT32: np.int32, kinds.INT8: np.int8}
        if data is None or len(data) == 0 or tensor.type not in types:
            return None
        return np.asarray(np.frombuffer(bytes(data), types[tensor.type]).reshape(tensor.shape))

    def set_constant(self, operator: Any, position: int, values: np.ndarray) -> None:
        """Replace the values of the constant that is input `position` of an operator, and of no other operator."""
        index = int(operator.inputs[position])
        tensor = self.graph.tensors[index]
        if sum(list(map(int, other.inputs)).count(index) for other in self.operators) > 1:
            tensor = self._add(tensor.name, tensor.type, tensor.shape, tensor.quantization)
            operator.inputs[position] = len(self.graph.tensors) - 1
        elif sum(other.buffer == tensor.buffer for other in self.graph.tensors) > 1:
            tensor.buffer = self._new_buffer()
        self.model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

    def add_constant(self, name: str, values: np.ndarray) -> int:
        """Add a float32 constant; return its index."""
        values = values.astype(np.float32)
        tensor = self._add(name, self.schema.TensorType.FLOAT32, values.shape, None)
        self.model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        return len(self.graph.tensors) - 1

    def code(self, kind: str) -> int:
        """Return the index of an operator kind in the file; it is added if it is missing."""
        builtin = getattr(self.schema.BuiltinOperator, kind)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def _new_buffer(self) -> int:
        self.model.buffers.append(self.schema.BufferT())
        return len(self.model.buffers) - 1

    def _add(self, name: Any, kind: int, shape: Any, quantization: Any) -> Any:
        tensor = self.schema.TensorT()
        tensor.name, tensor.type, tensor.shape = name, kind, list(shape)
        tensor.quantization, tensor.buffer, tensor.hasRank = quantization, self._new_buffer(), True
        self.graph.tensors.append(tensor)
        return tensor
