"""Replaces If nodes, whose condition is the same for all photos, by the nodes of the branch that is taken.

torch.onnx.export writes an If where a shape is compared (squeeze, adaptive pooling), converters of Keras write one for
the learning phase. TensorRT needs neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from trtpoets.adoption.onnx.tensors import content_with_outputs, shape_of
from trtpoets.convert.graph.graph_edits import replace_nodes
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.core.errors import BadArtefact, first_line
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import onnxruntime

CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")

_MAX_BRANCHES = 1000
"""The largest number of If nodes that are replaced, nested ones included; exporters write only a few."""

_BATCHES = (1, 3)
_SIDES = (224, 192, 299, 64)
"""Numbers of photos and sizes for which conditions are computed where the file does not fix them."""

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
_SHAPED_BY_VALUES = ("NonZero", "Unique", "Compress", "NonMaxSuppression")
_SHAPE_ARGUMENTS = {
    **dict.fromkeys(("Reshape", "Expand", "Slice", "Tile", "Resize", "Pad", "TopK", "Squeeze", "Unsqueeze"), 1),
    **dict.fromkeys(("Split", "OneHot", "CenterCropPad"), 1),
    **dict.fromkeys(("Range", "ConstantOfShape"), 0),
}
"""The first input of an operator whose values determine the shape of its output."""


def take_branches(model: Any) -> Mapping[str, str]:
    """Replace the If nodes of a ModelProto whose condition does not depend on the photos or their number.

    The ModelProto is changed; constants of a branch may still be Constant nodes. Returns the reason why a node was not
    replaced, by the node's name: of If nodes, and of other control flow, which is never replaced.
    """
    reasons: dict[str, str] = {}
    for count in range(_MAX_BRANCHES):
        node = next((node for node in model.graph.node if _is_if(node) and node_name(node) not in reasons), None)
        if node is None:
            break
        condition = _condition(model, node)
        if isinstance(condition, str):
            reasons[node_name(node)] = condition
        else:
            _inline(model, node, "then_branch" if condition else "else_branch", f"branch{count}")
    for node in model.graph.node:
        if node.op_type in CONTROL_FLOW and node.domain in ("", "ai.onnx"):
            reasons.setdefault(node_name(node), f"a {node.op_type} repeats or selects nodes at run time")
    return reasons


def node_name(node: Any) -> str:
    """Return the name of a node, or of its first output if it has none."""
    return str(node.name or node.output[0])


def _is_if(node: Any) -> bool:
    return node.op_type == "If" and node.domain in ("", "ai.onnx")


def _condition(model: Any, node: Any) -> bool | str:
    """Return the value of the condition of an If node, or why it is not the same for all photos."""
    view = GraphView(model)
    name = node.input[0]
    if name in view.constants:
        return bool(view.array(name).reshape(-1)[0])
    if _Dependence(view).of_values(name):
        return "its condition depends on the values of the photos"
    if len(model.graph.input) != 1:
        return "its condition is computed, and the file has several inputs"
    results, problem = _computed(model, name)
    if not results:
        return f"its condition can't be computed: {problem}"
    return results.pop() if len(results) == 1 else "its condition depends on the number of photos or their size"


def _computed(model: Any, name: str) -> tuple[set[bool], str]:
    """Return the values of a condition for inputs of different shapes, and why it can't be computed for others."""
    results: set[bool] = set()
    problem = "the shape of the input is not known"
    try:
        session = open_session(content_with_outputs(model, [name]))
    except BadArtefact as error:
        return results, error.reason
    options = onnxruntime().RunOptions()
    options.log_severity_level = 4
    for images in _inputs(model.graph.input[0]):
        try:
            (value,) = session.run([name], {model.graph.input[0].name: images}, options)
        except Exception as error:  # noqa: BLE001 - not every size fits the network
            problem = first_line(error)
            continue
        results.add(bool(np.asarray(value).reshape(-1)[0]))
    return results, problem


