"""What distillation trains: the weights and biases of the INT8 layers, and the scales of all pairs.

Every parameter is an offset from its value in the file, in a unit of its own, so that one learning rate suits all: a
weight in steps of its scale, a bias in what one step of a weight changes, and a scale by its logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import WEIGHTED, GraphView
from trtpoets.convert.int8.bias_correction import bias_of
from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.convert.int8.grid import SMALLEST_SCALE
from trtpoets.convert.int8.placement import LEVELS
from trtpoets.convert.int8.qdq import along_axis
from trtpoets.core.optional import tensorflow

_SCALE_RATE = 0.1
"""The logarithm of a scale changes by a tenth of what a weight changes by, in steps."""

_TYPICAL = 32
"""A typical integer of an activation, for the unit of a bias."""


@dataclass(frozen=True)
class _WeightPair:
    """The pair of a weight tensor: the names of both constants, the axis of the scales, the largest integer."""

    weights: str
    scale: str
    axis: int
    levels: int


class TrainedParameters:
    """The trained constants of a network. `groups` are tensors that share one scale.

    `variables` are the offsets, TensorFlow variables that start at 0.
    """

    def __init__(self, network: DifferentiableNetwork, groups: Sequence[Sequence[str]]) -> None:
        self._view = view = network.view
        self._weights: list[_WeightPair] = []
        scales: dict[str, str] = {}
        tied = {tensor: group[0] for group in groups for tensor in group}
        for pair in network.pairs:
            tensor, scale = pair.input[0], pair.input[1]
            if tensor not in view.constants:
                scales[scale] = tied.get(tensor, tensor)
            elif len(view.readers[tensor]) == 1:
                self._weights.append(_weight_pair(network, pair))
        self._activations = scales
        self._biases = _bias_units(network)
        self.variables: dict[str, Any] = {}
        for weight in self._weights:
            self._add(weight.weights, view.array(weight.weights).shape)
            self._add(weight.scale, view.array(weight.scale).shape)
        for name in dict.fromkeys(scales.values()):
            self._add(f"scale of {name}", ())
        for name, unit in self._biases.items():
            self._add(name, unit.shape)

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        tf = tensorflow()
        self.variables[name] = tf.Variable(tf.zeros(shape), name=f"offset_{len(self.variables)}")

    def constants(self) -> dict[str, Any]:
        """Return the tensors of all trained constants, differentiable in the variables, by name."""
        tf = tensorflow()
        view, constants = self._view, {}
        for weight in self._weights:
            start, scale = view.array(weight.weights), view.array(weight.scale)
            unit = np.broadcast_to(along_axis(scale, weight.axis, start.ndim), start.shape)
            constants[weight.weights] = start + unit * self.variables[weight.weights]
            constants[weight.scale] = scale * tf.exp(_SCALE_RATE * self.variables[weight.scale])
        for scale_name, tensor in self._activations.items():
            factor = tf.exp(_SCALE_RATE * self.variables[f"scale of {tensor}"])
            constants[scale_name] = view.array(scale_name) * factor
        for name, unit in self._biases.items():
            constants[name] = view.array(name) + unit * self.variables[name]
        return constants

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the trained constants as they belong in a file, float32: weights are multiples of their scale."""
        arrays = {name: np.asarray(tensor, np.float32) for name, tensor in self.constants().items()}
        for weight in self._weights:
            scale = np.maximum(arrays[weight.scale], np.float32(SMALLEST_SCALE))
            steps = along_axis(scale, weight.axis, arrays[weight.weights].ndim)
            integers = np.clip(np.rint(arrays[weight.weights] / steps), -weight.levels, weight.levels)
            arrays[weight.scale], arrays[weight.weights] = scale, (integers * steps).astype(np.float32)
        for name in self._activations:
            arrays[name] = np.maximum(arrays[name], np.float32(SMALLEST_SCALE))
        return arrays


def with_constants(model: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a copy of a ModelProto with other values of some constants, in their old shapes."""
    from onnx import numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    for constant in copy.graph.initializer:
        if constant.name in arrays:
            shaped = arrays[constant.name].reshape(tuple(constant.dims))
            constant.CopyFrom(numpy_helper.from_array(shaped, constant.name))
    return copy


def _weight_pair(network: DifferentiableNetwork, pair: Any) -> _WeightPair:
    from trtpoets.convert.graph.graph_view import attribute

    tensor, scale = pair.input[0], pair.input[1]
    return _WeightPair(tensor, scale, int(attribute(pair, "axis", 1)), network.levels.get(tensor, LEVELS))


def _bias_units(network: DifferentiableNetwork) -> dict[str, np.ndarray]:
    """Return the unit of each number of the biases of INT8 layers, in the shape of the bias, by its name."""
    view: GraphView = network.view
    units: dict[str, np.ndarray] = {}
    for node in network.nodes:
        if node.op_type not in WEIGHTED:
            continue
        scales = [_scale_before(view, name) for name in node.input[:2]]
        holder, index = bias_of(node, view) or (node, 2)
        name = holder.input[index] if len(holder.input) > index else ""
        if scales[0] is None or scales[1] is None or name not in view.constants or len(view.readers[name]) > 1:
            continue
        bias = view.array(name)
        if bias.size == np.size(scales[1]):
            units[name] = (_TYPICAL * scales[0] * scales[1]).reshape(bias.shape).astype(np.float32)
    return units


def _scale_before(view: GraphView, tensor: str) -> np.ndarray | None:
    """Return the scale of the pair that a tensor comes from; None without one."""
    producer = view.producer.get(tensor)
    return view.array(producer.input[1]) if producer is not None and producer.op_type == "DequantizeLinear" else None
