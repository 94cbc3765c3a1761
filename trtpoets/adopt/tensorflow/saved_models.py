"""Reads SavedModels of TensorFlow 1 and 2: checks their operators, and chooses the signature for photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtpoets.adopt.tensorflow.execution import Run, frozen, runner
from trtpoets.adopt.tensorflow.frozen_graphs import LARGEST, outputs_error, require_no_detector
from trtpoets.adopt.tensorflow.operators import require_harmless_meta_graph
from trtpoets.core.errors import BadArtefact, first_line
from trtpoets.core.optional import tensorflow
from trtpoets.core.reading import read_bytes

SAVED_MODEL = "saved_model.pb"

_FLOATS = (1, 2, 14, 19)
_MOST_VARIABLES = 2 << 30


@dataclass(frozen=True)
class Signature:
    """The signature of a SavedModel for photos. `run` calls it; `input` and `output` are the names of its arguments.

    `definition` is its graph with constants for variables, `output_tensor` the output in it.
    """

    definition: Any
    output_tensor: str
    input: str
    output: str
    run: Run
    writer: str


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
    argument, output = _names(meta_graph.signature_def[key], folder)

    def call(value: Any) -> Any:
        return function(**{argument: value})[output]

    call.keep_alive = loaded  # type: ignore[attr-defined]
    definition, _, tensors = frozen(function)
    # The outputs of a signature are in the order of their names.
    tensor = tensors[sorted(function.structured_outputs).index(output)]
    version = meta_graph.meta_info_def.tensorflow_version
    return Signature(definition, tensor, argument, output, runner(call), f"tensorflow {version}" if version else "")


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
    if size > _MOST_VARIABLES:
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


def _names(signature: Any, folder: Path) -> tuple[str, str]:
    """Return the names of the input and the output of a signature. Raises BadArtefact unless there is one of each.

    Outputs of text and whole numbers, such as the names of the classes, are not counted beside scores.
    """
    require_no_detector(list(signature.outputs), str(folder))
    if len(signature.inputs) != 1:
        raise BadArtefact(
            f"{folder} has {len(signature.inputs)} inputs ({', '.join(sorted(signature.inputs))}); a classifier of "
            "photos has one",
            hint="export the network with an input of pixels, float32 [None, height, width, 3]",
            code="TP9120",
        )
    outputs = sorted(name for name, info in signature.outputs.items() if info.dtype in _FLOATS)
    if len(outputs) != 1:
        raise outputs_error(outputs or sorted(signature.outputs), str(folder))
    return next(iter(signature.inputs)), outputs[0]
