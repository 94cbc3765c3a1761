"""Rewrites the nodes of a graph whose form or operator does not exist in a lower opset.

The scores of the network do not change. A node that cannot be rewritten is left unchanged, and ONNX's checker rejects
the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import replace_nodes
from trtpoets.convert.graph.graph_view import GraphView, attribute

_AXES_BECAME_INPUT = {
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"), 18
    ),
    **dict.fromkeys(("ReduceProd", "ReduceSumSquare"), 18),
    **dict.fromkeys(("ReduceSum", "Squeeze", "Unsqueeze"), 13),
}
"""The first opset in which the axes of an operator are an input instead of an attribute."""


def rewrite_nodes(model: Any, opset: int) -> None:
    """Rewrite the nodes of a ModelProto in place, so that they are valid in the lower opset `opset`."""
    view = GraphView(model)
    writer = _Writer()
    for node in list(model.graph.node):
        if node.domain in ("", "ai.onnx"):
            _rewrite(view, node, opset, writer)
        else:
            writer.nodes.append(node)
    replace_nodes(model, writer.nodes)
    model.graph.initializer.extend(writer.constants)


class _Writer:
    """Collects the new nodes and constants. `replaced` is the node that they replace; it determines their names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.replaced: Any = None

    def constant(self, suffix: str, value: Any) -> str:
        """Add a constant. Returns its name."""
        from onnx import numpy_helper

        name = f"{self.replaced.name}.{suffix}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], suffix: str = "", **attributes: Any) -> str:
        """Add a node; without a suffix it has the name and the output of the replaced node. Returns its output."""
        from onnx import helper

        name = f"{self.replaced.name}/{suffix}" if suffix else self.replaced.name
        output = f"{name}:0" if suffix else self.replaced.output[0]
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output


def _rewrite(view: GraphView, node: Any, opset: int, writer: _Writer) -> None:
    """Give the writer the nodes that replace `node` in the lower opset, or `node` itself, changed in place."""
    writer.replaced = node
    if node.op_type in _REPLACEMENTS:
        first_opset, write_replacement = _REPLACEMENTS[node.op_type]
        if opset < first_opset and write_replacement(view, node, writer):
            return
    if opset < _AXES_BECAME_INPUT.get(node.op_type, 0):
        _axes_as_attribute(view, node)
    if node.op_type == "Split" and opset < 18 and not _split_sizes(view, node, writer):
        writer.nodes.append(node)
        return
    _drop_defaults(view, node, opset)
    writer.nodes.append(node)


def _axes_as_attribute(view: GraphView, node: Any) -> None:
    """Replace a constant input with the axes by an attribute. A computed input is left unchanged."""
    from onnx import helper

    if len(node.input) < 2:
        return
    axes = node.input[1]
    if axes and axes not in view.constants:
        return
    if axes:
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in view.array(axes).reshape(-1)]))
    del node.input[1:]


