"""Makes the target shapes of Reshapes constant, where only the number of photos is not fixed.

A Keras Dense layer on (N, H, W, C) flattens its input to (N * H * W, C). TensorFlow computes both shapes from the input
at run time, which gives each such layer a chain of Shape, Gather and Concat in ONNX. Of these sizes only one depends on
N, and that one can be -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.core.onnx_file import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence


def with_constant_shapes(model: Any) -> Any:
    """Return an equivalent ModelProto, in which no Reshape has a shape that can be constant but is computed.

    The nodes that computed the shapes are still in the graph, unused. The model is run with one and with two black
    photos, if it has such Reshapes; otherwise it is returned as it is. Its input is (N, H, W, C) with fixed H, W, C.
    """
    from onnx import numpy_helper

    view = GraphView(model)
    reshapes = [node for node in view.nodes if node.op_type == "Reshape" and _is_made_of_sizes(view, node.input[1])]
    targets = sorted({node.input[1] for node in reshapes})
    if not targets:
        return model
    constants = {
        target: shape
        for target, one, two in zip(targets, *_values(model, targets, (1, 2)), strict=True)
        if (shape := constant_shape(one, two)) is not None
    }
    if not constants:
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    names = {target: f"{target}.constant" for target in constants}
    copy.graph.initializer.extend(numpy_helper.from_array(shape, names[target]) for target, shape in constants.items())
    for node in copy.graph.node:
        if node.op_type == "Reshape":
            node.input[1] = names.get(node.input[1], node.input[1])
    return copy


def constant_shape(one: np.ndarray, two: np.ndarray) -> np.ndarray | None:
    """Return the shape, int64 (D,), that a Reshape may have for any batch, given those for one and for two photos.

    A size that is twice as large for two photos becomes -1. None if sizes change otherwise, or if two would be -1.
    """
    if one.shape != two.shape:
        return None
    shape = np.where(one == two, one, -1).astype(np.int64)
    proportional = ((one == two) | (two == 2 * one)).all()
    return shape if proportional and np.count_nonzero(shape == -1) <= 1 else None


def _is_made_of_sizes(view: GraphView, tensor: str) -> bool:
    """Return whether a tensor is computed from the sizes of tensors and constants only."""
    pending, seen = [tensor], {tensor}
    if tensor in view.constants:
        return False
    while pending:
        node = view.producer.get(pending.pop())
        if node is None:
            return False
        if node.op_type != "Shape":
            new = [name for name in node.input if name and name not in view.constants and name not in seen]
            pending += new
            seen.update(new)
    return True


def _values(model: Any, tensors: Sequence[str], counts: Sequence[int]) -> list[list[np.ndarray]]:
    """Return the values of tensors for each of `counts` black photos."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in tensors)
    (source, *_) = copy.graph.input
    kind = source.type.tensor_type
    sizes, dtype = [size.dim_value for size in kind.shape.dim[1:]], helper.tensor_dtype_to_np_dtype(kind.elem_type)
    session = open_session(copy.SerializeToString())
    return [session.run(list(tensors), {source.name: np.zeros((count, *sizes), dtype)}) for count in counts]
