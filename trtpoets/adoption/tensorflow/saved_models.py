"""Reads SavedModels of TensorFlow 1 and 2: checks their operators, and chooses the signature for photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.tensorflow.execution import Run, frozen, runner
from trtpoets.adoption.tensorflow.frozen_graphs import LARGEST, outputs_error, require_no_detector
from trtpoets.adoption.tensorflow.graph import ancestors, attribute, data_inputs, node_of
from trtpoets.adoption.tensorflow.leading import adds_axis
from trtpoets.adoption.tensorflow.operators import require_harmless_meta_graph
from trtpoets.core.errors import BadArtefact, first_line
from trtpoets.core.optional import tensorflow
from trtpoets.core.reading import read_bytes

SAVED_MODEL = "saved_model.pb"

_FLOATS = (1, 2, 14, 19)
_STRING = 7
"""TensorFlow's numbers of types (types.proto)."""

_MAX_VARIABLES = 2 << 30


@dataclass(frozen=True)
class Signature:
    """The signature of a SavedModel for photos. `run` calls it; `input` and `output` are the names of its arguments.

    `definition` is its graph with constants for variables, `output_tensor` the output in it. `run` is None if it has
    inputs that the scores don't depend on. `labels` are the names of the classes, if another output always has them.
    """

    definition: Any
    output_tensor: str
    input: str
    output: str
    run: Run | None
    writer: str
    labels: tuple[str, ...] = ()


def signature_of(folder: Path, allow_code: bool) -> Signature:
    """Load a SavedModel and freeze its signature for photos. Raises BadArtefact, NotReadable, OSError."""
    tf = tensorflow()
    meta_graph = _meta_graph(folder, allow_code)
    key = _chosen(meta_graph, folder)
    try:
        loaded = tf.saved_model.load(str(folder), tags=list(meta_graph.meta_info_def.tags))
        function = loaded.signatures[key]
    except Exception as error:
        raise BadArtefact(
            f"{folder} can't be loaded by TensorFlow: {first_line(error)}",
            hint="copy the whole folder again, with variables/ and assets/",
            code="TP9115",
        ) from error
    signature = meta_graph.signature_def[key]
    arguments, output = _names(signature, folder)

    def call(value: Any) -> Any:
        return function(**{arguments[0]: value})[output]

    call.keep_alive = loaded  # type: ignore[attr-defined]
    definition, _, tensors = frozen(function)
    # The outputs of a signature are in the order of their names.
    by_name = dict(zip(sorted(function.structured_outputs), tensors, strict=True))
    argument = arguments[0] if len(arguments) == 1 else _needed(definition, by_name[output], arguments, folder)
    texts = [by_name[name] for name, info in sorted(signature.outputs.items()) if info.dtype == _STRING]
    version = meta_graph.meta_info_def.tensorflow_version
    return Signature(
        definition,
        by_name[output],
        argument,
        output,
        runner(call) if len(arguments) == 1 else None,
        f"tensorflow {version}" if version else "",
        next((labels for labels in (_constant_texts(definition, tensor) for tensor in texts) if labels), ()),
    )


def _needed(definition: Any, output: str, arguments: Sequence[str], folder: Path) -> str:
    """Return the one input that the scores depend on: others, such as the key of a photo, are only passed on."""
    nodes = {node.name: node for node in definition.node}
    needed = [name for name in ancestors(nodes, [output]) if nodes[name].op == "Placeholder"]
    if len(needed) != 1:
        raise BadArtefact(
            f"{folder} has {len(arguments)} inputs ({', '.join(arguments)}), and its scores depend on "
            f"{len(needed)} of them; a classifier of photos has one",
            hint="export the network with an input of pixels, float32 [None, height, width, 3]",
            code="TP9120",
        )
    return needed[0]


_REPEATING = ("Identity", "Tile", "ExpandDims", "Reshape", "BroadcastTo", "Pack", "Const")
"""Operators that make a row of texts for each photo of a constant list."""


def _constant_texts(definition: Any, output: str) -> tuple[str, ...]:
    """Return the texts of an output that is the same list for every photo, such as names of classes; else ()."""
    from tensorflow.python.framework import tensor_util

    nodes = {node.name: node for node in definition.node}
    name = node_of(output)
    for _ in range(len(nodes)):
        node = nodes[name]
        if node.op not in _REPEATING and not adds_axis(node):
            return ()
        if node.op == "Const":
            values = np.asarray(tensor_util.MakeNdarray(attribute(node, "value").tensor)).reshape(-1)
            texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else "" for value in values]
            return tuple(texts) if len(texts) > 1 and len(texts) == len(set(texts)) and all(texts) else ()
        name = node_of(data_inputs(node)[0])
    return ()


def _meta_graph(folder: Path, allow_code: bool) -> Any:
    """Return the MetaGraphDef to serve, after checking what loading it runs and how large its variables are."""
    tensorflow()  # imports it quietly
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    path = folder / SAVED_MODEL
    try:
        saved.ParseFromString(read_bytes(path, LARGEST))
    except (DecodeError, ValueError) as error:
        raise BadArtefact(
            f"{path} is not a complete SavedModel: {error}", hint="copy the whole folder again", code="TP9116"
        ) from error
    graphs = list(saved.meta_graphs)
    chosen = [graph for graph in graphs if "serve" in graph.meta_info_def.tags] or graphs
    # Of several for one purpose, such as those for TPUs, the first has the fewest tags.
    chosen.sort(key=lambda graph: len(graph.meta_info_def.tags))
    if not chosen:
        raise BadArtefact(f"{path} contains no graph", hint="export the network again", code="TP9117")
    if not allow_code:
        require_harmless_meta_graph(chosen[0], str(folder))
    size = sum(file.stat().st_size for file in folder.glob("variables/*") if file.is_file())
    if size > _MAX_VARIABLES:
        raise BadArtefact(
            f"the variables of {folder} have {size / 1e9:.1f} GB; TensorFlow's graphs contain at most 2 GB",
            hint="export the network to ONNX with external data",
            code="TP9118",
        )
    return chosen[0]


def _chosen(meta_graph: Any, folder: Path) -> str:
    """Return the key of the signature for photos: serving_default, or the only one that takes one image."""
    signatures = {key: value for key, value in meta_graph.signature_def.items() if not key.startswith("__saved_model")}
    if "serving_default" in signatures and signatures["serving_default"].inputs:
        return "serving_default"
    images = [key for key, value in signatures.items() if len(value.inputs) == 1 and value.outputs]
    if len(images) == 1:
        return str(images[0])
    what = f"several signatures ({', '.join(sorted(images))})" if images else "no signature with one input"
    raise BadArtefact(
        f"{folder} has {what}, and none is called serving_default",
        hint="save it again with one: tf.saved_model.save(model, FOLDER, signatures={'serving_default': FUNCTION})",
        code="TP9119",
    )


def _names(signature: Any, folder: Path) -> tuple[list[str], str]:
    """Return the names of the inputs and that of the output with scores. Raises BadArtefact unless there is one.

    Outputs of text and whole numbers, such as the names of the classes, are not counted beside scores.
    """
    require_no_detector(list(signature.outputs), str(folder))
    outputs = sorted(name for name, info in signature.outputs.items() if info.dtype in _FLOATS)
    if len(outputs) != 1:
        raise outputs_error(outputs or sorted(signature.outputs), str(folder))
    return sorted(signature.inputs), outputs[0]
