"""Converts an ONNX graph to another opset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtpoets.adopt.onnx.opened import constants_as_initializers
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.core.errors import ConversionFailed, first_line
from trtpoets.core.onnx_file import opset_of

_SOFTMAX_OF_ONE_AXIS = 13
_COUNTED_SPLIT = 18


def with_opset(model: Any, opset: int, source: object) -> Any:
    """Return the ModelProto in an opset of the standard operators; `source` names the file in errors.

    Operators of ONNX before it was released are replaced (ImageScaler), and functions of newer opsets (Gelu,
    GroupNormalization) by the operators that they consist of. Raises ConversionFailed.
    """
    from onnx import version_converter

    _replace_image_scalers(model)
    _replace_old_attributes(model)
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
        raise ConversionFailed(
            f"{source} cannot be converted from ONNX opset {current} to {opset}: {first_line(error)}",
            hint=f"export it again with opset {opset}",
            code="TP9250",
        ) from error
    constants_as_initializers(converted)
    _simplify_softmaxes(converted, axes)
    return converted


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
    """Return the ModelProto with what `opset` does not have in an older form, as far as the converter cannot do it."""
    model = _without_newer_functions(model, opset)
    for node in model.graph.node:
        if node.op_type == "Split" and opset < _COUNTED_SPLIT:
            _remove_attribute(node, "num_outputs")  # the older form divides by the number of its outputs
    return model


def _remove_attribute(node: Any, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _replace_image_scalers(model: Any) -> None:
    """Replace ImageScaler, which WinML's converters wrote: x * scale + bias of each channel."""
    import numpy as np
    from onnx import helper, numpy_helper

    for index, node in enumerate(list(model.graph.node)):
        if node.op_type != "ImageScaler" or node.domain not in ("", "ai.onnx"):
            continue
        bias = np.asarray(attribute(node, "bias", ()), np.float32).reshape(-1, 1, 1)
        scale = np.float32(attribute(node, "scale", 1.0))
        (source,), (target,) = node.input, node.output
        model.graph.initializer.extend(
            [numpy_helper.from_array(scale, f"{target}.scale"), numpy_helper.from_array(bias, f"{target}.bias")]
        )
        position = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        model.graph.node.insert(position, helper.make_node("Mul", [source, f"{target}.scale"], [f"{target}.scaled"]))
        model.graph.node.insert(
            position + 1,
            helper.make_node("Add", [f"{target}.scaled", f"{target}.bias"], [target], name=f"scaler{index}"),
        )


def _replace_old_attributes(model: Any) -> None:
    """Remove attributes of opsets before 7, which some programs write in files of later ones."""
    removed = {"BatchNormalization": ("is_test", "spatial", "consumed_inputs"), "Dropout": ("is_test",)}
    for node in model.graph.node:
        names = removed.get(node.op_type, ())
        kept = [entry for entry in node.attribute if entry.name not in names]
        # `spatial` = 0 gives each pixel its own statistics: the converter reports it.
        kept += [entry for entry in node.attribute if entry.name == "spatial" and entry.i == 0]
        if len(kept) != len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)


def _without_newer_functions(model: Any, opset: int) -> Any:
    """Replace operators that `opset` does not have by their definition in older operators, where ONNX has one."""
    from onnx import defs, inliner

    newer = set()
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and not defs.has(node.op_type, max_inclusive_version=opset):
            newer.add(("", node.op_type))
    if not newer:
        return model
    try:
        return inliner.inline_selected_functions(model, sorted(newer), inline_schema_functions=True)
    except TypeError:  # the installed onnx has no such option: the converter names the operator
        return model
