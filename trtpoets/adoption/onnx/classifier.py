"""Reads an ONNX classifier of another program: its input, its scores, and clues to its preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtpoets.adoption.foreign import Clues, ForeignModel
from trtpoets.adoption.onnx.fixed_pixels import fixed_pixels
from trtpoets.adoption.onnx.image_input import ImageInput, image_input
from trtpoets.adoption.onnx.opened import open_onnx
from trtpoets.adoption.onnx.probe import Prober
from trtpoets.adoption.onnx.refusals import require_classifier_metadata, require_no_detector, require_supported
from trtpoets.adoption.onnx.score_output import ScoreOutput, before_labels, score_output
from trtpoets.adoption.onnx.tensors import before, needed_nodes
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.core.onnx_file import metadata_of
from trtpoets.core.original import Format

_MAX_NODES = 2000
"""The largest number of nodes whose names are read to recognise the producer."""


def read_onnx_classifier(path: Path) -> ForeignModel:
    """Read an ONNX file with one image input and one output of class scores.

    The graph is run on three random images to find the shape and the range of its output.
    Raises BadArtefact, with what the file is instead, if it is not such a classifier or has operators that TensorRT
    cannot read; MissingArtefact if the file or its external data is missing; MissingDependency, StorageFailed.
    """
    opened = open_onnx(path)
    metadata = metadata_of(opened.model)
    require_classifier_metadata(path, metadata)
    view = GraphView(opened.model)
    require_no_detector(path, view)
    image = image_input(path, view)
    needed = needed_nodes_of_outputs(view)
    removed = removed_quantisation(view, image.input.name, view.outputs)
    require_supported(path, opened.model, needed, removed, opened.control_flow)
    prober = Prober(path, opened.model, image)
    scores = score_output(path, view, prober)
    return ForeignModel(
        path=path,
        format=Format.ONNX,
        sha256=opened.sha256,
        height=prober.height,
        width=prober.width,
        channels=image.channels,
        input=image.input,
        output=scores.output,
        clues=_clues(opened.model, metadata, scores, image),
        fixed=fixed_pixels(view, image),
    )


def needed_nodes_of_outputs(view: GraphView) -> list[Any]:
    """Return the nodes that compute the outputs, without those that turn scores into labels."""
    nodes: dict[int, Any] = {}
    for value in view.graph.output:
        tensor, _ = before_labels(view, value)
        nodes.update({id(node): node for node in needed_nodes(view, tensor)})
    label_nodes = ("ArrayFeatureExtractor", "LabelEncoder")
    return [node for node in nodes.values() if node.op_type not in label_nodes]


def removed_quantisation(view: GraphView, name: str, outputs: list[str]) -> frozenset[str]:
    """Return the outputs of the Q/DQ nodes at the ends of a graph; these nodes are removed when it is wrapped.

    They are the DequantizeLinear nodes that read the integer input `name`, and the QuantizeLinear nodes that compute
    the integer `outputs`.
    """
    ends = {reader.node.output[0] for reader in view.readers.get(name, ()) if reader.node.op_type == "DequantizeLinear"}
    for output in outputs:
        for tensor in before(view, output):
            node = view.producer.get(tensor)
            if node is not None and node.op_type == "QuantizeLinear":
                ends.add(tensor)
    return frozenset(ends)


def _writer_in_graph(name: str) -> str:
    """Return the writer that the name of a graph states: paddle2onnx may name no producer."""
    return "PaddlePaddle" if "paddlepaddle" in name.lower() else ""


def _clues(model: Any, metadata: dict[str, str], scores: ScoreOutput, image: ImageInput) -> Clues:
    """Return what identifies the producer of a file.

    Keys of the clues' metadata that begin with "onnx." are added here; the others are those of the file's `metadata`.
    """
    graph_fields = {
        "onnx.graph": model.graph.name,
        "onnx.doc_string": model.doc_string or model.graph.doc_string,
        "onnx.domain": model.domain,
        "onnx.input": image.input.name,
        "onnx.outputs": "\n".join(value.name for value in model.graph.output),
    }
    return Clues(
        writer=f"{model.producer_name} {model.producer_version}".strip() or _writer_in_graph(model.graph.name),
        nodes=tuple(node.name or node.op_type for node in model.graph.node[:_MAX_NODES]),
        metadata={**{key: text for key, text in graph_fields.items() if text}, **metadata},
        files={"labels.txt": "\n".join(scores.labels)} if scores.labels else {},
    )