def _inputs(value: Any) -> Iterator[np.ndarray]:
    """Yield inputs of all shapes that are tried: those that the file fixes are kept."""
    from onnx import helper

    shape = shape_of(value)
    if shape is None:
        return
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shapes: dict[tuple[int, ...], None] = {}
    for batch, side, channels in product(_BATCHES, _SIDES, (1, -1)):
        axis = channels % max(len(shape), 1)
        sizes = (batch, *(3 if index == axis else side for index in range(1, len(shape))))
        shapes[tuple(fixed or size for fixed, size in zip(shape, sizes, strict=False))] = None
    random = np.random.default_rng(0)
    for sizes in shapes:
        yield (random.random(sizes, np.float32) * 255).astype(kind)


class _Dependence:
    """Whether the values, or the shape, of a tensor depend on the values of the input."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._inputs = {value.name for value in view.graph.input}

    def of_values(self, tensor: str) -> bool:
        return self._of(tensor, shape=False)

    def _of(self, tensor: str, *, shape: bool) -> bool:
        """Follow the graph backwards without recursion, whose depth Python limits."""
        pending, seen = [(tensor, shape)], set()
        while pending:
            item = pending.pop()
            name, only_shape = item
            if not name or name in self._view.constants or item in seen:
                continue
            seen.add(item)
            if name in self._inputs:
                if not only_shape:
                    return True
                continue
            node = self._view.producer.get(name)
            if node is None or node.op_type in CONTROL_FLOW or node.op_type in _RANDOM:
                return True
            if only_shape and node.op_type in _SHAPED_BY_VALUES:
                return True
            pending += self._needed(node, only_shape)
        return False

    @staticmethod
    def _needed(node: Any, only_shape: bool) -> Iterable[tuple[str, bool]]:
        if node.op_type in ("Shape", "Size"):
            return [] if only_shape else [(name, True) for name in node.input]
        if not only_shape:
            return [(name, False) for name in node.input]
        first = _SHAPE_ARGUMENTS.get(node.op_type, len(node.input))
        return [(name, index < first) for index, name in enumerate(node.input)]


def _inline(model: Any, node: Any, branch: str, prefix: str) -> None:
    """Put the nodes of a branch in the place of an If node."""
    from onnx import helper

    graph = model.graph
    (body,) = (entry.g for entry in node.attribute if entry.name == branch)
    body = type(body).FromString(body.SerializeToString())
    own = {tensor.name for tensor in body.initializer} | {name for inner in body.node for name in inner.output}
    used = {name for other in graph.node for name in (*other.input, *other.output)}
    used.update(tensor.name for tensor in graph.initializer)
    while any(f"{prefix}/{name}" in used for name in own):
        prefix += "_"
    new = {name: f"{prefix}/{name}" for name in own if name}
    for tensor in body.initializer:
        tensor.name = new[tensor.name]
    _rename(body.node, new)
    for inner in body.node:
        inner.name = f"{node_name(node)}/{inner.name}" if inner.name else ""
    ends = [
        helper.make_node("Identity", [new.get(value.name, value.name)], [output])
        for value, output in zip(body.output, node.output, strict=True)
        if output
    ]
    position = list(graph.node).index(node)
    nodes = [*graph.node[:position], *body.node, *ends, *graph.node[position + 1 :]]
    replace_nodes(model, nodes)
    graph.initializer.extend(body.initializer)
    del graph.value_info[:]


def _rename(nodes: Iterable[Any], new: Mapping[str, str]) -> None:
    """Rename tensors in nodes and in their subgraphs, which read tensors of the graphs around them."""
    for node in nodes:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for entry in node.attribute:
            for graph in (entry.g, *entry.graphs) if entry.HasField("g") or entry.graphs else ():
                _rename(graph.node, new)
                for value in graph.output:
                    value.name = new.get(value.name, value.name)
