"""Cuts a GraphDef to one image input and one output: bypasses what only training needs, and decoders of photos."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from trtpoets.adoption.contract import Geometry
from trtpoets.adoption.foreign import FixedGeometry, FixedPixels
from trtpoets.adoption.tensorflow.convertible import clear_notes
from trtpoets.adoption.tensorflow.decoders import DECODERS, EXPORT_PIXELS, NOT_ANTIALIASED, Decoded, without_decoder
from trtpoets.adoption.tensorflow.execution import shape_of
from trtpoets.adoption.tensorflow.explicit_padding import separate_padding
from trtpoets.adoption.tensorflow.graph import (
    Graph,
    Nodes,
    ancestors,
    attribute,
    data_inputs,
    node_of,
    pruned,
    replaced_by_placeholder,
)
from trtpoets.adoption.tensorflow.leading import formula, pixels_of, scaling_after
from trtpoets.adoption.tensorflow.operators import require_harmless_graph
from trtpoets.core.errors import BadArtefact
from trtpoets.core.original import Evidence, Source

_STRING, _FLOAT, _BOOL = 7, 1, 10
"""TensorFlow's numbers of types (types.proto)."""

_MAX_CONSTANTS = 4 << 30
"""Largest size in bytes of all constants, counted as float32."""

_LOOPS = ("While", "StatelessWhile", "Enter", "RefEnter", "LoopCond", "NextIteration", "For", "TensorArrayV3")
_BRANCHES = {"If": 0, "StatelessIf": 0, "Case": 0, "StatelessCase": 0, "Switch": 1, "RefSwitch": 1}
"""Operators for branches, with the number of the input that chooses."""

_TRAINING = re.compile(r"(^|[/_])(is_?train\w*|phase(_train)?|train_phase|training|learning_phase|train_mode)$", re.I)
_KEPT = re.compile(r"(^|[/_])(keep_?prob\w*|dropout_keep\w*)$", re.I)
_DROPPED = re.compile(r"(^|[/_])(drop_?out(_rate|_prob)?|drop_?rate)$", re.I)


@dataclass(frozen=True)
class Cut:
    """A graph with one input of pixels, of the shape `shape`. `fixed` and `geometry` are those of a removed decoder.

    `separated` is the number of convolutions whose padding became a node of its own (`explicit_padding.py`).
    """

    graph: Graph
    shape: list[int | None]
    fixed: FixedPixels | None = None
    geometry: FixedGeometry | None = None
    separated: int = 0


def cut_to_image(definition: Any, output: str, source: str, allow_code: bool) -> Cut:
    """Return the part of a GraphDef from its image input to `output`, a tensor such as "softmax:0".

    Raises BadArtefact if it has no image input, several inputs, loops, or operators that reach beyond the network.
    """
    definition = pruned(definition, [output])
    _require_small_constants(definition, source)
    clear_notes(definition)
    separated = separate_padding(definition)
    _bypass_defaults(definition)
    _set_training_inputs(definition)
    definition = pruned(definition, [output])
    if not allow_code:
        require_harmless_graph(definition, source)
    decoded: Decoded | None = None
    placeholders = [node for node in definition.node if node.op == "Placeholder"]
    texts = [node for node in placeholders if attribute(node, "dtype").type == _STRING]
    if len(placeholders) == 1 and texts:
        decoded = _behind_scaling(definition, output) or without_decoder(definition, output, source)
        definition = decoded.definition
        placeholders = [node for node in definition.node if node.op == "Placeholder"]
    if len(placeholders) != 1:
        raise _inputs_error(placeholders, source)
    _require_no_control_flow(definition, source)
    name = placeholders[0].name
    shape = shape_of(definition, f"{name}:0")
    if shape is None:
        shape = _assumed_shape(definition, name)
    if shape and len(attribute(placeholders[0], "shape").shape.dim) != len(shape):
        dtype = attribute(placeholders[0], "dtype").type
        definition = replaced_by_placeholder(definition, name, dtype, shape)
    fixed, geometry = (None, None) if decoded is None else (decoded.pixels, decoded.geometry)
    return Cut(Graph(definition, name, output), shape, fixed, geometry, separated)


def _require_small_constants(definition: Any, source: str) -> None:
    """Raise BadArtefact if the constants need much memory: a few bytes can declare an array of any size."""
    total = 0.0
    for node in definition.node:
        if node.op == "Const":
            total += 4 * math.prod(max(0, dim.size) for dim in attribute(node, "value").tensor.tensor_shape.dim)
    if total > _MAX_CONSTANTS:
        raise BadArtefact(
            f"the weights in {source} have {total / 1e9:,.1f} GB; TensorFlow's graphs contain at most 2 GB",
            hint="export the network to ONNX with external data",
            code="TP9143",
        )


def _bypass_defaults(definition: Any) -> None:
    """Make each PlaceholderWithDefault an Identity, or the Placeholder if the graph has no other image input.

    retrain.py of TensorFlow for Poets has one at the features, which it feeds in training.
    """
    nodes = {node.name: node for node in definition.node}
    plain = any(node.op == "Placeholder" and len(attribute(node, "shape").shape.dim) == 4 for node in definition.node)
    for node in definition.node:
        if node.op != "PlaceholderWithDefault":
            continue
        is_image = not plain and len(attribute(node, "shape").shape.dim) == 4
        constant = not any(nodes[name].op == "Placeholder" for name in ancestors(nodes, [node.name]))
        dtype = attribute(node, "dtype").type
        if is_image and constant:
            node.op = "Placeholder"
            del node.input[:]
            continue
        node.op = "Identity"
        node.attr.clear()
        node.attr["T"].type = dtype


