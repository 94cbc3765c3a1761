"""GraphView looks up the producers, readers, constants and shapes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, TypeProto

CONVOLUTIONS = ("Conv", "ConvTranspose")
MATMULS = ("Gemm", "MatMul")
WEIGHTED = CONVOLUTIONS + MATMULS
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")

_SMALL = 4096
"""Constants with at most this many values may determine shapes; larger ones are weights."""


@dataclass(frozen=True)
class Reader:
    """One use of a tensor: input `index` of `node`."""

    node: Any
    index: int


class GraphView:
    """Looks up producers, readers, constants and shapes of a ModelProto by tensor name.

    Later changes to the graph are not reflected: create a new view after changing it.
    """

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.nodes: list[Any] = list(model.graph.node)
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer: dict[str, NodeProto] = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[Reader]] = {}
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name:
                    self.readers.setdefault(name, []).append(Reader(node, index))
        self._model = model
        self.outputs = [value.name for value in model.graph.output]
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)

    @cached_property
    def _types(self) -> dict[str, TypeProto.Tensor]:
        # Inferred on first use: most views need no types, and a search creates hundreds of views.
        return _inferred_types(_without_weights(self._model))

    @cached_property
    def _types_of_one_photo(self) -> dict[str, TypeProto.Tensor]:
        """The types with a batch of one photo, which fixes all sizes: those after a Reshape to (-1, D) as well."""
        if self.batch is not None or not self.graph.input:
            return self._types
        model = _without_weights(self._model)
        del model.graph.value_info[:]
        inputs = (value for value in model.graph.input if value.name not in self.constants)
        for size in (size for value in inputs for size in value.type.tensor_type.shape.dim[:1]):
            size.dim_value = 1
        for value in (*model.graph.input, *model.graph.output):
            for size in value.type.tensor_type.shape.dim:
                if size.HasField("dim_value") and size.dim_value < 0:
                    size.Clear()
        types = _inferred_types(model)
        names = {name for node in self.nodes if node.op_type in WEIGHTED for name in (*node.input, *node.output)}
        unknown = sorted(name for name in names - {*self.constants, ""} if not _is_fixed(types.get(name)))
        return {**types, **_measured_types(self._model, unknown)} if unknown else types

    @cached_property
    def batch(self) -> int | None:
        """The fixed number of photos of the first input; None if it is not fixed."""
        sizes = [
            size
            for value in self.graph.input
            if value.name not in self.constants
            for size in value.type.tensor_type.shape.dim[:1]
        ]
        # Old exporters of Paddle write -1 for any number.
        return sizes[0].dim_value if sizes and sizes[0].HasField("dim_value") and sizes[0].dim_value > 0 else None

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Return the sizes of a tensor, None for sizes that are not fixed (the batch); None if the shape is unknown."""
        return self._shape_in(self._types, tensor)

    def _shape_in(self, types: dict[str, TypeProto.Tensor], tensor: str) -> tuple[int | None, ...] | None:
        if tensor in self.constants:
            return tuple(self.constants[tensor].dims)
        kind = types.get(tensor)
        if kind is None or not kind.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)

    def shape_for_one_photo(self, tensor: str) -> tuple[int | None, ...] | None:
        """Return the sizes of a tensor for a batch of one photo, or for the fixed batch; None if unknown."""
        return self._shape_in(self._types_of_one_photo, tensor)

    def rows(self, tensor: str) -> int | None:
        """Return the number of vectors along the last axis of a tensor for each photo; None if unknown."""
        shape = self.shape_for_one_photo(tensor)
        if not shape or None in shape[:-1]:
            return None
        return _per_photo(shape[:-1], self.batch)

    def is_float(self, tensor: str) -> bool:
        """Return whether a tensor is float32."""
        return self.element_type(tensor) == 1  # TensorProto.FLOAT

    def element_type(self, tensor: str) -> int:
        """Return the TensorProto.DataType of a tensor; 0 if unknown."""
        if tensor in self.constants:
            return int(self.constants[tensor].data_type)
        return int(self._types[tensor].elem_type) if tensor in self._types else 0

    def array(self, constant: str) -> np.ndarray:
        """Return the values of a constant."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[constant]))

    def weighted(self) -> list[Any]:
        """Return the convolutions, Gemms and MatMuls with constant weights, in graph order."""
        return [
            node
            for node in self.nodes
            if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in self.constants
        ]

    def products(self) -> list[Any]:
        """Return the MatMuls and Gemms whose second factor is computed, as in attention, in graph order."""
        return [
            node
            for node in self.nodes
            if node.op_type in MATMULS and len(node.input) > 1 and node.input[1] not in self.constants
        ]

    def activations(self, node: Any) -> list[str]:
        """Return the inputs of a node that are computed, not constant."""
        return [name for name in node.input if name and name not in self.constants]

    def is_pointwise_map(self, tensor: str) -> bool:
        """Return whether a tensor is (N, C, 1, 1), so that a convolution of it is a matrix-vector product."""
        shape = self.shape_for_one_photo(tensor)
        return shape is not None and len(shape) == 4 and shape[2:] == (1, 1)


def attribute(node: Any, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, or `default`."""
    from onnx import helper

    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def clip_bounds(view: GraphView, node: Any) -> tuple[float | None, float | None] | None:
    """Return the lower and the upper bound of a Clip, None for one that it lacks; None if a bound is computed."""
    low, high = [*node.input[1:], "", ""][:2]
    if any(name and name not in view.constants for name in (low, high)):
        return None
    return float(view.array(low)) if low else None, float(view.array(high)) if high else None


