"""Decides where Q/DQ pairs go: which tensors and weights become INT8, and why other layers do not.

TensorRT fuses a convolution, its bias, activation and residual Add into one INT8 kernel if every input of that kernel
is behind a Q/DQ pair and there is no pair inside it. So pairs are placed before convolutions (data and weights), on the
residual side of an Add, and around pooling and Concat between INT8 neighbours. An activation may consist of several
nodes, as x * sigmoid(x) does; the pair goes after all of them. A product of many rows with constant weights gets pairs
on both factors; a residual Add after it gets none, because such networks (transformers) do not tolerate INT8 there.
Sources: the TensorRT developer guide, "Q/DQ Layer-Placement Recommendations"; NVIDIA's quantisation toolkits for
TensorFlow and PyTorch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.graph_view import (
    CONVOLUTIONS,
    MATMULS,
    QUANTISERS,
    GraphView,
    Reader,
    attribute,
    channel_axis,
)
from trtpoets.core.errors import BadArtefact, ConversionFailed

if TYPE_CHECKING:
    from onnx import NodeProto

_FUSED = {
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Tanh", "Softplus"),
    *("Celu", "Erf", "Gelu", "Mish", "PRelu", "Selu", "Softsign", "ThresholdedRelu"),
}
"""Activations: operators with one computed input that TensorRT fuses into the convolution before them."""

_SCALED = {"Mul", "Add", "Sub", "Div", "BatchNormalization"}
"""Operators that are fused too if their other inputs are constant or come from the same convolution."""

_LARGEST_ACTIVATION = 16
"""Most nodes of one activation. GELU by tanh, the largest that is known, has nine."""

_POOLS = {"AveragePool", "GlobalAveragePool", "MaxPool"}

CARRIERS = {
    *("Concat", "Split", "Slice", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"),
    *("DepthToSpace", "SpaceToDepth", "Gather"),
}
"""Operators that only move values, so that their input and output can share one scale."""

LEVELS = 127
"""Symmetric INT8 weights are -127 to 127, so that a weight and its negative are represented equally well."""

MANY_ROWS = 16
"""Least number of rows per photo for which a MatMul becomes INT8: the height of a tile of INT8 tensor cores."""


@dataclass(frozen=True)
class QuantisedInput:
    """Input `index` of node `node`, which reads the computed tensor `tensor` through a Q/DQ pair."""

    node: str
    index: int
    tensor: str


@dataclass(frozen=True)
class QuantisedWeight:
    """The weights `tensor` of node `node`, read through a Q/DQ pair with one scale per slice along `axis`.

    `levels` is the largest integer weight. `integer_bias` means that the layer's bias becomes a 32-bit integer.
    """

    node: str
    tensor: str
    axis: int
    levels: int = LEVELS
    integer_bias: bool = False


@dataclass(frozen=True)
class Placement:
    """The places of Q/DQ pairs. `same_scale` are groups of tensors that share one scale because a Concat joins them, or
    because a Split divides them.

    `in_float` maps each convolution, MatMul and Gemm that stays in floating point, by node name, to the reason.
    """

    inputs: tuple[QuantisedInput, ...]
    weights: tuple[QuantisedWeight, ...]
    same_scale: tuple[tuple[str, ...], ...]
    in_float: Mapping[str, str]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The computed tensors whose ranges are needed, without duplicates."""
        return tuple(dict.fromkeys(entry.tensor for entry in self.inputs))


def placement_from_onnx(model: Any, keep_float: Mapping[str, str] | None = None) -> Placement:
    """Return where Q/DQ pairs go in a ModelProto. `keep_float` maps nodes that must not become INT8 to the reason.

    Raises BadArtefact if it has pairs already or unnamed nodes, ConversionFailed if it has neither a convolution nor a
    product of many rows with constant weights.
    """
    check_unquantised(model)
    return placement_in(GraphView(model), keep_float)


def placement_in(view: GraphView, keep_float: Mapping[str, str] | None = None) -> Placement:
    """Return the same as `placement_from_onnx`, for a graph that `placement_from_onnx` has checked before."""
    in_float = {**_reasons(view), **(keep_float or {})}
    weighted = view.weighted()
    quantised = [node for node in weighted if node.name not in in_float]
    if not quantised and not any(node.op_type in CONVOLUTIONS for node in weighted):
        raise ConversionFailed(
            "the network has no convolution and no product of many rows with constant weights, so no layer can become "
            "INT8",
            hint="use FP16: trtpoets quantize NAME --precision fp16",
            code="TP3029",
        )
    depth = _depths(view)
    uses = {(node.name, 0) for node in quantised}
    uses |= _residuals(view, {node.name for node in quantised if node.op_type in CONVOLUTIONS}, depth)
    joined, groups = _joined(view, uses)
    uses |= joined
    uses |= _pooled(view, uses, depth)
    inputs = tuple(
        QuantisedInput(node.name, index, node.input[index])
        for node in view.nodes
        for index in range(len(node.input))
        if (node.name, index) in uses
    )
    weights = tuple(
        QuantisedWeight(node.name, node.input[1], channel_axis(node, len(view.constants[node.input[1]].dims)))
        for node in quantised
    )
    names = {node.name for node in weighted}
    return Placement(inputs, weights, groups, {name: why for name, why in in_float.items() if name in names})


