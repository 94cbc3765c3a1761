"""Makes fp32.onnx and int8.onnx of a network that its producer quantised: its scales are used as they are.

int8.onnx has the pairs of the file in the form that every TensorRT reads (`qdq.with_qdq`). fp32.onnx clips where the
pairs do, and does not round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import drop_unused_constants, replace_nodes
from trtpoets.convert.graph.graph_view import CONVOLUTIONS, WEIGHTED, GraphView, attribute, multiply_adds
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.bias_correction import layer_sqnr
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.qdq import along_axis
from trtpoets.convert.int8.quantize_int8 import Int8Notes
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.core.onnx_file import write_onnx
from trtpoets.core.onnx_graph import marked_fp32
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Precision

_LIMITS = (-128, 127)


def has_activation_pairs(model: Any) -> bool:
    """Return whether a ModelProto quantises values that it computes, not only constants."""
    view = GraphView(model)
    return any(node.op_type == "QuantizeLinear" and node.input[0] not in view.constants for node in view.nodes)


def without_integer_constants(model: Any, *, weights: bool) -> None:
    """Replace the DequantizeLinear of integer constants in a ModelProto, exactly, by float constants.

    INT32 biases become float: TensorRT rejects them. INT8 constants become float constants with a Q/DQ pair, which
    gives the same integers, or with `weights=False` without one. Pairs of float constants are replaced only then.
    """
    view = GraphView(model)
    nodes: list[Any] = []
    changed = False
    for node in view.nodes:
        values = _constant_result(view, node, pairs=not weights)
        if values is None:
            nodes.append(node)
            continue
        changed = True
        constant, integers = values
        if weights and integers == np.int8:
            nodes += _pair(model, node, constant)
        else:
            _add_constant(model, constant, node.output[0])
    if changed:
        read = {name for node in nodes for name in node.input}
        needed = [node for node in nodes if node.op_type != "QuantizeLinear" or node.output[0] in read]
        replace_nodes(model, needed)
        del model.graph.value_info[:]
        drop_unused_constants(model)


def without_pairs(model: Any) -> Any:
    """Return a copy of a ModelProto without Q/DQ nodes: activations are clipped to the range of their pair.

    Its nodes and tensors have the same names.
    """
    from onnx import helper

    copy = type(model).FromString(model.SerializeToString())
    without_integer_constants(copy, weights=False)
    view = GraphView(copy)
    nodes: list[Any] = []
    for node in view.nodes:
        if node.op_type == "QuantizeLinear":
            scale = float(view.array(node.input[1]).reshape(-1)[0])
            bounds = [f"{node.output[0]}.{limit}" for limit in _LIMITS]
            for name, limit in zip(bounds, _LIMITS, strict=True):
                _add_constant(copy, np.float32(limit * scale), name)
            nodes.append(helper.make_node("Clip", [node.input[0], *bounds], [node.output[0]], name=node.name))
        elif node.op_type == "DequantizeLinear":
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
        else:
            nodes.append(node)
    replace_nodes(copy, nodes)
    del copy.graph.value_info[:]
    _merge_identities(copy)
    drop_unused_constants(copy)
    return copy


def int8_with_own_scales(
    evaluator: Int8Evaluator, quantised: Any, out: Path, progress: Progress = silent
) -> tuple[OnnxModel, Int8Notes]:
    """Write int8.onnx of a ModelProto with pairs of its own, whose fp32.onnx is the evaluator's.

    Nothing is calibrated or corrected. Raises BadPhoto, BadArtefact, StorageFailed.
    """
    spec = evaluator.model.spec
    kept_nodes = evaluator.kept_fp32(quantised, progress)
    metadata = {**metadata_of_spec(spec, Precision.INT8), **marked_fp32(list(kept_nodes))}
    view, quantised_view = GraphView(evaluator.proto), GraphView(quantised)
    write_onnx(finished(quantised.graph, quantised_view.opset, metadata), out)
    quantised_layers = {node.name for node in quantised_view.nodes if _is_int8(quantised_view, node)}
    weighted = view.weighted()
    work = {node.name: multiply_adds(view, node) for node in weighted}
    total = sum(work.values()) + sum(multiply_adds(view, node) for node in view.products())
    int8 = [name for name in work if name in quantised_layers]
    fidelity = evaluator.fidelity(quantised)
    convolutions = {node.name for node in weighted if node.op_type in CONVOLUTIONS}
    notes = Int8Notes(
        convolutions=len(convolutions),
        convolutions_int8=len(convolutions.intersection(int8)),
        products=len(weighted) - len(convolutions),
        products_int8=len(set(int8) - convolutions),
        pairs=sum(node.op_type == "QuantizeLinear" for node in quantised_view.nodes),
        multiply_adds=total,
        share=sum(work[name] for name in int8) / total if total else 0.0,
        in_float={name: "it has no pairs in the file" for name in work if name not in quantised_layers},
        equalised=0,
        rounded=0,
        plain=fidelity,
        corrected=fidelity,
        together=fidelity,
        final=fidelity,
        steps=(),
        layers_db=layer_sqnr(evaluator.proto, quantised, evaluator.search_photos),
        kept_fp32=kept_nodes,
    )
    return OnnxModel(out, Precision.INT8, spec), notes


def _is_int8(view: GraphView, node: Any) -> bool:
    """Return whether both factors of a layer are dequantised, so that TensorRT multiplies integers."""
    if node.op_type not in WEIGHTED:
        return False
    producers = [view.producer.get(name) for name in node.input[:2]]
    return all(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers)


def _constant_result(view: GraphView, node: Any, *, pairs: bool) -> tuple[np.ndarray, Any] | None:
    """Return the float values of a DequantizeLinear of a constant, and the type of its integers; None for others.

    With `pairs`, of a quantised float constant too.
    """
    if node.op_type != "DequantizeLinear" or any(name not in view.constants for name in node.input[1:] if name):
        return None
    source = node.input[0]
    before = view.producer.get(source)
    if source in view.constants:
        integers = view.array(source)
    elif pairs and before is not None and before.op_type == "QuantizeLinear" and before.input[0] in view.constants:
        scale = _scales_of(view.array(before.input[1]), view.array(before.input[0]).ndim, before)
        rounded = np.rint(view.array(before.input[0]) / scale)
        integers = np.clip(rounded, *_LIMITS).astype(np.int8)
    else:
        return None
    if integers.dtype not in (np.int8, np.int32):
        return None
    scale = _scales_of(view.array(node.input[1]), integers.ndim, node)
    zero: Any = 0
    if len(node.input) > 2 and node.input[2]:
        zero = _scales_of(view.array(node.input[2]).astype(np.int64), integers.ndim, node)
    return ((integers.astype(np.int64) - zero) * scale).astype(np.float32), integers.dtype


def _scales_of(values: np.ndarray, rank: int, node: Any) -> np.ndarray:
    """Return the scales or zero points of a Q/DQ node in a shape that is broadcast to a tensor of this rank."""
    return along_axis(values, int(attribute(node, "axis", 1)), rank)


def _pair(model: Any, node: Any, constant: np.ndarray) -> list[Any]:
    """Return the Q/DQ nodes that replace the DequantizeLinear of an integer constant."""
    from onnx import helper

    name = node.output[0]
    source, stored, zero = f"{name}.values", f"{name}.stored", f"{name}.zero_point"
    _add_constant(model, constant, source)
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    _add_constant(model, np.zeros(tuple(scale.dims), np.int8), zero)
    axis = attribute(node, "axis", None)
    attributes = {} if axis is None or not scale.dims else {"axis": axis}
    label = node.name or name
    return [
        helper.make_node(
            "QuantizeLinear", [source, node.input[1], zero], [stored], name=f"{label}/Quantize", **attributes
        ),
        helper.make_node("DequantizeLinear", [stored, node.input[1], zero], [name], name=label, **attributes),
    ]


def _add_constant(model: Any, value: np.ndarray, name: str) -> None:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _merge_identities(model: Any) -> None:
    """Remove each Identity after a Clip; the Clip computes its result, unless several nodes read the Clip."""
    view = GraphView(model)
    kept = []
    for node in view.nodes:
        clip = view.producer.get(node.input[0]) if node.op_type == "Identity" and node.input else None
        if clip is not None and clip.op_type == "Clip" and len(view.readers[node.input[0]]) == 1:
            clip.output[0] = node.output[0]
        else:
            kept.append(node)
    replace_nodes(model, kept)