def _split_sizes(view: GraphView, node: Any, writer: _Writer) -> bool:
    """Replace the attribute `num_outputs` of a Split by the sizes of its outputs; equal sizes need no input.

    Returns False, and changes nothing, if the size of the split axis is unknown.
    """
    count = attribute(node, "num_outputs", None)
    if count is None:
        return True
    shape = view.shape(node.input[0])
    size = shape[attribute(node, "axis", 0)] if shape else None
    if size is None:
        return False
    kept = [entry for entry in node.attribute if entry.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if size % count:
        part = -(-size // count)
        sizes = np.array([part] * (count - 1) + [size - part * (count - 1)], np.int64)
        node.input.append(writer.constant("split", sizes))
    return True


def _drop_defaults(view: GraphView, node: Any, opset: int) -> None:
    """Remove attributes that the operator lacks in the lower opset, if they have their default values."""
    from onnx import defs, helper

    try:
        older = defs.get_schema(node.op_type, opset, node.domain)
        newer = defs.get_schema(node.op_type, view.opset, node.domain)
    except defs.SchemaError:
        return
    kept = []
    for entry in node.attribute:
        default = newer.attributes[entry.name].default_value if entry.name in newer.attributes else None
        is_default = (
            default is not None
            and bool(default.name)
            and helper.get_attribute_value(entry) == helper.get_attribute_value(default)
        )
        # The schema states no default of dilations; 1 for each axis has no effect.
        has_no_effect = is_default or (entry.name == "dilations" and set(entry.ints) == {1})
        if entry.name in older.attributes or not has_no_effect:
            kept.append(entry)
    if len(kept) < len(node.attribute):
        copies = type(node)()
        copies.attribute.extend(kept)
        del node.attribute[:]
        node.attribute.extend(copies.attribute)


def _layer_norm(view: GraphView, node: Any, writer: _Writer) -> bool:
    axis = attribute(node, "axis", -1)
    shape = view.shape(node.input[0])
    if len(node.output) > 1 or (axis >= 0 and shape is None):
        return False
    axes = list(range(axis - len(shape or ()) if axis >= 0 else axis, 0))
    mean = writer.node("ReduceMean", node.input[:1], "Mean", axes=axes)
    centred = writer.node("Sub", [node.input[0], mean], "Sub")
    square = writer.node("Mul", [centred, centred], "Square")
    variance = writer.node("ReduceMean", [square], "Variance", axes=axes)
    epsilon = writer.constant("epsilon", np.float32(attribute(node, "epsilon", 1e-5)))
    root = writer.node("Sqrt", [writer.node("Add", [variance, epsilon], "Epsilon")], "Sqrt")
    normed = writer.node("Div", [centred, root], "Div")
    biased = len(node.input) > 2 and bool(node.input[2])
    scaled = writer.node("Mul", [normed, node.input[1]], "Scale" if biased else "")
    if biased:
        writer.node("Add", [scaled, node.input[2]])
    return True


def _gelu(view: GraphView, node: Any, writer: _Writer) -> bool:
    source = node.input[0]
    half = writer.constant("half", np.float32(0.5))
    one = writer.constant("one", np.float32(1))
    if attribute(node, "approximate", b"none") == b"tanh":
        cube = writer.node("Mul", [source, writer.node("Mul", [source, source], "Square")], "Cube")
        third = writer.node("Mul", [cube, writer.constant("third", np.float32(0.044715))], "Third")
        inner = writer.node("Add", [source, third], "Sum")
        scaled = writer.node("Mul", [inner, writer.constant("scale", np.float32((2 / np.pi) ** 0.5))], "Scaled")
        curve = writer.node("Tanh", [scaled], "Tanh")
    else:
        scaled = writer.node("Mul", [source, writer.constant("scale", np.float32(0.5**0.5))], "Scaled")
        curve = writer.node("Erf", [scaled], "Erf")
    gated = writer.node("Mul", [source, writer.node("Add", [curve, one], "One")], "Gated")
    writer.node("Mul", [gated, half])
    return True


def _hard_swish(view: GraphView, node: Any, writer: _Writer) -> bool:
    gate = writer.node("HardSigmoid", node.input[:1], "HardSigmoid", alpha=1 / 6, beta=0.5)
    writer.node("Mul", [node.input[0], gate])
    return True


def _mish(view: GraphView, node: Any, writer: _Writer) -> bool:
    gate = writer.node("Tanh", [writer.node("Softplus", node.input[:1], "Softplus")], "Tanh")
    writer.node("Mul", [node.input[0], gate])
    return True


def _group_norm(view: GraphView, node: Any, writer: _Writer) -> bool:
    shape = view.shape(node.input[0])
    scales = view.shape(node.input[1])
    if not shape or not scales or None in shape[1:]:
        return False
    if any(name not in view.constants for name in node.input[1:3]):
        return False
    groups, channels = attribute(node, "num_groups", 1), int(shape[1] or 0)
    grouped = writer.node(
        "Reshape", [node.input[0], writer.constant("groups", np.array([0, groups, -1], np.int64))], "Groups"
    )
    ones, zeros = (
        writer.constant(name, np.full(groups, value, np.float32)) for name, value in (("ones", 1), ("zeros", 0))
    )
    epsilon = attribute(node, "epsilon", 1e-5)
    normed = writer.node("InstanceNormalization", [grouped, ones, zeros], "Normed", epsilon=epsilon)
    sizes = writer.constant("whole", np.array([-1, channels, *(int(size or 0) for size in shape[2:])], np.int64))
    ungrouped = writer.node("Reshape", [normed, sizes], "Back")
    per_channel = [1, channels, *[1] * (len(shape) - 2)]
    factors = []
    for index, suffix in ((1, "scale"), (2, "bias")):
        values = view.array(node.input[index])
        # Before opset 21 there is one factor for each group instead of each channel.
        values = np.repeat(values, channels // values.size) if values.size < channels else values
        factors.append(writer.constant(suffix, values.reshape(per_channel)))
    writer.node("Add", [writer.node("Mul", [ungrouped, factors[0]], "Scaled"), factors[1]])
    return True


_REPLACEMENTS: dict[str, tuple[int, Callable[[GraphView, Any, _Writer], bool]]] = {
    "LayerNormalization": (17, _layer_norm),
    "Gelu": (20, _gelu),
    "HardSwish": (14, _hard_swish),
    "Mish": (18, _mish),
    "GroupNormalization": (18, _group_norm),
}
"""Operators that other operators can replace: the first opset that has them, and the function that writes the others.

The function returns False, and writes nothing, for a node that it cannot replace."""
