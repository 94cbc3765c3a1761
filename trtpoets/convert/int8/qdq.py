"""Inserts Q/DQ pairs into a graph, at the places of a Placement and with scales that follow from the ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.placement import Placement

LEVELS = 127
"""Symmetric INT8 uses -127 to 127, so that a weight and its negative are represented equally well."""

SMALLEST_SCALE = 2.0**-24
"""The smallest scale: the smallest positive number in FP16. TensorRT rejects a scale of zero."""


def with_qdq(
    model: Any,
    placement: Placement,
    magnitudes: Mapping[str, float],
    rounded: Mapping[str, np.ndarray] | None = None,
    scales: MutableMapping[str, np.ndarray] | None = None,
) -> Any:
    """Return a copy of a ModelProto with a symmetric INT8 Q/DQ pair at each place of the placement.

    `magnitudes` gives, for each computed tensor of the placement, the largest magnitude that INT8 must represent.
    `rounded` are weights, by name, that are multiples of their scale already; they replace the weights of the model,
    whose scales are kept. `scales` keeps the scales of weights for the next version of the same model.

    Weights stay FP32 constants with their own pair and one scale per output channel: TensorRT 8.x, 10, 11 and RTX all
    read this form. All quantised readers of a tensor share one pair. Biases stay FP32: TensorRT rejects INT32 biases.
    """
    from onnx import numpy_helper

    view = GraphView(model)
    copy = type(model)()
    copy.CopyFrom(model)

    def pair_data(nodes: list[Any], tensor: str) -> str:
        return _add_pair(copy, nodes, tensor, np.array(scale_of(magnitudes[tensor]), np.float32), None)

    def pair_weights(nodes: list[Any], tensor: str) -> str:
        if tensor not in known:
            known[tensor] = channel_scales(view.array(tensor), axes[tensor])
        return _add_pair(copy, nodes, tensor, known[tensor], axes[tensor])

    known = {} if scales is None else scales
    axes = {weight.tensor: weight.axis for weight in placement.weights}
    _reroute(copy, [(use.node, use.index, use.tensor) for use in placement.inputs], pair_data)
    _reroute(copy, [(weight.node, 1, weight.tensor) for weight in placement.weights], pair_weights)
    for constant in copy.graph.initializer:
        if constant.name in axes and rounded and constant.name in rounded:
            constant.CopyFrom(numpy_helper.from_array(rounded[constant.name], constant.name))
    return copy


def with_clips(model: Any, placement: Placement, magnitudes: Mapping[str, float]) -> Any:
    """Return a copy of a ModelProto that clips activations where `with_qdq` does, without quantising anything.

    A clipped tensor has the name of the DequantizeLinear output in the quantised graph, so that segments of the two
    graphs are interchangeable.
    """
    from onnx import helper, numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)

    def clip(nodes: list[Any], tensor: str) -> str:
        name = f"{_stem(tensor)}/DequantizeLinear:0"
        top = LEVELS * scale_of(magnitudes[tensor])
        bounds = [numpy_helper.from_array(np.float32(sign * top), f"{name}{sign}") for sign in (-1, 1)]
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
    new_graph = type(model.graph)()
    new_graph.node.extend(new for node in model.graph.node for new in (*inserted.get(node.name, ()), node))
    del model.graph.node[:]
    model.graph.node.extend(new_graph.node)


def _stem(tensor: str) -> str:
    return tensor[:-2] if tensor.endswith(":0") else tensor


def scale_of(magnitude: float) -> float:
    """Return the scale that maps -magnitude..magnitude to -127..127."""
    return max(magnitude / LEVELS, SMALLEST_SCALE)


def channel_scales(weights: np.ndarray, axis: int) -> np.ndarray:
    """Return the scale of each output channel of a weight tensor: float32 (channels,)."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    magnitude = np.abs(weights).max(axis=others).astype(np.float64)
    return np.asarray(np.maximum(magnitude / LEVELS, SMALLEST_SCALE), dtype=np.float32)


def _add_pair(model: Any, nodes: list[Any], tensor: str, scale: np.ndarray, axis: int | None) -> str:
    """Append the Q/DQ nodes of `tensor` to `nodes` and their constants to the model; return the output of DQ."""
    from onnx import helper, numpy_helper

    stem = _stem(tensor)
    scale_name, zero_name = f"{stem}.scale", f"{stem}.zero_point"
    model.graph.initializer.append(numpy_helper.from_array(scale, scale_name))
    # TensorRT up to 8.5 requires a zero point, and every TensorRT requires it to be zero.
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), zero_name))
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    source = tensor
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        name = f"{stem}/{operator}"
        inputs = [source, scale_name, zero_name]
        nodes.append(helper.make_node(operator, inputs, [f"{name}:0"], name=name, **attributes))
        source = f"{name}:0"
    return source
