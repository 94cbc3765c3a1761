"""Rewrites a graph with Q/DQ pairs to integer operators that compute what TensorRT computes, to judge it on a CPU.

TensorRT quantises by clamp(round half to even(x / scale), -128, 127) and adds products of INT8 numbers in 32 bits;
bias, activation and residual addition follow in float32 (TensorRT developer guide, "Working with Quantized Types").
Here every activation is a uint8 tensor with the zero point 128, which represents the same numbers -128 to 127. ONNX
Runtime multiplies uint8 by uint8 in at least 16 bits and adds in 32 bits on every processor. Where it multiplies uint8
by int8 exactly too (`exact_products`), weights are int8, which takes half the time. Integer sums are exact, so they
depend neither on the processor nor on the number of threads, the batch or the optimisations of a session.

Two deviations from TensorRT remain. A convolution whose output is quantised again right after it, or after Relu or
Clip, becomes a QLinearConv, whose bias is rounded to the unit of the sum; `_LARGEST_SHIFT` and `_SHIFT_RMS` bound what
that changes, and other layers keep their bias in float32. A float32 bias everywhere halves the speed, and brings the
scores hardly closer to those of the Q/DQ graph, whose own sessions differ from each other nearly as much: ties are
rounded otherwise, and that grows from layer to layer. Float32 operations after a sum may be rounded once more than in
TensorRT, which does not document whether it fuses multiplication and addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.graph_view import MATMULS, GraphView, attribute, channel_axis, clip_bounds
from trtpoets.convert.int8.exact_products import signed_weights_are_exact
from trtpoets.convert.int8.qdq import along_axis
from trtpoets.core.onnx_file import FORM_KEY, metadata_of

if TYPE_CHECKING:
    from onnx import TensorProto

_ZERO = 128
"""The zero point of every uint8 tensor: -128 becomes 0, 127 becomes 255."""

_LARGEST_SHIFT, _SHIFT_RMS = 1 / 4, 1 / 64
"""How much the rounded bias of a QLinearConv may shift its output, in steps of the output's scale: a single channel,
and the root mean square of all channels. Rounding the output to INT8 has a root mean square of 0.29 steps."""

_CONTRIB = "com.microsoft"
"""The domain of the operators that only ONNX Runtime has."""

_SUM_LIMIT = 2**31
"""The sum of a layer's products and its bias stay below this magnitude."""


@dataclass(frozen=True)
class _Weights:
    """Weights behind a Q/DQ pair: `integers` int16 of -128 to 127, and the float32 `scales` along `axis`."""

    integers: np.ndarray
    scales: np.ndarray
    axis: int

    @property
    def floats(self) -> np.ndarray:
        """The values that the pair gives, float32."""
        return np.asarray(self.integers * along_axis(self.scales, self.axis, self.integers.ndim), np.float32)


@dataclass(frozen=True)
class _Requantised:
    """What follows a convolution: the nodes `passed`, the quantised tensor, its scale, and the bounds 0..255 that an
    activation leaves."""

    passed: tuple[Any, ...]
    tensor: str
    scale: np.float32
    low: int
    high: int


def integer_reference(model: Any) -> Any:
    """Return a ModelProto that computes a network with symmetric INT8 Q/DQ pairs in integers.

    A network without pairs is returned as it is, and so is the CPU form, which ONNX Runtime runs in integers itself.

    Convolutions and products with constant weights between pairs become integer operators. Pairs around other
    operators, as ConvTranspose, keep their rounding, and their arithmetic is float32. So that float layers do not
    depend on the session either, their kernels are fixed: convolutions that stay in float have weights that could be
    overridden, which ONNX Runtime does not reorder; the last layer is computed in float64. Other fusions of float
    operators (GELU, LayerNorm) may still change the last bits of what stays in float.

    The names of inputs, outputs and float tensors are kept; quantised tensors get new names.
    """
    view = GraphView(model)
    if FORM_KEY in metadata_of(model) or not any(node.op_type == "DequantizeLinear" for node in view.nodes):
        return model
    return _Rewriter(view).rewritten(model)


