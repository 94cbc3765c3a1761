"""Wraps the network of another program: photos uint8 (N, H, W, 3) in RGB -> scores float32 (N, C)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.onnx.batch import with_proven_batch
from trtpoets.adoption.onnx.float32 import HALF_TOLERANCE, computes_in_half, to_float32
from trtpoets.adoption.onnx.opened import constants_as_initializers, open_onnx
from trtpoets.adoption.onnx.opset import with_opset
from trtpoets.adoption.onnx.photo_nodes import add_photo_nodes
from trtpoets.adoption.onnx.score_nodes import add_score_nodes
from trtpoets.adoption.onnx.tensors import before, needed_nodes
from trtpoets.convert.graph.graph_edits import replace_nodes
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.naming import canonical
from trtpoets.convert.graph.photo_scaling import with_scaling_by_planes
from trtpoets.convert.int8.own_scales import has_activation_pairs, without_integer_constants, without_pairs
from trtpoets.convert.int8.quantised_files import is_quantised
from trtpoets.convert.onnx_export import folded, metadata_of_spec
from trtpoets.convert.parity import LIMIT
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.onnx_file import check_onnx, open_session, write_onnx
from trtpoets.core.original import Layout, Original, scores_from_output, values_from_photos
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, ModelSpec, OnnxModel, Precision
from trtpoets.device.original_onnx import OnnxNetwork

_OWN_PREFIX = "trtpoets_"
"""How the names of tensors begin that are put before and after a network."""

_FLOAT_TOLERANCE = 1e-4
_ROUNDED_TOLERANCE = 0.1
"""Largest differences of a score for random photos, for float32 and for rounded types (float16, integers)."""


def fp32_from_onnx(
    source: Path | ForeignModel, spec: ModelSpec, out: Path, opset: int = 17, rounded: Path | None = None
) -> tuple[OnnxModel, float]:
    """Write fp32.onnx of an ONNX file of another program; `spec.original` describes its input and output.

    External data is embedded. The scores are compared with those of the file on random photos. Of a file with Q/DQ
    pairs, fp32.onnx clips values as the pairs do, and does not round them; the network with its pairs is written to
    `rounded`. Also returns by how much scores may differ from those of the file: more than the order of additions
    causes if the file computes in float16, because its own scores are rounded.
    Raises ConversionFailed if an operator cannot be converted, if photos of a batch are mixed or if the scores
    differ; BadArtefact, MissingArtefact, StorageFailed.
    """
    path = source if isinstance(source, Path) else source.path
    original = _original(spec)
    model = open_onnx(path).model
    half = computes_in_half(model)  # before its types are converted
    exact = not (half or is_quantised(model))
    output = _without_quantised_ends(model, original)
    wrapped = wrap_network(model, original.input.name, output, spec, out, opset)
    _require_same_scores(path, wrapped, original, exact=exact)
    tolerance = HALF_TOLERANCE if half else LIMIT
    network = check_onnx(out)
    if not is_quantised(network):
        return wrapped, tolerance
    network = type(network).FromString(network.SerializeToString())
    own_pairs = has_activation_pairs(network)
    without_integer_constants(network, weights=own_pairs)
    if own_pairs and rounded is not None:
        write_onnx(network, rounded)
    write_onnx(without_pairs(network) if own_pairs else network, out)
    return wrapped, tolerance


def has_own_pairs(path: Path, original: Original) -> bool:
    """Return whether the network of an ONNX file quantises values inside, with Q/DQ pairs that `rounded` files keep."""
    model = open_onnx(path).model
    output = _without_quantised_ends(model, original)
    _keep_only(model, original.input.name, output)
    return has_activation_pairs(model)


def wrap_network(
    model: Any,
    input_name: str,
    output_name: str,
    spec: ModelSpec,
    out: Path,
    opset: int = 17,
    layout: Layout | None = None,
) -> OnnxModel:
    """Write fp32.onnx of a network: a ModelProto from the values of pixels, in float, to what it returns.

    The network takes (N, C, H, W) or (N, H, W, C), by `layout` or else by `spec.original.input`; its height, width and
    batch may be fixed or not. Its values are those of `core/original.values_from_photos`, and `spec.original.output`
    says what it returns, as real values. The ModelProto is changed. A batch that cannot be made dynamic stays fixed.
    Raises ConversionFailed if an operator cannot be converted or if photos of a batch are mixed; StorageFailed.
    """
    from onnx import TensorProto

    original = _original(spec)
    layout = layout or original.input.layout
    constants_as_initializers(model)
    input_name, output_name = _rename_taken(model, input_name, output_name)
    _keep_only(model, input_name, output_name)
    model = with_opset(model, opset, original.file)
    _keep_only(model, input_name, output_name)
    to_float32(model)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    _fix_size(model, spec, layout, original)
    model = with_proven_batch(model, original.file)
    add_photo_nodes(model, spec, original, layout)
    add_score_nodes(model, original.output)
    metadata = metadata_of_spec(spec, Precision.FP32)
    write_onnx(canonical(with_scaling_by_planes(folded(model)), INPUT_NAME, OUTPUT_NAME, metadata), out)
    return OnnxModel(out, Precision.FP32, spec)


def _original(spec: ModelSpec) -> Original:
    if spec.original is None:
        raise ValueError(f"model.json of {spec.name} describes no original")
    return spec.original


def _rename_taken(model: Any, input_name: str, output_name: str) -> tuple[str, str]:
    """Rename tensors that have names which the wrapped network uses. Returns the names of input and output."""
    graph = model.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)} | {input_name, output_name}
    taken = {name for name in used if name in (INPUT_NAME, OUTPUT_NAME) or name.startswith(_OWN_PREFIX)}
    if not taken:
        return input_name, output_name
    new = {}
    for name in sorted(taken):
        new[name] = f"original_{name}"
        while new[name] in used:
            new[name] = f"original_{new[name]}"
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = new.get(value.name, value.name)
    return new.get(input_name, input_name), new.get(output_name, output_name)


def _keep_only(model: Any, input_name: str, output_name: str) -> None:
    """Remove everything but one input and what computes one output."""
    graph = model.graph
    view = GraphView(model)
    nodes = needed_nodes(view, output_name)
    used = {name for node in nodes for name in node.input}
    kinds = {value.name: value for value in (*graph.output, *graph.value_info)}
    inputs = [value for value in graph.input if value.name == input_name]
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    output = type(inputs[0])()
    if output_name in kinds:
        output.CopyFrom(kinds[output_name])
    output.name = output_name
    replace_nodes(model, nodes)
    del graph.input[1:], graph.output[:], graph.sparse_initializer[:]
    graph.input[0].CopyFrom(inputs[0])
    graph.output.append(output)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
    assert len(constants) == len(graph.initializer)
    standard = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[1:]
    model.opset_import[0].CopyFrom(standard[0])


def _without_quantised_ends(model: Any, original: Original) -> str:
    """Remove the DequantizeLinear of an integer input and the QuantizeLinear of an integer output.

    Then the network takes and returns real values. Returns the name of its output.
    """
    from onnx import TensorProto

    view = GraphView(model)
    name, output = original.input.name, original.output.name
    if original.input.dtype in ("uint8", "int8"):
        for reader in view.readers.get(name, ()):
            if reader.node.op_type == "DequantizeLinear" and reader.index == 0:
                reader.node.op_type = "Identity"
                del reader.node.input[1:], reader.node.attribute[:]
        (value,) = (value for value in model.graph.input if value.name == name)
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        del model.graph.value_info[:]
    if np.dtype(original.output.dtype).kind in "iu":
        for tensor in before(view, output):
            node = view.producer.get(tensor)
            if node is not None and node.op_type == "QuantizeLinear":
                node.op_type = "Identity"
                del node.input[1:], node.attribute[:]
                del model.graph.value_info[:]
        for value in model.graph.output:
            if value.name == output:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
    return output


def _fix_size(model: Any, spec: ModelSpec, layout: Layout, original: Original) -> None:
    """Give the input the height, width and number of channels that the spec says."""
    (value,) = model.graph.input
    preprocess, channels = spec.preprocess, original.channels.number
    sizes = (preprocess.height, preprocess.width, channels)
    if layout is Layout.NCHW:
        sizes = (channels, preprocess.height, preprocess.width)
    dims = value.type.tensor_type.shape.dim
    for dim, size in zip(list(dims)[1:], sizes, strict=True):
        if dim.dim_value not in (0, size):
            raise ConversionFailed(
                f"the input {value.name} of {original.file} has an axis of {dim.dim_value}, not of {size}",
                hint="give the size, the channels and the layout of the file",
                code="TP9251",
            )
        dim.Clear()
        dim.dim_value = size
    # What the file says about other tensors may hold for its own size only.
    del model.graph.value_info[:]


def _require_same_scores(path: Path, wrapped: OnnxModel, original: Original, *, exact: bool) -> None:
    spec = wrapped.spec
    size = (spec.preprocess.height, spec.preprocess.width)
    photos = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    with OnnxNetwork(path, original.input, original.output, threads=1) as network:
        values = values_from_photos(photos, spec.preprocess, original.channels)
        expected = scores_from_output(network.infer(values), original.output)
    session = open_session(wrapped.path, 1)
    (scores,) = session.run([OUTPUT_NAME], {INPUT_NAME: photos})
    difference = float(np.abs(scores - expected).max())
    exact = exact and {original.input.dtype, original.output.dtype} <= {"float32", "float64"}
    if not difference <= (_FLOAT_TOLERANCE if exact else _ROUNDED_TOLERANCE):
        raise ConversionFailed(
            f"the wrapped network of {path} gives other scores than the file: the largest difference for random photos "
            f"is {difference:.2g}",
            hint="export it again with opset 17 and a dynamic batch",
            code="TP9252",
        )
