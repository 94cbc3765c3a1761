"""Decides where Q/DQ pairs go: which tensors and weights become INT8, and why other layers do not.

TensorRT fuses a convolution, its bias, activation and residual Add into one INT8 kernel if every input of that kernel
is behind a Q/DQ pair and there is no pair inside it. So pairs are placed before convolutions (data and weights), on the
residual side of an Add, and around pooling and Concat between INT8 neighbours. Sources: the TensorRT developer guide,
"Q/DQ Layer-Placement Recommendations"; NVIDIA's quantisation toolkits for TensorFlow and PyTorch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

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

_FUSED = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Tanh", "Softplus"}
"""One-input operators that TensorRT fuses into the convolution before them."""

_SCALED = {"Mul", "Add", "Sub", "Div"}
"""Operators that are fused too if their other input is constant."""

_POOLS = {"AveragePool", "GlobalAveragePool", "MaxPool"}


@dataclass(frozen=True)
class QuantisedInput:
    """Input `index` of node `node`, which reads the computed tensor `tensor` through a Q/DQ pair."""

    node: str
    index: int
    tensor: str


@dataclass(frozen=True)
class QuantisedWeight:
    """The weights `tensor` of node `node`, read through a Q/DQ pair with one scale per slice along `axis`."""

    node: str
    tensor: str
    axis: int


@dataclass(frozen=True)
class Placement:
    """The places of Q/DQ pairs. `same_scale` are groups of tensors that share one scale because a Concat joins them.

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

    Raises BadArtefact if it has pairs already or unnamed nodes, ConversionFailed if it has no convolution.
    """
    _check(model)
    return placement_in(GraphView(model), keep_float)


def placement_in(view: GraphView, keep_float: Mapping[str, str] | None = None) -> Placement:
    """Return the same as `placement_from_onnx`, for a graph that `placement_from_onnx` has checked before."""
    in_float = {**_reasons(view), **(keep_float or {})}
    weighted = view.weighted()
    convolutions = [node for node in weighted if node.name not in in_float]
    if not any(node.op_type in CONVOLUTIONS for node in weighted):
        raise ConversionFailed(
            "the network has no convolution, so no layer can become INT8",
            hint="use FP16: trtpoets quantize NAME --precision fp16",
            code="TP3029",
        )
    uses = {(node.name, 0) for node in convolutions}
    uses |= _residuals(view, {node.name for node in convolutions})
    concats = _joinable(view, uses)
    uses |= {(node.name, index) for node in concats for index in range(len(node.input))}
    uses |= _pooled(view, uses)
    inputs = tuple(
        QuantisedInput(node.name, index, node.input[index])
        for node in view.nodes
        for index in range(len(node.input))
        if (node.name, index) in uses
    )
    weights = tuple(
        QuantisedWeight(node.name, node.input[1], channel_axis(node, len(view.constants[node.input[1]].dims)))
        for node in convolutions
    )
    names = {node.name for node in weighted}
    return Placement(inputs, weights, _groups(concats), {name: why for name, why in in_float.items() if name in names})


def _check(model: Any) -> None:
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
            "nodes of the network have no name or share one",
            hint="export it again: trtpoets export NAME",
            code="TP3031",
        )


def _reasons(view: GraphView) -> dict[str, str]:
    """Return the layers with weights that gain nothing from INT8, and why."""
    reasons = {}
    first = True
    for node in view.weighted():
        if node.op_type in MATMULS:
            # It is little work, limited by memory bandwidth, and its error would reach the scores undamped.
            reasons[node.name] = "a matrix-vector product for each photo, next to the scores"
        elif view.is_pointwise_map(node.input[0]):
            reasons[node.name] = "its input has one value per channel: a matrix-vector product for each photo"
        elif not _fits_tensor_cores(view, node, first):
            reasons[node.name] = "it has too few channels, or a number that is no multiple of 8"
        first = False
    return reasons


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


def _residuals(view: GraphView, quantised: set[str]) -> set[tuple[str, int]]:
    """Return the residual input of each Add that ends an INT8 convolution: (node name, input index)."""
    depth = _depths(view)
    residuals = set()
    for node in view.nodes:
        if node.op_type != "Add" or len(view.activations(node)) != 2 or node.input[0] == node.input[1]:
            continue
        ends = [index for index in (0, 1) if _ends_convolution(view, node.input[index], quantised)]
        if ends:
            # If both inputs end a convolution, the Add is fused into the longer branch, which is computed last.
            main = max(ends, key=lambda index: (depth[node.input[index]], index))
            residuals.add((node.name, 1 - main))
    return residuals


def _ends_convolution(view: GraphView, tensor: str, quantised: set[str]) -> bool:
    """Return whether only fused operators lie between an INT8 convolution and the tensor, each with one reader."""
    while len(view.readers.get(tensor, [])) == 1 and tensor not in view.outputs:
        node = view.producer.get(tensor)
        if node is None:
            return False
        if node.name in quantised:
            return True
        computed = view.activations(node)
        if node.op_type not in _FUSED | _SCALED or len(computed) != 1:
            return False
        tensor = computed[0]
    return False


def _depths(view: GraphView) -> dict[str, int]:
    """Return the length in nodes of the longest path from the photos to each tensor."""
    depth: dict[str, int] = {}
    for node in view.nodes:
        longest = max((depth.get(name, 0) for name in node.input), default=0)
        depth.update((name, longest + 1) for name in node.output)
    return depth


def _joinable(view: GraphView, uses: Collection[tuple[str, int]]) -> list[Any]:
    """Return the Concats that can run in INT8: those whose readers all run in INT8."""
    joined = {node.name: node for node in view.nodes if node.op_type == "Concat"}

    def can_read(reader: Reader) -> bool:
        node = reader.node
        return (node.name, reader.index) in uses or node.op_type in _POOLS or node.name in joined

    changed = True
    while changed:
        excluded = [
            name
            for name, node in joined.items()
            if node.output[0] in view.outputs
            or not all(can_read(reader) for reader in view.readers.get(node.output[0], []))
            or len(view.activations(node)) < len(node.input)
        ]
        for name in excluded:
            del joined[name]
        changed = bool(excluded)
    return list(joined.values())


def _pooled(view: GraphView, uses: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
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
        if source in tensors or (between and (node.output[0] in tensors or _ends_convolution(view, source, quantised))):
            pooled.add((node.name, 0))
            tensors.add(source)
    return pooled


def _groups(concats: list[Any]) -> tuple[tuple[str, ...], ...]:
    """Return groups of tensors that Concats join. Concats that read each other's output form one group."""
    groups: list[dict[str, None]] = []
    for node in concats:
        members = dict.fromkeys([*node.input, node.output[0]])
        touching = [group for group in groups if not members.keys().isdisjoint(group)]
        groups = [group for group in groups if group not in touching]
        for group in touching:
            members = {**group, **members}
        groups.append(members)
    return tuple(tuple(group) for group in groups)
