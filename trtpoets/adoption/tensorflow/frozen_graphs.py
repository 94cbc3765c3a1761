"""Reads frozen graphs of TensorFlow 1 (GraphDef, `.pb`): finds the output of the classifier in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtpoets.adoption.tensorflow.graph import Graph, Nodes, consumers_of, data_inputs, final_node, node_of
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import needs, tensorflow
from trtpoets.core.reading import read_bytes
from trtpoets.core.shell_commands import quote

LARGEST = (1 << 31) - 1
"""Largest graph in bytes: protobuf reads no larger message."""

NAMED_OUTPUTS = ("final_result",)
"""Outputs that a program always names so: retrain.py of TensorFlow for Poets."""

_RANKED = ("Softmax", "Sigmoid", "LogSoftmax", "BiasAdd", "MatMul", "Add", "AddV2", "Reshape", "Squeeze")
"""Operators that end a classifier, the most likely one first."""

NO_OUTPUTS = (
    *("Assert", "NoOp", "Assign", "Save", "SaveV2", "RestoreV2", "MergeSummary", "ScalarSummary", "HistogramSummary"),
    *("ImageSummary", "Const", "Placeholder", "PlaceholderWithDefault", "VarHandleOp", "ReadVariableOp", "ArgMax"),
    *("TopKV2", "InTopK", "Mean", "Equal", "VariableV2", "IsVariableInitialized", "AssignVariableOp", "Cast"),
)
"""Operators whose results are not the output of a classifier: those for training, and decisions made of the scores."""


def graph_of_file(path: Path) -> Any:
    """Read a GraphDef. Raises BadArtefact, NotReadable, OSError."""
    tensorflow()  # imports it quietly
    with needs("train", reason="reading a TensorFlow graph"):
        from google.protobuf.message import DecodeError
        from tensorflow.core.framework.graph_pb2 import GraphDef
    definition = GraphDef()
    try:
        definition.ParseFromString(read_bytes(path, LARGEST))
    except (DecodeError, ValueError) as error:
        raise BadArtefact(
            f"{path} is not a complete TensorFlow graph: {error}", hint="copy it again from its source", code="TP9110"
        ) from error
    variables = [node.name for node in definition.node if node.op in ("VariableV2", "VarHandleOp", "Variable")]
    constants = sum(node.op == "Const" for node in definition.node)
    if variables and not constants > len(variables):
        raise BadArtefact(
            f"{path} has no weights: its variables, such as {variables[0]}, are in a checkpoint",
            hint="freeze it where the checkpoint is: python -m tensorflow.python.tools.freeze_graph --input_graph "
            f"{quote(path)} --input_binary --input_checkpoint CHECKPOINT --output_node_names OUTPUT "
            "--output_graph frozen.pb",
            code="TP9111",
        )
    return definition


def output_of(definition: Any, source: str) -> str:
    """Return the name of the output tensor of a classifier. Raises BadArtefact that names the candidates."""
    nodes = {node.name: node for node in definition.node}
    for name in NAMED_OUTPUTS:
        if name in nodes:
            return f"{name}:0"
    consumers = consumers_of(definition.node)
    sinks = [
        node
        for node in definition.node
        if _computes(node) and all(u.op in NO_OUTPUTS for u in consumers.get(node.name, []))
    ]
    require_no_detector([node.name for node in definition.node if node.name not in consumers], source)
    for operator in _RANKED:
        chosen = [node for node in sinks if _final(nodes, node).op == operator]
        chosen = [node for node in chosen if not _is_auxiliary(node.name)] or chosen
        if len(chosen) == 1:
            return f"{chosen[0].name}:0"
        if chosen:
            raise outputs_error([node.name for node in chosen], source)
    raise BadArtefact(
        f"{source} has no output that looks like a classifier's; its last nodes are "
        f"{', '.join(f'{node.name} ({node.op})' for node in sinks[:6]) or 'none'}",
        hint="give the graph of the classifier, without training",
        code="TP9112",
    )


def _computes(node: Any) -> bool:
    return node.op not in NO_OUTPUTS and bool(data_inputs(node))


def _final(nodes: Nodes, node: Any) -> Any:
    return final_node(nodes, f"{node.name}:0")


def _is_auxiliary(name: str) -> bool:
    """Whether a node belongs to a second classifier that only helps training, such as that of Inception v3."""
    return "aux" in name.lower()


def outputs_error(names: Sequence[str], source: str) -> BadArtefact:
    """The error for a network with several outputs."""
    return BadArtefact(
        f"{source} has {len(names)} outputs ({', '.join(names[:8])}); a classifier of photos has one",
        hint="export the network with its class scores as the only output",
        code="TP9113",
    )


_DETECTORS = ("detection_boxes", "detection_scores", "num_detections", "raw_detection", "nmsed_boxes")
_LANDMARKS = ("landmark", "keypoint", "heatmap", "pose_")


def require_no_detector(outputs: Sequence[str], source: str) -> None:
    """Raise BadArtefact if the names of the outputs are those of an object detector, or of a network for landmarks."""
    for words, kind in ((_DETECTORS, "an object detector"), (_LANDMARKS, "a network for landmarks")):
        for name in outputs:
            if any(word in name.lower() for word in words):
                raise BadArtefact(
                    f"{source} is {kind}: it has the output {name}; trtpoets takes classifiers of whole photos",
                    hint="give a classifier; for other networks use trtexec of TensorRT",
                    code="TP9114",
                )


def require_no_suppression(graph: Graph, source: str) -> None:
    """Raise BadArtefact if a graph suppresses overlapping boxes, as object detectors do."""
    for node in graph.definition.node:
        if node.op.startswith(("NonMaxSuppression", "CombinedNonMaxSuppression")):
            require_no_detector([f"detection_boxes of {node_of(node.name)}"], source)