def _set_training_inputs(definition: Any) -> None:
    """Replace inputs for training, such as the share that dropout keeps, by their values at inference."""
    from tensorflow.python.framework import tensor_util

    for node in definition.node:
        if node.op != "Placeholder":
            continue
        dtype, value = attribute(node, "dtype").type, None
        if dtype == _BOOL and _TRAINING.search(node.name):
            value = tensor_util.make_tensor_proto(False)
        elif dtype == _FLOAT and (_KEPT.search(node.name) or _DROPPED.search(node.name)):
            value = tensor_util.make_tensor_proto(1.0 if _KEPT.search(node.name) else 0.0)
        if value is not None:
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = dtype
            node.attr["value"].tensor.CopyFrom(value)


def _behind_scaling(definition: Any, output: str) -> Decoded | None:
    """Replace a decoder of one photo, and the resize and scaling after it, by an input of pixels; else return None."""
    nodes = {node.name: node for node in definition.node}
    decoders = [node for node in definition.node if node.op in DECODERS]
    scaling = scaling_after(nodes, decoders[0].name) if len(decoders) == 1 else None
    shape = shape_of(definition, f"{scaling.last}:0") if scaling is not None else None
    if scaling is None or scaling.last == decoders[0].name or shape is None or len(shape) != 4:
        return None
    dtype, image = _type_of(nodes, scaling.last), [*shape[:3], shape[3] or 3]
    cut = pruned(replaced_by_placeholder(definition, scaling.last, dtype, image), [output])
    # Inside a loop, the number of photos is still taken from their bytes.
    if any(node.op in DECODERS for node in cut.node) or sum(node.op == "Placeholder" for node in cut.node) > 1:
        return None
    text = (
        f"the graph decodes photos itself ({decoders[0].name}) and computes {formula(scaling)} before "
        f"{scaling.last}, which is the input now"
    )
    about = f"the graph decodes photos itself ({decoders[0].name}) and stretches them"
    averages = all(nodes[name].op == "ResizeArea" for name in scaling.nodes if nodes[name].op.startswith("Resize"))
    about += "" if averages else ", without antialiasing"
    return Decoded(
        cut,
        FixedPixels(pixels_of(scaling), Evidence("pixels", Source.GRAPH, text), channels_known=True),
        FixedGeometry(Geometry(), Evidence("resize", Source.GRAPH, about), "" if averages else NOT_ANTIALIASED)
        if scaling.resized
        else None,
    )


def _type_of(nodes: Nodes, name: str) -> int:
    """Return the type of the output of a node that computes, casts or resizes."""
    node = nodes[name]
    if node.op == "Cast":
        return int(attribute(node, "DstT").type)
    if node.op.startswith("Resize") and node.op != "ResizeNearestNeighbor":
        return _FLOAT
    return int(attribute(node, "T").type)


def _assumed_shape(definition: Any, name: str) -> list[int | None]:
    """Return the shape of an input that declares none, by the convolution that takes it: its weights have channels."""
    nodes = {node.name: node for node in definition.node}
    last = scaling_after(nodes, name).last
    for node in definition.node:
        if node.op == "Conv2D" and node_of(data_inputs(node)[0]) in (last, name):
            weights = shape_of(definition, data_inputs(node)[1])
            if weights is not None and len(weights) == 4:
                return [None, None, None, weights[2]]
    return []


def _require_no_control_flow(definition: Any, source: str) -> None:
    """Raise BadArtefact for loops, and for branches that depend on the photo; others are folded when it is exported."""
    nodes = {node.name: node for node in definition.node}
    for node in definition.node:
        if node.op in _LOOPS:
            raise BadArtefact(
                f"{source} contains a loop ({node.op} {node.name}), as networks for sequences do; trtpoets takes "
                "networks without control flow",
                hint="export the network for one photo, without tf.map_fn, tf.while_loop and recurrent layers",
                code="TP9107",
            )
        condition = data_inputs(node)[_BRANCHES[node.op]] if node.op in _BRANCHES else None
        if condition and any(nodes[name].op == "Placeholder" for name in ancestors(nodes, [condition])):
            raise BadArtefact(
                f"{source} contains a branch ({node.op} {node.name}) that depends on the photo; trtpoets takes "
                "networks without control flow",
                hint="export the network without tf.cond",
                code="TP9144",
            )


def _inputs_error(placeholders: list[Any], source: str) -> BadArtefact:
    if not placeholders:
        return BadArtefact(
            f"{source} has no input (Placeholder) that its output depends on",
            hint=EXPORT_PIXELS,
            code="TP9108",
        )
    names = ", ".join(node.name for node in placeholders[:6])
    return BadArtefact(
        f"{source} has {len(placeholders)} inputs ({names}); a classifier of photos has one",
        hint=EXPORT_PIXELS,
        code="TP9109",
    )
