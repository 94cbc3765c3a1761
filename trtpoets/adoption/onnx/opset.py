"""Converts an ONNX graph to another opset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtpoets.adoption.onnx.opened import constants_as_initializers
from trtpoets.convert.graph.graph_edits import replace_nodes
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.core.errors import ConversionFailed, first_line
from trtpoets.core.onnx_file import opset_of

_SOFTMAX_OF_ONE_AXIS = 13
_NEWER_ATTRIBUTES = {
    "noop_with_empty_axes": None,  # if there are axes
    "antialias": 0,
    "keep_aspect_ratio_policy": b"stretch",
    "saturate": None,
    "round_mode": None,
    "num_outputs": None,
    "output_dtype": 0,
    "block_size": 0,
    "dilations": 1,
    "allowzero": 0,
    "stash_type": 1,
}
"""Attributes that opsets after 17 added, and the value with which they change nothing; None for any value."""

_PAD_WITH_AXES = 18
"""The opset in which Pad may name its axes, and Split the number of its outputs."""


def with_opset(model: Any, opset: int, source: object) -> Any:
    """Return the ModelProto in an opset of the standard operators; `source` names the file in errors.

    Functions of newer opsets (Gelu, GroupNormalization) are replaced by the operators that they consist of.
    Raises ConversionFailed.
    """
    from onnx import version_converter

    current = opset_of(model)
    if current == opset:
        return model
    axes = _softmax_axes(model) if current < _SOFTMAX_OF_ONE_AXIS <= opset else {}
    del model.graph.value_info[:]
    if current > opset:
        model = _lowered(model, opset)
    try:
        converted = version_converter.convert_version(model, opset)
    except Exception as error:
        if current < opset or not _lower_number(model, opset):
            raise ConversionFailed(
                f"{source} can't be converted from ONNX opset {current} to {opset}: {first_line(error)}",
                hint=f"export it again with opset {opset}",
                code="TP9250",
            ) from error
        converted = model
    _remove_newer_attributes(converted, opset)
    constants_as_initializers(converted)
    _simplify_softmaxes(converted, axes)
    return converted


def _lower_number(model: Any, opset: int) -> bool:
    """Lower the number of the opset, and return whether ONNX's checker accepts all nodes in it.

    The converter has no rule for some operators that did not change.
    """
    from onnx import checker, helper

    for entry in model.opset_import:
        entry.version = opset
    for node in model.graph.node:
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and len(node.input) > 1:
            view = GraphView(model)
            if node.input[1] not in view.constants:
                return False
            axes = view.array(node.input[1]).reshape(-1).tolist()
            node.attribute.append(helper.make_attribute("axes", axes))
            del node.input[1:]
    _remove_newer_attributes(model, opset)
    try:
        checker.check_model(model, full_check=True)
    except Exception:  # noqa: BLE001 - the checker raises several types; the caller reports the converter's reason
        return False
    return True


def _remove_newer_attributes(model: Any, opset: int) -> None:
    """Remove attributes that the opset does not have, where their value says nothing: the converter leaves them."""
    from onnx import defs, helper

    for node in model.graph.node:
        if not defs.has(node.op_type, max_inclusive_version=opset):
            continue
        known = defs.get_schema(node.op_type, opset).attributes
        for entry in list(node.attribute):
            if entry.name in known or entry.name not in _NEWER_ATTRIBUTES:
                continue
            if entry.name == "noop_with_empty_axes" and entry.i and not attribute(node, "axes", ()):
                continue
            value, neutral = helper.get_attribute_value(entry), _NEWER_ATTRIBUTES[entry.name]
            if neutral is None or value == neutral or (isinstance(value, list) and set(value) == {neutral}):
                _remove_attribute(node, entry.name)


def _softmax_axes(model: Any) -> dict[str, int]:
    """Return the axis of each Softmax of opset 12 or before that is computed along one axis, by its output.

    These opsets compute it along all axes from `axis` on together.
    """
    view = GraphView(model)
    axes = {}
    for node in view.nodes:
        shape = view.shape(node.input[0]) if node.op_type in ("Softmax", "LogSoftmax") else None
        if shape:
            first = attribute(node, "axis", 1) % len(shape)
            longer = [axis for axis in range(first, len(shape)) if shape[axis] != 1]
            if len(longer) == 1:
                axes[node.output[0]] = longer[0]
    return axes


def _simplify_softmaxes(model: Any, axes: Mapping[str, int]) -> None:
    """Replace the Shape, Flatten, Softmax and Reshape that the converter writes for an old Softmax by a Softmax."""
    from onnx import helper

    view = GraphView(model)
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or node.output[0] not in axes:
            continue
        softmax = view.producer.get(node.input[0])
        flatten = None if softmax is None else view.producer.get(softmax.input[0])
        if softmax is not None and softmax.op_type in ("Softmax", "LogSoftmax") and flatten is not None:
            name, axis = softmax.name, axes[node.output[0]]
            plain = helper.make_node(softmax.op_type, [flatten.input[0]], list(node.output), name=name, axis=axis)
            model.graph.node[index].CopyFrom(plain)


def _lowered(model: Any, opset: int) -> Any:
    """Return the ModelProto with older forms of the nodes that `opset` lacks and that the converter cannot convert.

    The standard operators have the same number then as the converter expects for the older form: it compares names.
    """
    model = _without_newer_functions(model, opset)
    if opset >= _PAD_WITH_AXES:
        return model
    view = GraphView(model)
    for node in model.graph.node:
        if node.op_type == "Split":
            _remove_attribute(node, "num_outputs")  # the older form divides by the number of its outputs
        elif node.op_type == "Pad" and len(node.input) > 3 and node.input[3]:
            _pad_all_axes(model, view, node)
    return model


def _pad_all_axes(model: Any, view: GraphView, node: Any) -> None:
    """Give a Pad that names its axes the paddings of all axes."""
    import numpy as np
    from onnx import numpy_helper

    shape = view.shape(node.input[0])
    if shape is None or node.input[1] not in view.constants or node.input[3] not in view.constants:
        return
    rank = len(shape)
    axes = [int(axis) % rank for axis in view.array(node.input[3]).reshape(-1)]
    given = view.array(node.input[1])
    pads = np.zeros(2 * rank, np.int64)
    for index, axis in enumerate(axes):
        pads[axis], pads[axis + rank] = given[index], given[index + len(axes)]
    name = f"{node.output[0]}.pads"
    model.graph.initializer.append(numpy_helper.from_array(pads, name))
    node.input[1] = name
    del node.input[3:]


def _remove_attribute(node: Any, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _without_newer_functions(model: Any, opset: int) -> Any:
    """Replace operators that `opset` does not have by their definition in older operators, where ONNX has one."""
    from onnx import defs, inliner

    _replace_group_normalizations(model)
    newer = set()
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and not defs.has(node.op_type, max_inclusive_version=opset):
            newer.add(("", node.op_type))
    if not newer:
        return model
    try:
        # The definitions of some operators depend on types, which are known for inputs of the graph only.
        inlined = inliner.inline_selected_functions(
            _with_constants_as_inputs(model), sorted(newer), inline_schema_functions=True
        )
    except Exception:  # noqa: BLE001 - an older onnx, or no definition: the converter names the operator
        return model
    constants_as_initializers(inlined)
    return inlined


def _with_constants_as_inputs(model: Any) -> Any:
    """Return a copy whose constants have types: those of inputs, as IR version 3 wants them."""
    from onnx import helper

    copy = type(model).FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        copy.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return copy


def _replace_group_normalizations(model: Any) -> None:
    """Replace GroupNormalization with one scale per channel (opset 21) by InstanceNormalization of groups.

    PyTorch's exporter writes the same nodes for opset 17.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    view = GraphView(model)
    nodes = []
    for node in model.graph.node:
        shape = view.shape(node.input[0]) if node.op_type == "GroupNormalization" else None
        if not shape or len(shape) < 3 or any(name not in view.constants for name in node.input[1:3]):
            nodes.append(node)
            continue
        groups, name = attribute(node, "num_groups", 1), node.output[0]
        channels = int(shape[1] or view.constants[node.input[1]].dims[0])
        dtype = view.array(node.input[1]).dtype
        parameters = [view.array(one) for one in node.input[1:3]]
        parameters = [
            np.repeat(one, channels // groups) if len(one) == groups != channels else one for one in parameters
        ]
        constants = {
            f"{name}.groups": np.array([0, groups, -1]),
            f"{name}.ones": np.ones(groups, dtype),
            f"{name}.zeros": np.zeros(groups, dtype),
            f"{name}.weight": parameters[0].reshape(-1, *[1] * (len(shape) - 2)),
            f"{name}.bias": parameters[1].reshape(-1, *[1] * (len(shape) - 2)),
        }
        model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
        epsilon = attribute(node, "epsilon", 1e-5)
        steps = [
            ("Reshape", [node.input[0], f"{name}.groups"], f"{name}.grouped", {}),
            (
                "InstanceNormalization",
                [f"{name}.grouped", f"{name}.ones", f"{name}.zeros"],
                f"{name}.normal",
                {"epsilon": epsilon},
            ),
            ("Shape", [node.input[0]], f"{name}.shape", {}),
            ("Reshape", [f"{name}.normal", f"{name}.shape"], f"{name}.restored", {}),
            ("Mul", [f"{name}.restored", f"{name}.weight"], f"{name}.scaled", {}),
            ("Add", [f"{name}.scaled", f"{name}.bias"], name, {}),
        ]
        nodes += [
            helper.make_node(kind, inputs, [output], name=f"{node.name or name}/{kind}_{index}", **attributes)
            for index, (kind, inputs, output, attributes) in enumerate(steps)
        ]
    replace_nodes(model, nodes)