def check_unquantised(model: Any) -> None:
    """Raise BadArtefact if a ModelProto has Q/DQ nodes already, or nodes without a name of their own."""
    pairs = sum(node.op_type in QUANTISERS for node in model.graph.node)
    if pairs:
        raise BadArtefact(
            f"the network contains {pairs} QuantizeLinear and DequantizeLinear nodes already",
            hint="quantise the FP32 file: trtpoets export NAME, then trtpoets quantize NAME",
            code="TP3030",
        )
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) < len(names):
        raise BadArtefact(
            "nodes of the network have no name, or the same name",
            hint="export it again: trtpoets export NAME",
            code="TP3031",
        )


def _reasons(view: GraphView) -> dict[str, str]:
    """Return the layers with weights that gain nothing from INT8, and why."""
    reasons = {}
    first = True
    axes: dict[str, int] = {}
    for node in view.weighted():
        axis = channel_axis(node, len(view.constants[node.input[1]].dims))
        if axes.setdefault(node.input[1], axis) != axis:
            reasons[node.name] = "another layer has the same weights with another output axis"
        elif node.op_type in MATMULS:
            reason = _reason_of_product(view, node)
            if reason:
                reasons[node.name] = reason
        elif view.is_pointwise_map(node.input[0]):
            reasons[node.name] = "its input has one value per channel: a matrix-vector product for each photo"
        elif not _fits_tensor_cores(view, node, first):
            reasons[node.name] = "it has too few channels, or a number that is not a multiple of 8"
        first = False
    return reasons


def is_matrix_vector(view: GraphView, node: Any) -> bool:
    """Return whether a layer with weights multiplies one vector per photo, so that INT8 would not make it faster."""
    if node.op_type in MATMULS:
        rows = view.rows(node.input[0])
        return rows is None or rows == 1
    return view.is_pointwise_map(node.input[0])


def _reason_of_product(view: GraphView, node: Any) -> str:
    """Return why a MatMul or Gemm with constant weights stays in floating point; empty if it becomes INT8."""
    if is_matrix_vector(view, node):
        # It is little work, limited by memory bandwidth, and its error would reach the scores undamped.
        return "a matrix-vector product for each photo, next to the scores"
    rows = view.rows(node.input[0]) or 0
    shape = [int(size) for size in view.constants[node.input[1]].dims]
    if rows < MANY_ROWS:
        return f"a product of only {rows} rows for each photo"
    if len(shape) != 2 or min(shape) < MANY_ROWS or any(size % 8 for size in shape):
        return "it has too few channels, or a number that is not a multiple of 8"
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
        return "it transposes or scales its input"
    return ""


def _fits_tensor_cores(view: GraphView, node: Any, first: bool) -> bool:
    """Return whether INT8 kernels of this shape outweigh their conversions, by the rule of NVIDIA's ModelOpt."""
    shape = [int(size or 0) for size in view.shape(node.input[1]) or ()]
    groups = int(attribute(node, "group", 1))
    kernel = shape[2:]
    if node.op_type == "ConvTranspose":
        into, out = shape[0], shape[1] * groups
    else:
        into, out = shape[1] * groups, shape[0]
    if groups > 1:
        return out % 8 == 0 and min(kernel) >= 3
    if out >= 16 and into >= 16:
        return True
    return (out % 8 == 0 or into % 8 == 0) and (first or max(out, into) >= 16) and len(set(kernel)) == 1


def _residuals(view: GraphView, convolutions: set[str], depth: Mapping[str, int]) -> set[tuple[str, int]]:
    """Return the residual input of each Add that ends an INT8 convolution: (node name, input index)."""
    residuals = set()
    for node in view.nodes:
        if node.op_type not in ("Add", "Sum") or len(node.input) != 2 or len(view.activations(node)) != 2:
            continue
        if node.input[0] == node.input[1] or not _same_shape(view, *node.input):
            continue
        ends = [index for index in (0, 1) if _ends_convolution(view, node.input[index], convolutions, depth)]
        if ends:
            # If both inputs end a convolution, the Add is fused into the longer branch, which is computed last.
            main = max(ends, key=lambda index: (depth[node.input[index]], index))
            residuals.add((node.name, 1 - main))
    return residuals


def _same_shape(view: GraphView, first: str, second: str) -> bool:
    """Return whether two tensors have the same shape, as far as it is known; a broadcast Add has no residual input."""
    one, two = view.shape(first), view.shape(second)
    if one is None or two is None:
        return True
    sizes = zip(one, two, strict=False)
    return len(one) == len(two) and all(size == other or None in (size, other) for size, other in sizes)


