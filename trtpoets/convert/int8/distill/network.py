"""Runs an ONNX graph with Q/DQ pairs in TensorFlow, so that it can be differentiated.

A pair is fake quantisation (fake_quantisation.py), in weights as in activations. The graph is that of ONNX Runtime,
operator by operator: the same features, except where the last bits of a sum decide how a value is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.convert.int8.distill.fake_quantisation import fake_quantised
from trtpoets.convert.int8.distill.layers import unsupported
from trtpoets.convert.int8.distill.layouts import NetworkValue
from trtpoets.convert.int8.distill.operators import operators
from trtpoets.convert.int8.qdq import along_axis
from trtpoets.core.types import INPUT_NAME


class DifferentiableNetwork:
    """The part of a ModelProto that computes one tensor of float numbers, `target`.

    `levels` is the largest integer of each weight tensor; activations use all 256 integers, as their pairs do.
    Raises ConversionFailed if an operator is not supported, or a pair is not that of a constant zero point and scale.
    """

    def __init__(self, model: Any, target: str, levels: Mapping[str, int]) -> None:
        self.view = GraphView(model)
        self.target = target
        self.levels = levels
        self.nodes = self._needed()
        known = {*operators(), "QuantizeLinear", "DequantizeLinear", "Constant"}
        for node in self.nodes:
            if node.op_type not in known or node.domain not in ("", "ai.onnx"):
                raise unsupported(node)

    @property
    def pairs(self) -> list[Any]:
        """The QuantizeLinear nodes, in graph order."""
        return [node for node in self.nodes if node.op_type == "QuantizeLinear"]

    def run(self, photos: Any, constants: Mapping[str, Any] | None = None) -> Any:
        """Return the target for photos, uint8 (N, H, W, 3), as float32 (N, F).

        `constants` are tensors that replace constants of the graph: weights, biases and scales.
        """
        from trtpoets.core.optional import tensorflow

        values: dict[str, NetworkValue] = {INPUT_NAME: NetworkValue(photos)}
        given = dict(constants or {})

        def value_of(name: str) -> NetworkValue | None:
            if not name:
                return None
            if name not in values:
                values[name] = NetworkValue(given[name] if name in given else self.view.array(name))
            return values[name]

        for node in self.nodes:
            inputs = [value_of(name) for name in node.input]
            if node.op_type == "QuantizeLinear":
                outputs: NetworkValue | list[NetworkValue] = self._quantised(node, inputs)
            elif node.op_type == "DequantizeLinear":
                outputs = self._dequantised(node, inputs)
            elif node.op_type == "Constant":
                outputs = NetworkValue(_constant_of(node))
            else:
                outputs = operators()[node.op_type](node, inputs)
            results = outputs if isinstance(outputs, list) else [outputs]
            values.update(zip(node.output, results, strict=False))
        result = values[self.target].plain
        width = int(np.prod(result.shape[1:]))
        return tensorflow().reshape(result, (-1, width))

    def _quantised(self, node: Any, inputs: list[NetworkValue | None]) -> NetworkValue:
        """Return the values after the pair that begins with this node: DequantizeLinear passes them on."""
        data, scale = inputs[0], inputs[1]
        assert data is not None and scale is not None
        zeros = self.view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros((), np.uint8)
        zero = int(zeros.reshape(-1)[0])
        if (zeros != zero).any() or zeros.dtype not in (np.int8, np.uint8):
            raise unsupported(node, "other than one zero point of 8 bits")
        limits = np.iinfo(zeros.dtype)
        low, high = limits.min - zero, limits.max - zero
        if node.input[0] in self.levels:
            low, high = -self.levels[node.input[0]], self.levels[node.input[0]]
        scales = scale.tensor
        if len(scales.shape):
            if data.channels_last:
                raise unsupported(node, "a scale for each channel of an activation")
            scales = _along(scales, int(attribute(node, "axis", 1)), data.rank)
        return data.like(fake_quantised(data.tensor, scales, float(low), float(high)))

    def _dequantised(self, node: Any, inputs: list[NetworkValue | None]) -> NetworkValue:
        data, scale = inputs[0], inputs[1]
        assert data is not None and scale is not None
        source = self.view.producer.get(node.input[0])
        if source is not None and source.op_type == "QuantizeLinear" and source.input[1] == node.input[1]:
            return data
        if data.constant is None or scale.constant is None:
            raise unsupported(node, "a scale that is not that of the QuantizeLinear before it")
        zeros = self.view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros((), np.int8)
        axis, rank = int(attribute(node, "axis", 1)), data.rank
        zero = along_axis(zeros.astype(np.float32), axis, rank)
        return NetworkValue((data.constant - zero) * along_axis(scale.constant, axis, rank))

    def _needed(self) -> list[Any]:
        """Return the nodes that the target depends on, in graph order."""
        needed = {self.target}
        nodes = []
        for node in reversed(self.view.nodes):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(node.input)
        return nodes[::-1]


def _along(scales: Any, axis: int, rank: int) -> Any:
    """Return scales (channels,) in the shape that broadcasts along an axis."""
    from trtpoets.core.optional import tensorflow

    shape = [-1 if number == axis % rank else 1 for number in range(rank)]
    return tensorflow().reshape(scales, shape)


def _constant_of(node: Any) -> np.ndarray:
    from onnx import numpy_helper

    value = attribute(node, "value", None)
    if value is None:
        raise unsupported(node, "a value that is not a tensor")
    return np.asarray(numpy_helper.to_array(value))
