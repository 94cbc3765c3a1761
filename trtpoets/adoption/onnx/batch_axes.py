"""Follows the axis of the batch through a graph, and removes the size of the batch from its constants.

All constants of the graph are initializers, and its shapes are known for one size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute

_REDUCTIONS = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare"),
    *("ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin"),
)
_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "PRelu", "Where", "Equal", "Greater", "Less"),
    *("GreaterOrEqual", "LessOrEqual", "And", "Or", "Not", "MatMul", "Mod"),
)
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _BatchAxis:
    """Where the batch is in a tensor: its axis, of size `left * batch * x`; `left` counts what was merged before it."""

    axis: int
    left: int = 1


def move_batch(model: Any, batch: int) -> None:
    """Change the constants of a graph that contain the size of its batch, for a batch of any size.

    They are the shapes of Reshape and Expand, the sizes of Resize, ends of Slice, and constants that are joined to
    each photo (the class token of a vision transformer). Constants of other nodes are left as they are.
    """
    _Mover(model, batch).move()


class _Mover:
    def __init__(self, model: Any, batch: int) -> None:
        self._model = model
        self._batch = batch
        self._view = GraphView(model)
        self._places = {model.graph.input[0].name: _BatchAxis(0)}
        self._rules: dict[str, Callable[[Any, _BatchAxis, tuple[int, ...]], _BatchAxis | None]] = {
            "Reshape": self._reshaped,
            "Transpose": self._transposed,
            "Flatten": self._flattened,
            "Gather": self._gathered,
            "Expand": self._expanded,
            "Concat": self._joined,
            "Resize": self._resized,
            "Slice": self._sliced,
            **dict.fromkeys(("Squeeze", "Unsqueeze", *_REDUCTIONS), self._axes_changed),
            **dict.fromkeys(_BROADCASTING, self._broadcast),
        }

    def move(self) -> None:
        nodes: list[Any] = []
        for node in list(self._model.graph.node):
            copy = type(node)()
            copy.CopyFrom(node)
            self._added: list[Any] = []
            self._change(copy)
            nodes += [*self._added, copy]
        del self._model.graph.node[:]
        self._model.graph.node.extend(nodes)

    def _change(self, node: Any) -> None:
        """Change a node and record where the batch is in its outputs; nodes to put before it go to `_added`."""
        source = next((name for name in node.input if name in self._places), None)
        shape = None if source is None else self._shape(source)
        if source is None or shape is None:
            return
        rule = self._rules.get(node.op_type)
        place = self._places[source]
        following = place if rule is None else rule(node, place, shape)
        if following is not None:
            self._places.update((name, following) for name in node.output)

    def _transposed(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis:
        perm = list(attribute(node, "perm", range(len(shape))[::-1]))
        return _BatchAxis(perm.index(place.axis), place.left)

    def _flattened(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis:
        first = attribute(node, "axis", 1) % (len(shape) + 1)
        outer = prod(shape[: place.axis]) * place.left
        return _BatchAxis(0, outer) if place.axis < first else _BatchAxis(1, outer // max(1, prod(shape[:first])))

    def _shape(self, tensor: str) -> tuple[int, ...] | None:
        shape = self._view.shape(tensor)
        return None if shape is None or None in shape else tuple(size or 0 for size in shape)

    def _constant(self, node: Any, index: int, value: Any) -> None:
        """Give a node a constant of its own as an input."""
        from onnx import numpy_helper

        name = f"{node.output[0]}.batch.{index}"
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name

    def _reshaped(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis | None:
        target = self._shape(node.output[0])
        if target is None:
            return None
        outer = prod(shape[: place.axis]) * place.left
        fitting = []
        for axis, size in enumerate(target):
            before = prod(target[:axis])
            if before and outer % before == 0 and size and size % (outer // before * self._batch) == 0:
                left = outer // before
                last = axis == len(target) - 1 and axis > 0 and size > self._batch  # the channels
                fitting.append((last, left, axis))
        if not fitting:
            return None
        _, left, axis = min(fitting)
        if node.input[1] in self._view.constants:
            sizes = [-1 if index == axis else size for index, size in enumerate(target)]
            self._constant(node, 1, np.asarray(sizes, np.int64))
        return _BatchAxis(axis, left)

    def _axes_changed(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis | None:
        given = attribute(node, "axes", None)
        if node.op_type in ("ArgMax", "ArgMin"):
            given = [attribute(node, "axis", 0)]
        elif given is None and len(node.input) > 1 and node.input[1] in self._view.constants:
            given = self._view.array(node.input[1]).reshape(-1).tolist()
        if given is None and node.op_type == "Squeeze":
            # Without axes, a batch of 1 is squeezed too, and a larger one is not.
            axes = [axis for axis, size in enumerate(shape) if size == 1 and axis != place.axis]
            self._constant(node, 1, np.asarray(axes, np.int64))
        elif given is None:
            return None
        else:
            rank = len(shape) + (len(given) if node.op_type == "Unsqueeze" else 0)
            axes = sorted(int(axis) % rank for axis in given)
        if node.op_type == "Unsqueeze":
            axis = place.axis
            for added in axes:
                axis += added <= axis
            return _BatchAxis(axis, place.left)
        if node.op_type != "Squeeze" and attribute(node, "keepdims", 1):
            return place
        if place.axis in axes:
            if node.op_type != "Squeeze":
                return None
            axes.remove(place.axis)
            self._constant(node, 1, np.asarray(axes, np.int64))
        return _BatchAxis(place.axis - sum(axis < place.axis for axis in axes), place.left)

    def _gathered(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis | None:
        indices = self._view.constants.get(node.input[1])
        axis = attribute(node, "axis", 0) % len(shape)
        if indices is None:
            return None
        if axis == place.axis:
            return self._viewed(node, place, shape)
        return _BatchAxis(place.axis + (len(indices.dims) - 1 if axis < place.axis else 0), place.left)

    def _viewed(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis | None:
        """Replace a Gather of all values of a vector in their order, as PyTorch writes as_strided, by a Reshape."""
        indices = self._view.array(node.input[1])
        if len(shape) != 1 or indices.size != shape[0] or np.any(indices.reshape(-1) != np.arange(shape[0])):
            return None
        node.op_type = "Reshape"
        del node.attribute[:]
        return self._reshaped(node, place, shape)

    def _broadcast(self, node: Any, _place: _BatchAxis, _shape: tuple[int, ...]) -> _BatchAxis | None:
        target = self._shape(node.output[0])
        if target is None:
            return None
        for name in node.input:
            shape = self._shape(name) if name in self._places else None
            if shape is not None:
                place = self._places[name]
                following = _BatchAxis(place.axis + len(target) - len(shape), place.left)
                self._one_row_of_constants(node, following.axis, len(target))
                return following
        return None

    def _one_row_of_constants(self, node: Any, axis: int, rank: int) -> None:
        """Keep one row of constants that were repeated for each photo of the batch."""
        for index, name in enumerate(node.input):
            tensor = self._view.constants.get(name)
            if tensor is None or self._batch == 1:
                continue
            own = axis - rank + len(tensor.dims)
            if own >= 0 and tensor.dims[own] == self._batch:
                row = self._one_row(self._view.array(name), own)
                if row is not None:
                    self._constant(node, index, row)

    def _one_row(self, values: np.ndarray, axis: int) -> np.ndarray | None:
        row = np.take(values, [0], axis=axis)
        return row if np.array_equal(np.broadcast_to(row, values.shape), values) else None

    def _expanded(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis | None:
        tensor = node.input[1]
        if tensor not in self._view.constants:
            return place
        sizes = self._view.array(tensor).astype(np.int64)
        axis = place.axis + max(0, len(sizes) - len(shape))
        own = axis - max(len(sizes), len(shape)) + len(sizes)
        if own >= 0:
            sizes[own] = 1  # keeps the size of the data
            self._constant(node, 1, sizes)
        return _BatchAxis(axis, place.left)

    def _joined(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis | None:
        """Repeat constants that a Concat joins to each photo of the batch."""
        from onnx import helper

        source = next(name for name in node.input if name in self._places)
        if attribute(node, "axis", 0) % len(shape) == place.axis:
            return None
        for index, name in enumerate(list(node.input)):
            tensor = self._view.constants.get(name)
            if tensor is None or len(tensor.dims) != len(shape) or tensor.dims[place.axis] not in (1, self._batch):
                continue
            row = self._one_row(self._view.array(name), place.axis)
            if row is None:
                continue
            prefix = f"{node.output[0]}.repeated.{index}"
            sizes = helper.make_node("Shape", [source], [f"{prefix}.shape"], name=f"{prefix}.shape")
            count = helper.make_node("Gather", [sizes.output[0], ""], [f"{prefix}.count"], name=f"{prefix}.count")
            self._constant(count, 1, np.array([place.axis], np.int64))
            parts = helper.make_node("Concat", [], [f"{prefix}.sizes"], name=f"{prefix}.sizes", axis=0)
            self._constant(parts, 0, np.ones(place.axis, np.int64))
            parts.input.append(count.output[0])
            self._constant(parts, 2, np.ones(len(shape) - place.axis - 1, np.int64))
            repeated = helper.make_node("Expand", ["", parts.output[0]], [prefix], name=prefix)
            self._constant(repeated, 0, row)
            node.input[index] = prefix
            self._added += [sizes, count, parts, repeated]
        return place

    def _resized(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis:
        target = self._shape(node.output[0])
        if len(node.input) == 4 and node.input[3] in self._view.constants and target is not None:
            scales = [new / old for new, old in zip(target, shape, strict=True)]
            scales[place.axis] = 1.0
            self._constant(node, 2, np.asarray(scales, np.float32))
            del node.input[3]
        return place

    def _sliced(self, node: Any, place: _BatchAxis, shape: tuple[int, ...]) -> _BatchAxis:
        values = [self._view.array(name) if name in self._view.constants else None for name in node.input[1:4]]
        if len(values) < 3 or any(value is None for value in values):
            return place
        ends = np.array(values[1], np.int64)
        for index, axis in enumerate(np.asarray(values[2]).reshape(-1)):
            if int(axis) % len(shape) == place.axis and ends[index] == self._batch:
                ends[index] = _LARGEST
                self._constant(node, 2, ends)
        return place
