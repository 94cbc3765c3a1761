"""Inserts Q/DQ pairs into a graph, at the places of a Placement and with scales that follow from the ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import replace_nodes
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.grid import SMALLEST_SCALE, Quantiser
from trtpoets.convert.int8.placement import LEVELS, Placement

LARGEST_BIAS = 2**29
"""Largest 32-bit bias: it leaves room for the sum of products, and for the correction of the bias."""


def with_qdq(
    model: Any,
    placement: Placement,
    quantisers: Mapping[str, Quantiser],
    rounded: Mapping[str, np.ndarray] | None = None,
) -> Any:
    """Return a copy of a ModelProto with a Q/DQ pair at each place of the placement.

    `quantisers` gives the pair of each computed tensor of the placement. Pairs of weights are symmetric INT8.
    `rounded` are weights, by name, that are multiples of their scale already; they replace the weights of the model,
    whose scales are kept.

    Weights stay FP32 constants with their own pair and one scale per output channel: TensorRT 8.x, 10, 11 and RTX all
    read this form. All quantised readers of a tensor share one pair. Biases stay FP32: TensorRT rejects INT32 biases.
    """
    from onnx import numpy_helper

    view = GraphView(model)
    copy = type(model)()
    copy.CopyFrom(model)

    def pair_data(nodes: list[Any], tensor: str) -> str:
        quantiser = quantisers[tensor]
        zero = np.array(quantiser.zero, quantiser.grid.code)
        return _add_pair(copy, nodes, tensor, np.array(quantiser.scale, np.float32), zero, None)

    def pair_weights(nodes: list[Any], tensor: str) -> str:
        scale = channel_scales(view.array(tensor), axes[tensor], levels[tensor], least[tensor])
        return _add_pair(copy, nodes, tensor, scale, np.zeros(scale.shape, np.int8), axes[tensor])

    axes = {weight.tensor: weight.axis for weight in placement.weights}
    levels = {weight.tensor: weight.levels for weight in placement.weights}
    least = _least_scales(view, placement, quantisers)
    _reroute(copy, [(use.node, use.index, use.tensor) for use in placement.inputs], pair_data)
    _reroute(copy, [(weight.node, 1, weight.tensor) for weight in placement.weights], pair_weights)
    for constant in copy.graph.initializer:
        if constant.name in axes and rounded and constant.name in rounded:
            constant.CopyFrom(numpy_helper.from_array(rounded[constant.name], constant.name))
    return copy


def with_clips(model: Any, placement: Placement, quantisers: Mapping[str, Quantiser]) -> Any:
    """Return a copy of a ModelProto that clips activations where `with_qdq` does, without quantising anything.

    A clipped tensor has the name of the DequantizeLinear output in the quantised graph, so that segments of the two
    graphs are interchangeable.
    """
    from onnx import helper, numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)

    def clip(nodes: list[Any], tensor: str) -> str:
        name = dequantized(tensor)
        limits = zip((-1, 1), quantisers[tensor].limits, strict=True)
        bounds = [numpy_helper.from_array(np.float32(limit), f"{name}{side}") for side, limit in limits]
        copy.graph.initializer.extend(bounds)
        nodes.append(helper.make_node("Clip", [tensor, *(bound.name for bound in bounds)], [name], name=name))
        return name

    _reroute(copy, [(use.node, use.index, use.tensor) for use in placement.inputs], clip)
    return copy


def _reroute(model: Any, uses: Sequence[tuple[str, int, str]], add: Callable[[list[Any], str], str]) -> None:
    """Route each use (node name, input index, tensor) through new nodes, inserted before the first use of the tensor.

    `add` appends the new nodes for a tensor to a list and returns their output; all uses of a tensor share them.
    """
    nodes = {node.name: node for node in model.graph.node}
    inserted: dict[str, list[Any]] = {}
    replacement: dict[str, str] = {}
    for name, index, tensor in uses:
        if tensor not in replacement:
            replacement[tensor] = add(inserted.setdefault(name, []), tensor)
        nodes[name].input[index] = replacement[tensor]
    replace_nodes(model, (new for node in model.graph.node for new in (*inserted.get(node.name, ()), node)))


def dequantized(tensor: str) -> str:
    """Return the name of a tensor behind its Q/DQ pair."""
    return f"{_stem(tensor)}/DequantizeLinear:0"


def _stem(tensor: str) -> str:
    return tensor[:-2] if tensor.endswith(":0") else tensor


def along_axis(scales: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Return scales in the shape that broadcasts along an axis of a tensor of this rank; a single one as a scalar."""
    if scales.size == 1:
        return scales.reshape(())
    return scales.reshape([-1 if number == axis % rank else 1 for number in range(rank)])


def channel_scales(weights: np.ndarray, axis: int, levels: int = LEVELS, least: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the scale of each output channel of a weight tensor, at least `least`: float32 (channels,)."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    magnitude = np.abs(weights).max(axis=others).astype(np.float64)
    return np.asarray(np.maximum(magnitude / levels, np.maximum(least, SMALLEST_SCALE)), dtype=np.float32)


def _add_pair(model: Any, nodes: list[Any], tensor: str, scale: np.ndarray, zero: np.ndarray, axis: int | None) -> str:
    """Append the Q/DQ nodes of `tensor` to `nodes` and their constants to the model; return the output of DQ."""
    from onnx import helper, numpy_helper

    stem = _stem(tensor)
    scale_name, zero_name = f"{stem}.scale", f"{stem}.zero_point"
    model.graph.initializer.append(numpy_helper.from_array(scale, scale_name))
    # TensorRT up to 8.5 requires a zero point.
    model.graph.initializer.append(numpy_helper.from_array(zero, zero_name))
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    source = tensor
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        name = f"{stem}/{operator}"
        inputs = [source, scale_name, zero_name]
        nodes.append(helper.make_node(operator, inputs, [f"{name}:0"], name=name, **attributes))
        source = f"{name}:0"
    return source


def _least_scales(
    view: GraphView, placement: Placement, quantisers: Mapping[str, Quantiser]
) -> dict[str, np.ndarray | float]:
    """Return the least scale of each weight tensor with which the layer's bias fits in 32 bits; 0 where it is FP32."""
    nodes = {node.name: node for node in view.nodes}
    least: dict[str, np.ndarray | float] = {}
    for weight in placement.weights:
        least.setdefault(weight.tensor, 0.0)
        inputs = nodes[weight.node].input
        if weight.integer_bias and len(inputs) > 2 and inputs[2]:
            data = quantisers.get(inputs[0])
            scale = data.scale if data else constant_scale(view, inputs[0])
            needed = np.abs(view.array(inputs[2]).astype(np.float64)).reshape(-1) / (scale * LARGEST_BIAS)
            least[weight.tensor] = np.maximum(least[weight.tensor], needed)
    return least


def constant_scale(view: GraphView, dequantized: str) -> float:
    """Return the scale of the DequantizeLinear that computes a tensor."""
    return float(view.array(view.producer[dequantized].input[1]))