def _ends_convolution(view: GraphView, tensor: str, quantised: set[str], depth: Mapping[str, int]) -> bool:
    """Return whether only one activation lies between an INT8 convolution and the tensor, which has one reader.

    The activation may consist of several nodes, as x * sigmoid(x) does: all that they read is the convolution's output,
    and nothing outside the activation reads what is inside.
    """
    passed: set[str] = set()
    pending = {tensor}
    while len(passed) < _LARGEST_ACTIVATION:
        latest = max(pending, key=lambda name: depth.get(name, 0))
        readers = {reader.node.name for reader in view.readers.get(latest, [])}
        alone = len(view.readers.get(latest, [])) == 1 if not passed else readers <= passed
        node = view.producer.get(latest)
        if node is None or not alone or latest in view.outputs:
            return False
        if len(pending) == 1 and node.name in quantised:
            return True
        if node.op_type not in _FUSED | _SCALED:
            return False
        passed.add(node.name)
        pending = (pending - {latest}) | set(view.activations(node))
        if not pending:
            return False
    return False


def _depths(view: GraphView) -> dict[str, int]:
    """Return the length in nodes of the longest path from the photos to each tensor."""
    depth: dict[str, int] = {}
    for node in view.nodes:
        longest = max((depth.get(name, 0) for name in node.input), default=0)
        depth.update((name, longest + 1) for name in node.output)
    return depth


def _joined(
    view: GraphView, uses: Collection[tuple[str, int]]
) -> tuple[set[tuple[str, int]], tuple[tuple[str, ...], ...]]:
    """Return the inputs of Concats, Splits and the operators next to them that run in INT8, and the groups of tensors.

    All operators that only move values and are connected form a region with one scale. It runs in INT8 if all that it
    is read by runs in INT8. A region without a Concat or a division gets no pairs: TensorRT moves the pair after it to
    before it.
    """
    carriers = _int8_carriers(view, uses)
    pairs: set[tuple[str, int]] = set()
    groups: list[dict[str, None]] = []
    for node in carriers.values():
        members = dict.fromkeys([*carried(node), *node.output])
        touching = [group for group in groups if not members.keys().isdisjoint(group)]
        groups = [group for group in groups if group not in touching]
        for group in touching:
            members = {**group, **members}
        groups.append(members)
    kept = []
    for group in groups:
        inside = [node for node in carriers.values() if node.output[0] in group]
        # Also after a Concat, and before a tensor is divided, so that each of these operators has INT8 on both sides.
        divided = {name for node in inside for name in carried(node) if _is_divided(view, node, carriers)}
        concats = {node.output[0]: node for node in inside if node.op_type == "Concat"}
        if not concats and not divided:
            continue
        kept.append(tuple(group))
        for node in inside:
            wanted = node.op_type == "Concat" or node.input[0] in divided or node.input[0] in concats
            pairs |= {(node.name, index) for index in range(len(carried(node)))} if wanted else set()
    return pairs, tuple(kept)


def carried(node: Any) -> list[str]:
    """Return the inputs whose values an operator moves; the others of a carrier are sizes and positions."""
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])


def _is_divided(view: GraphView, node: Any, carriers: Mapping[str, NodeProto]) -> bool:
    """Return whether the input of a carrier is divided: by a Split, or by several Slices."""
    readers = view.readers.get(node.input[0], [])
    return node.op_type == "Split" or (len(readers) > 1 and all(reader.node.name in carriers for reader in readers))


def _int8_carriers(view: GraphView, uses: Collection[tuple[str, int]]) -> dict[str, NodeProto]:
    """Return the operators that only move values and whose readers all run in INT8, by name."""
    carriers = {
        node.name: node
        for node in view.nodes
        if node.op_type in CARRIERS
        and all(name not in view.constants for name in carried(node))
        and all(name in view.constants for name in node.input[len(carried(node)) :] if name)
        and view.is_float(node.output[0])
    }

    def can_read(reader: Reader) -> bool:
        node = reader.node
        return (node.name, reader.index) in uses or node.op_type in _POOLS or node.name in carriers

    changed = True
    while changed:
        excluded = [
            name
            for name, node in carriers.items()
            if not all(
                output not in view.outputs and all(map(can_read, view.readers.get(output, [])))
                for output in node.output
                if output
            )
        ]
        for name in excluded:
            del carriers[name]
        changed = bool(excluded)
    return carriers


def _pooled(view: GraphView, uses: Collection[tuple[str, int]], depth: Mapping[str, int]) -> set[tuple[str, int]]:
    """Return the pools that read INT8: their input is INT8 anyway, or averaging connects two INT8 neighbours.

    A MaxPool whose input has no other INT8 reader gets no pair: TensorRT moves the pair after it to before it.
    """
    quantised = {name for name, _ in uses}
    tensors = {
        node.input[index] for node in view.nodes for index in range(len(node.input)) if (node.name, index) in uses
    }
    pooled = set()
    for node in reversed(view.nodes):
        if node.op_type not in _POOLS:
            continue
        source = node.input[0]
        between = node.op_type != "MaxPool" and len(view.readers[source]) == 1
        if source in tensors or (
            between and (node.output[0] in tensors or _ends_convolution(view, source, quantised, depth))
        ):
            pooled.add((node.name, 0))
            tensors.add(source)
    return pooled
