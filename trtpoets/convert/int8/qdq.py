"""Putting Q/DQ pairs into a graph. It decides nothing: the placement says where, the ranges say how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.placement import Placement

LEVELS = 127
"""Symmetric INT8 runs from -127 to 127, so that a weight and its negative are equally exact."""

SMALLEST_SCALE = 2.0**-24
"""Scales are no smaller: this is the smallest number above zero in FP16, and TensorRT refuses a scale of zero."""


def with_pairs(
    model: Any, placement: Placement, magnitudes: Mapping[str, float], rounded: Mapping[str, np.ndarray] | None = None
) -> Any:
    """A copy of a ModelProto with a Q/DQ pair at each place, INT8, symmetric.

    `magnitudes` gives the largest of each computed tensor of the placement that INT8 shall hold. `rounded` are weights,
    by name, that are whole steps already: their steps are still those of the weights in the model.

    Weights stay FP32 constants with a pair of their own and a step per output channel: the one form that TensorRT 8.x
    reads as well as 10, 11 and RTX. All readers of a tensor that are quantised share its pair. Biases stay FP32:
    TensorRT rejects INT32 ones.
    """
    from onnx import numpy_helper

    view = GraphView(model)
    copy = type(model)()
    copy.CopyFrom(model)

    def pair_data(nodes: list[Any], tensor: str) -> str:
        return _add_pair(copy, nodes, tensor, np.array(scale_of(magnitudes[tensor]), np.float32), None)

    def pair_weights(nodes: list[Any], tensor: str) -> str:
        return _add_pair(copy, nodes, tensor, channel_scales(view.array(tensor), axes[tensor]), axes[tensor])

    axes = {weight.tensor: weight.axis for weight in placement.weights}
    _reroute(copy, [(use.node, use.index, use.tensor) for use in placement.inputs], pair_data)
    _reroute(copy, [(weight.node, 1, weight.tensor) for weight in placement.weights], pair_weights)
    for constant in copy.graph.initializer:
        if constant.name in axes and rounded and constant.name in rounded:
            constant.CopyFrom(numpy_helper.from_array(rounded[constant.name], constant.name))
    return copy


def with_cuts(model: Any, placement: Placement, magnitudes: Mapping[str, float]) -> Any:
    """A copy of a ModelProto that cuts data where `with_pairs` does, and steps neither data nor weights.

    What is cut has the name that it has there behind its pair, so that pieces of the two can be exchanged.
    """
    from onnx import helper, numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)

    def cut(nodes: list[Any], tensor: str) -> str:
        name = f"{_stem(tensor)}/DequantizeLinear:0"
        top = LEVELS * scale_of(magnitudes[tensor])
        ends = [numpy_helper.from_array(np.float32(sign * top), f"{name}{sign}") for sign in (-1, 1)]
        copy.graph.initializer.extend(ends)
        nodes.append(helper.make_node("Clip", [tensor, *(end.name for end in ends)], [name], name=name))
        return name

    _reroute(copy, [(use.node, use.index, use.tensor) for use in placement.inputs], cut)
    return copy


def _reroute(model: Any, uses: Sequence[tuple[str, int, str]], add: Callable[[list[Any], str], str]) -> None:
    """Lead each use (node name, input number, tensor) through new nodes in front of the tensor's first such node.

    `add` appends a tensor's nodes to a list and names what they give; all uses of a tensor share them.
    """
    nodes = {node.name: node for node in model.graph.node}
    before: dict[str, list[Any]] = {}
    made: dict[str, str] = {}
    for name, index, tensor in uses:
        if tensor not in made:
            made[tensor] = add(before.setdefault(name, []), tensor)
        nodes[name].input[index] = made[tensor]
    fresh = type(model.graph)()
    fresh.node.extend(new for node in model.graph.node for new in (*before.get(node.name, ()), node))
    del model.graph.node[:]
    model.graph.node.extend(fresh.node)


def _stem(tensor: str) -> str:
    return tensor[:-2] if tensor.endswith(":0") else tensor


def scale_of(magnitude: float) -> float:
    """The step that takes -magnitude..magnitude to -127..127."""
    return max(magnitude / LEVELS, SMALLEST_SCALE)


def channel_scales(weights: np.ndarray, axis: int) -> np.ndarray:
    """The step of each output channel of a weight tensor: float32 (channels,)."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    magnitude = np.abs(weights).max(axis=others).astype(np.float64)
    return np.asarray(np.maximum(magnitude / LEVELS, SMALLEST_SCALE), dtype=np.float32)


def _add_pair(model: Any, nodes: list[Any], tensor: str, step: np.ndarray, axis: int | None) -> str:
    """Append Q and DQ of `tensor` to `nodes`, their constants to the model; returns what DQ gives."""
    from onnx import helper, numpy_helper

    stem = _stem(tensor)
    scale, zero = f"{stem}.scale", f"{stem}.zero_point"
    model.graph.initializer.append(numpy_helper.from_array(step, scale))
    # TensorRT up to 8.5 wants zero points to be there, every TensorRT wants them to be zero.
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(step.shape, np.int8), zero))
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    source = tensor
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        name = f"{stem}/{operator}"
        nodes.append(helper.make_node(operator, [source, scale, zero], [f"{name}:0"], name=name, **attributes))
        source = f"{name}:0"
    return source