class _Rewriter:
    """Collects the nodes and constants of the integer graph."""

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self.nodes: list[Any] = []
        self.constants: dict[str, TensorProto] = {}
        self.overridable: dict[str, TensorProto] = {}
        self.weights: dict[str, _Weights] = {}
        self.quantised: dict[str, tuple[str, np.float32]] = {}
        self.done: set[str] = set()
        self.zero = self._constant("int8_reference.zero", np.uint8(_ZERO))
        self.signed = signed_weights_are_exact()
        zero = np.int8(0) if self.signed else np.uint8(_ZERO)
        self.zero_of_weights = self._constant("int8_reference.zero_of_weights", zero)

    def rewritten(self, model: Any) -> Any:
        for node in self.view.nodes:
            self._find_pair(node)
        for node in self.view.nodes:
            if node.name not in self.done or not node.name:
                self._rewrite(node)
        copy = type(model)()
        copy.CopyFrom(model)
        del copy.graph.node[:], copy.graph.initializer[:], copy.graph.value_info[:]
        copy.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        own = {name: tensor for name, tensor in self.view.constants.items() if name not in self.constants}
        copy.graph.initializer.extend(tensor for name, tensor in {**own, **self.constants}.items() if name in read)
        listed = {value.name for value in copy.graph.input}
        copy.graph.input.extend(value for name, value in self.overridable.items() if name not in listed)
        if not any(opset.domain == _CONTRIB for opset in copy.opset_import):
            copy.opset_import.add(domain=_CONTRIB, version=1)
        return copy

    # -- pairs

    def _find_pair(self, node: Any) -> None:
        """Record what a DequantizeLinear node gives: weights, or a quantised activation."""
        if node.op_type != "DequantizeLinear" or node.input[1] not in self.view.constants:
            return
        scale, zeros = self.view.array(node.input[1]), [name for name in node.input[2:3] if name]
        if any(name not in self.view.constants or self.view.array(name).any() for name in zeros):
            return
        source = self.view.producer.get(node.input[0])
        axis = int(attribute(node, "axis", 1))
        if node.input[0] in self.view.constants:
            stored = self.view.array(node.input[0])
            if stored.dtype == np.int8:
                self.weights[node.output[0]] = _Weights(stored.astype(np.int16), scale, axis)
        elif source is None or not self._is_pair(source, node):
            return
        elif source.input[0] in self.view.constants:
            exact = self.view.array(source.input[0])
            integers = np.clip(np.rint(exact / along_axis(scale, axis, exact.ndim)), -128, 127).astype(np.int16)
            self.weights[node.output[0]] = _Weights(integers, scale, axis)
        elif scale.size == 1:
            self.quantised[node.output[0]] = (f"{source.output[0]}.uint8", np.float32(scale.reshape(())))

    def _is_pair(self, quantise: Any, dequantise: Any) -> bool:
        """Return whether two nodes are a Q/DQ pair of int8 with the same scale."""
        same = quantise.op_type == "QuantizeLinear" and list(quantise.input[1:]) == list(dequantise.input[1:])
        zero = dequantise.input[2] if len(dequantise.input) > 2 else ""
        return same and bool(zero) and self.view.array(zero).dtype == np.int8

    def _is_activation_pair(self, node: Any) -> bool:
        """Return whether a QuantizeLinear node quantises an activation that only known DequantizeLinear nodes read."""
        readers = self.view.readers.get(node.output[0], [])
        return all(reader.node.output[0] in self.quantised for reader in readers) and bool(readers)

    # -- nodes

    def _rewrite(self, node: Any) -> None:
        if node.op_type == "QuantizeLinear" and self._is_activation_pair(node):
            inputs = [node.input[0], node.input[1], self.zero]
            self._node("QuantizeLinear", inputs, f"{node.output[0]}.uint8", node.name)
        elif node.op_type == "QuantizeLinear" and self._is_pair_of_weights(node):
            pass
        elif node.op_type == "DequantizeLinear" and node.output[0] in self.quantised:
            self._dequantise(node)
        elif node.op_type == "DequantizeLinear" and node.output[0] in self.weights:
            if any(not self._is_integer(reader.node) for reader in self.view.readers.get(node.output[0], [])):
                self._constant(node.output[0], self.weights[node.output[0]].floats)
        elif self._is_integer(node):
            (self._convolution if node.op_type == "Conv" else self._product)(node)
        elif node.op_type == "GlobalAveragePool" and self._pooled_sum(node):
            pass
        elif node.op_type == "Conv":
            self._float_convolution(node)
        elif node.op_type in MATMULS and self._is_last(node):
            self._in_double(node)
        else:
            self.nodes.append(node)

    def _is_pair_of_weights(self, node: Any) -> bool:
        readers = self.view.readers.get(node.output[0], [])
        return bool(readers) and all(reader.node.output[0] in self.weights for reader in readers)

    def _dequantise(self, node: Any) -> None:
        """Add the float values of a quantised tensor for the operators that are not integer operators themselves."""
        readers = [reader.node for reader in self.view.readers.get(node.output[0], [])]
        rest = [reader for reader in readers if not self._is_integer(reader)]
        if not rest and node.output[0] not in self.view.outputs:
            return
        source, scale = self.quantised[node.output[0]]
        if all(self._moves_values(reader) or len(self._unquantised(reader)) > 0 for reader in rest):
            self._node("DequantizeLinear", [source, node.input[1], self.zero], node.output[0], node.name)
            return
        # A session could fuse DequantizeLinear, the operator and QuantizeLinear to an operator that rounds differently.
        self._node("Cast", [source], f"{node.name}.float", f"{node.name}.float", to=1)
        zero = self._constant("int8_reference.float_zero", np.float32(_ZERO))
        self._node("Sub", [f"{node.name}.float", zero], f"{node.name}.centred", f"{node.name}.centred")
        factor = self._constant(f"{node.name}.factor", scale)
        self._node("Mul", [f"{node.name}.centred", factor], node.output[0], node.name)

    def _unquantised(self, node: Any) -> list[str]:
        """Return the computed inputs of a node that are not quantised."""
        return [name for name in self.view.activations(node) if name not in {*self.quantised, *self.weights}]

    @staticmethod
    def _moves_values(node: Any) -> bool:
        return node.op_type in (
            "MaxPool",
            "GlobalMaxPool",
            "Concat",
            "Split",
            "Slice",
            "Reshape",
            "Transpose",
            "Gather",
        )

    def _is_integer(self, node: Any) -> bool:
        """Return whether a node becomes an integer operator: a convolution or product of two quantised inputs."""
        if node.op_type not in ("Conv", *MATMULS) or len(node.input) < 2:
            return False
        weights = self.weights.get(node.input[1])
        if weights is None or node.input[0] not in self.quantised:
            return False
        axis, rank = channel_axis(node, weights.integers.ndim), weights.integers.ndim
        per_channel = weights.scales.size == 1 or weights.axis % rank == axis
        bias = list(node.input[2:3])
        if not per_channel or any(name and name not in self.view.constants for name in bias):
            return False
        if not self._fits(weights, weights.integers.shape[axis]):
            return False
        if node.op_type == "Gemm":
            plain = attribute(node, "alpha", 1.0) == 1.0 and not attribute(node, "transA", 0)
            per_column = all(self.view.array(name).size in (1, weights.integers.shape[axis]) for name in bias if name)
            return bool(plain and per_column and attribute(node, "beta", 1.0) == 1.0)
        return rank == (4 if node.op_type == "Conv" else 2)

    @staticmethod
    def _fits(weights: _Weights, channels: int) -> bool:
        """Return whether no sum of products with these weights can reach 2^31, whatever the input."""
        return weights.integers.size // max(channels, 1) * 128 * 128 < _SUM_LIMIT

    # -- integer operators

    def _convolution(self, node: Any) -> None:
        weights = self.weights[node.input[1]]
        source, scale = self.quantised[node.input[0]]
        channels = weights.integers.shape[0]
        scales = np.broadcast_to(weights.scales.reshape(-1), channels).astype(np.float32)
        bias = (
            self.view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(channels, np.float32)
        )
        after = self._requantised(node)
        exact_units = bias / (np.float64(scale) * scales.astype(np.float64))
        units = np.rint(exact_units)
        sums = np.abs(weights.integers.astype(np.int64)).reshape(channels, -1).sum(axis=1) * 128
        if after is not None and (np.abs(units) + sums < _SUM_LIMIT).all():
            shifts = (units - exact_units) * (scale * scales / after.scale)
            if np.abs(shifts).max() <= _LARGEST_SHIFT and np.sqrt(np.square(shifts).mean()) <= _SHIFT_RMS:
                self._quantised_convolution(node, scales, units.astype(np.int32), after)
                return
        pointwise = set(weights.integers.shape[2:]) == {1} and self._is_dense(node)
        name = node.name
        if pointwise:
            self._node("Transpose", [source], f"{name}.rows", f"{name}.rows", perm=[0, 2, 3, 1])
            rows = (f"{name}.rows", scale)
            self._matrix_product(name, rows, weights.integers[:, :, 0, 0].T, scales, bias, f"{name}.scaled")
            self._node("Transpose", [f"{name}.scaled"], node.output[0], name, perm=[0, 3, 1, 2])
            return
        kernel = self._constant(f"{name}.kernel", _shifted(weights.integers))
        inputs = [source, kernel, self.zero, self.zero]
        self._node("ConvInteger", inputs, f"{name}.sums", f"{name}.sums", **_attributes(node))
        shape = (-1, 1, 1)
        self._epilogue(name, f"{name}.sums", (scale * scales).reshape(shape), bias.reshape(shape), node.output[0])

    def _quantised_convolution(self, node: Any, scales: np.ndarray, units: np.ndarray, after: _Requantised) -> None:
        """Add a QLinearConv, and a Clip of its integers where an activation bounds them."""
        name, weights = node.name, self.weights[node.input[1]]
        source, scale = self.quantised[node.input[0]]
        inputs = [
            *(source, self._constant(f"{name}.input_scale", scale), self.zero),
            self._constant(f"{name}.kernel", self._stored(weights.integers)),
            self._constant(f"{name}.scales", scales),
            self._constant(f"{name}.zeros", self._stored(np.zeros(len(scales), np.int16))),
            *(self._constant(f"{name}.output_scale", after.scale), self.zero, self._constant(f"{name}.units", units)),
        ]
        target = f"{after.tensor}.uint8"
        bounded = (after.low, after.high) != (0, 255)
        self._node("QLinearConv", inputs, f"{name}.requantised" if bounded else target, name, **_attributes(node))
        if bounded:
            low, high = (
                self._constant(f"int8_reference.{bound}", np.uint8(bound)) for bound in (after.low, after.high)
            )
            self._node("Clip", [f"{name}.requantised", low, high], target, f"{name}.bounded")
        self.done.update(passed.name for passed in after.passed)

    def _requantised(self, node: Any) -> _Requantised | None:
        """Return what quantises the output of a convolution again; None where its float values are needed."""
        tensor = node.output[0]
        passed: list[Any] = []
        low, high = -np.inf, np.inf
        while True:
            readers = self.view.readers.get(tensor, [])
            if len(readers) != 1 or tensor in self.view.outputs:
                return None
            reader = readers[0].node
            if reader.op_type == "QuantizeLinear":
                break
            bounds = self._bounds(reader)
            if bounds is None or passed:
                return None
            (low, high), tensor = bounds, reader.output[0]
            passed.append(reader)
        if not self._is_activation_pair(reader):
            return None
        scale = np.float32(self.view.array(reader.input[1]).reshape(()))
        # Rounding is monotonous, so clipping before it equals clipping to the rounded bounds after it.
        low, high = (np.clip(np.rint(np.float32(bound) / scale), -128, 127) + _ZERO for bound in (low, high))
        return _Requantised((*passed, reader), reader.output[0], scale, int(low), int(high))

    def _bounds(self, node: Any) -> tuple[float, float] | None:
        """Return the bounds of a Relu, or of a Clip whose bounds are constant."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        bounds = clip_bounds(self.view, node) if node.op_type == "Clip" else None
        if bounds is None:
            return None
        low, high = bounds
        return -np.inf if low is None else low, np.inf if high is None else high

    def _product(self, node: Any) -> None:
        weights = self.weights[node.input[1]]
        source, scale = self.quantised[node.input[0]]
        transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
        integers = weights.integers.T if transposed else weights.integers
        bias = self.view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        scales = np.broadcast_to(weights.scales.reshape(-1), integers.shape[1]).astype(np.float32)
        self._matrix_product(node.name, (source, scale), integers, scales, bias, node.output[0])

    def _matrix_product(
        self,
        name: str,
        rows: tuple[str, np.float32],
        integers: np.ndarray,
        scales: np.ndarray,
        bias: np.ndarray | None,
        target: str,
    ) -> None:
        """Add float32(rows @ integers) * (scale * scales) + bias, as one operator. `rows` is a tensor and its scale."""
        tensor, scale = rows
        inputs = [
            tensor,
            self._constant(f"{name}.matrix", self._stored(integers)),
            self._constant(f"{name}.input_scale", scale),
            self._constant(f"{name}.scales", scales),
            *(self.zero, self.zero_of_weights),
        ]
        if bias is not None:
            addend = np.broadcast_to(bias.reshape(-1), len(scales)).astype(np.float32)
            inputs.append(self._constant(f"{name}.addend", addend))
        self._node("MatMulIntegerToFloat", inputs, target, f"{name}.product", domain=_CONTRIB)

    def _epilogue(self, name: str, sums: str, scales: np.ndarray, bias: np.ndarray | None, target: str) -> None:
        """Add float32(sums) * scales + bias."""
        self._node("Cast", [sums], f"{name}.cast", f"{name}.cast", to=1)
        factors = self._constant(f"{name}.factors", scales.astype(np.float32))
        last = target if bias is None else f"{name}.product"
        self._node("Mul", [f"{name}.cast", factors], last, f"{name}.multiply")
        if bias is not None:
            addend = self._constant(f"{name}.addend", bias.astype(np.float32))
            self._node("Add", [last, addend], target, f"{name}.add")

    # -- what stays in float

    def _is_dense(self, node: Any) -> bool:
        """Return whether a convolution has no groups, steps or padding."""
        return (
            attribute(node, "group", 1) == 1
            and set(attribute(node, "strides", [1])) == {1}
            and not any(attribute(node, "pads", [0]))
        )

    def _pooled_sum(self, node: Any) -> bool:
        """Average a quantised map by the exact sum of its integers; False where the map's size is not known."""
        shape = self.view.shape(node.input[0])
        if node.input[0] not in self.quantised or shape is None or len(shape) != 4 or None in shape[2:]:
            return False
        source, scale = self.quantised[node.input[0]]
        count = int(np.prod(shape[2:]))  # type: ignore[arg-type]
        name = node.name
        axes = self._constant("int8_reference.axes", np.array([2, 3], np.int64))
        self._node("Cast", [source], f"{name}.integers", f"{name}.integers", to=6)
        self._node("ReduceSum", [f"{name}.integers", axes], f"{name}.total", f"{name}.total", keepdims=1)
        offset = self._constant(f"{name}.offset", np.int32(_ZERO * count))
        self._node("Sub", [f"{name}.total", offset], f"{name}.sums", f"{name}.sums")
        self._epilogue(name, f"{name}.sums", np.float32(scale / np.float32(count)), None, node.output[0])
        return True

    def _float_convolution(self, node: Any) -> None:
        """Keep a convolution in float, with the one kernel that does not depend on the optimisations."""
        from onnx import helper

        self.nodes.append(node)
        name = node.input[1]
        if name in self.view.constants:
            tensor = self.view.constants[name]
            self.overridable[name] = helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))

    def _is_last(self, node: Any) -> bool:
        """Return whether a float layer multiplies a matrix of one vector per photo, as the last layer does."""
        if node.input[1] not in self.view.constants:
            return False
        return node.op_type == "Gemm" or len(self.view.shape(node.input[0]) or ()) == 2

    def _in_double(self, node: Any) -> None:
        from onnx import TensorProto

        name, inputs = node.name, []
        for index, tensor in enumerate(node.input):
            if tensor in self.view.constants:
                inputs.append(self._constant(f"{name}.double_{index}", self.view.array(tensor).astype(np.float64)))
            else:
                self._node("Cast", [tensor], f"{name}.from_{index}", f"{name}.from_{index}", to=TensorProto.DOUBLE)
                inputs.append(f"{name}.from_{index}")
        self._node(node.op_type, inputs, f"{name}.double", f"{name}.double", **_attributes(node))
        self._node("Cast", [f"{name}.double"], node.output[0], name, to=TensorProto.FLOAT)

    # -- the graph

    def _node(self, operator: str, inputs: list[str], output: str, name: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))

    def _stored(self, integers: np.ndarray) -> np.ndarray:
        """Return weights of -128 to 127 in the type that this processor multiplies exactly, and fastest."""
        return integers.astype(np.int8) if self.signed else _shifted(integers)

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name


def _shifted(integers: np.ndarray) -> np.ndarray:
    """Return integers of -128 to 127 as uint8 with the zero point 128."""
    return (integers + _ZERO).astype(np.uint8)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