def owns_constants(view: GraphView, node: Any) -> bool:
    """Return whether the inputs of a node behind the first one are constants that no other node reads."""
    own = [name for name in node.input[1:] if name]
    return all(name in view.constants and len(view.readers[name]) == 1 for name in own)


def is_dequantised(view: GraphView, tensor: str) -> bool:
    """Return whether a DequantizeLinear computes a tensor."""
    producer = view.producer.get(tensor)
    return producer is not None and producer.op_type == "DequantizeLinear"


def channel_axis(node: Any, weight_rank: int) -> int:
    """Return the output channel axis of a node's weights."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return 0
    return weight_rank - 1


def _without_weights(model: Any) -> Any:
    """Return a copy of a ModelProto with large constants as inputs: shape inference needs only their shapes."""
    from onnx import helper

    light = type(model)()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(light.graph, field).extend(getattr(model.graph, field))
    listed = {value.name for value in model.graph.input}
    for constant in model.graph.initializer:
        if int(np.prod(constant.dims, dtype=np.int64)) <= _SMALL:
            light.graph.initializer.append(constant)
        elif constant.name not in listed:
            light.graph.input.append(helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims))
    return light


def _inferred_types(model: Any) -> dict[str, TypeProto.Tensor]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {value.name: value.type.tensor_type for value in (*graph.input, *graph.output, *graph.value_info)}


def _is_fixed(kind: TypeProto.Tensor | None) -> bool:
    """Return whether all sizes of a tensor are known."""
    return kind is not None and kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim)


def _measured_types(model: Any, tensors: Sequence[str]) -> dict[str, TypeProto.Tensor]:
    """Return the types of tensors with a black photo as input; none if it has any size, or the network cannot be run.

    Shape inference does not follow sizes through a division, such as the number of windows in a Swin transformer.
    """
    from onnx import helper

    from trtpoets.core.onnx_file import open_session

    copy = type(model)()
    copy.CopyFrom(model)
    outputs = [value.name for value in model.graph.output]
    added = [name for name in tensors if name not in outputs]
    copy.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in added)
    constants = {tensor.name for tensor in model.graph.initializer}
    values = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name not in constants:
            sizes = [max(1, size.dim_value) for size in kind.shape.dim]
            if any(size.dim_value < 1 for size in kind.shape.dim[1:]):
                return {}
            values[value.name] = np.zeros(sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    try:
        arrays = open_session(copy.SerializeToString()).run(added, values)
    except Exception:  # noqa: BLE001 - any graph may come here, also one that ONNX Runtime cannot run
        return {}
    return {
        name: helper.make_tensor_value_info(name, 1, array.shape).type.tensor_type
        for name, array in zip(added, arrays, strict=True)
    }


def _per_photo(sizes: Sequence[int | None], batch: int | None) -> int:
    """Return the product of sizes for one photo. A size that is unknown counts as 1."""
    product = int(np.prod([size or 1 for size in sizes], dtype=np.int64))
    if not batch:
        return product
    first = sizes[0] if sizes else None
    # With a fixed batch, the first size is a multiple of it, unless the network moved the batch to another axis.
    return product // batch if first and first % batch == 0 else product // (first or 1)


def multiply_adds(view: GraphView, node: Any) -> int:
    """Return the multiply-adds of a convolution or matrix product for one photo; 0 if the shapes are unknown."""
    weight = view.shape_for_one_photo(node.input[1])
    out = view.shape_for_one_photo(node.output[0])
    if weight is None or out is None or None in weight:
        return 0
    if node.op_type in ("Conv", "ConvTranspose") and None in out[1:]:  # for photos of any size
        return 0
    positions = _per_photo(out, view.batch)
    if node.op_type == "Conv":
        return positions * int(np.prod(weight[1:], dtype=np.int64))  # type: ignore[arg-type]
    if node.op_type == "ConvTranspose":
        source = view.shape_for_one_photo(node.input[0])
        if source is None:
            return 0
        spread = _per_photo(source, view.batch)
        return spread * int(np.prod(weight[1:], dtype=np.int64))  # type: ignore[arg-type]
    last = len(weight) == 1 or (node.op_type == "Gemm" and attribute(node, "transB", 0))
    depth = weight[-1] if last else weight[-2]
    return positions * int(depth or 0)
