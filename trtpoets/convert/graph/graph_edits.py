"""Changes the nodes and constants of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from trtpoets.convert.graph.graph_view import GraphView

_AXES_AS_INPUT = 18
"""The opset from which on ReduceMin, ReduceMax and ReduceMean have their axes as an input."""


def replace_nodes(model: Any, nodes: Iterable[Any]) -> None:
    """Give a ModelProto copies of `nodes`, in this order, in place of its own. They may be nodes that it has now."""
    graph = type(model.graph)()
    graph.node.extend(nodes)
    del model.graph.node[:]
    model.graph.node.extend(graph.node)


def drop_unused_constants(model: Any) -> None:
    """Remove the initializers of a ModelProto that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    graph = type(model.graph)()
    graph.initializer.extend(constant for constant in model.graph.initializer if constant.name in used)
    del model.graph.initializer[:]
    model.graph.initializer.extend(graph.initializer)


def set_constant(model: Any, view: GraphView, name: str, value: np.ndarray) -> None:
    """Change a constant to `value` as float32, or add it. `view` is that of the model."""
    from onnx import numpy_helper

    constant = numpy_helper.from_array(np.asarray(value, np.float32), name)
    if name in view.constants:
        view.constants[name].CopyFrom(constant)
    else:
        model.graph.initializer.append(constant)


def reduction_axes(opset: int, axes: Sequence[int], constant: str) -> tuple[list[str], dict[str, Any]]:
    """Return the second input and the attributes with which a reduction has its axes.

    From opset 18 on, the input is `constant`, which the caller adds to the graph; before, there is no such input.
    """
    return ([constant], {}) if opset >= _AXES_AS_INPUT else ([], {"axes": list(axes)})
