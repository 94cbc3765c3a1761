"""Moves the scaling of photos behind their transposition, where it takes a tenth of the time on a CPU.

A converter writes the scaling of a Keras network for photos (N, H, W, 3). ONNX Runtime applies a constant of three
channels along the last axis three values at a time; along the second axis of (N, 3, H, W) it applies each to a whole
plane. The results are the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import drop_unused_constants, replace_nodes
from trtpoets.convert.graph.graph_view import GraphView, attribute

_AFFINE = ("Mul", "Div", "Add", "Sub")


def with_scaling_by_planes(model: Any) -> Any:
    """Return an equivalent ModelProto whose photos are scaled after they were transposed to (N, C, H, W).

    A network that does not scale its input along the last axis and transpose it then is returned as it is.
    """
    view = GraphView(model)
    scaling, transpose = _scaling(view, model.graph.input[0].name)
    if transpose is None or not scaling:
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    # Nodes are told apart by their outputs, because those of other programs may have no names.
    by_output = {node.output[0]: node for node in copy.graph.node}
    planes, *operators = (by_output[node.output[0]] for node in (transpose, *scaling))
    (source,), tensor = view.activations(scaling[0]), planes.output[0]
    for node in copy.graph.node:
        node.input[:] = [scaling[-1].output[0] if name == tensor else name for name in node.input]
    planes.input[0] = source
    for operator in operators:
        operator.input[:] = [
            _by_planes(copy, view.array(name), operator) if name in view.constants else tensor
            for name in operator.input
        ]
        tensor = operator.output[0]
    moved = {node.output[0] for node in (planes, *operators)}
    rest = [node for node in copy.graph.node if node.output[0] not in moved]
    start = next((at + 1 for at, node in enumerate(rest) if source in node.output), 0)
    replace_nodes(copy, [*rest[:start], planes, *operators, *rest[start:]])
    drop_unused_constants(copy)
    return copy


def _scaling(view: GraphView, photos: str) -> tuple[list[Any], Any | None]:
    """Return the operators that scale the photos along their last axis, and the transposition after them, or None."""
    scaling: list[Any] = []
    tensor = photos
    while tensor not in view.outputs and len(readers := view.readers.get(tensor, [])) == 1:
        node = readers[0].node
        if node.op_type == "Transpose":
            to_planes = attribute(node, "perm", None) == [0, 3, 1, 2] and node.output[0] not in view.outputs
            return scaling, node if to_planes else None
        if node.op_type in _AFFINE and _is_along_last(view, node):
            scaling.append(node)
        elif node.op_type not in ("Cast", "Identity") or scaling:
            break
        tensor = node.output[0]
    return [], None


def _is_along_last(view: GraphView, node: Any) -> bool:
    """Return whether one input of an operator is a constant that differs along the last axis at most."""
    constants = [name for name in node.input if name in view.constants]
    if len(constants) != 1 or len(node.input) != 2:
        return False
    value = view.array(constants[0])
    return value.ndim <= 4 and value.size == (value.shape[-1] if value.ndim else 1)


def _by_planes(model: Any, value: np.ndarray, operator: Any) -> str:
    """Add a constant of the last axis as one of the second axis; one number if all are the same. Returns its name."""
    from onnx import numpy_helper

    channels = value.reshape(-1)
    same = (channels == channels[0]).all()
    name = f"{operator.output[0]}.planes"
    planes = channels[0] if same else channels.reshape(-1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(planes), name))
    return name
