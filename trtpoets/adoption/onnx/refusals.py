"""Recognises ONNX files that cannot be adopted as classifiers, and says what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.onnx.branches import CONTROL_FLOW, node_name
from trtpoets.adoption.onnx.tensors import before
from trtpoets.adoption.vectors import why_no_scores
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.multiply_adds import operator_name
from trtpoets.convert.int8.quantised_files import INTEGER_OPERATORS, unsuitable_quantisation
from trtpoets.core.errors import BadArtefact
from trtpoets.core.shell_commands import quote

STANDARD = ("", "ai.onnx")
_RECURRENT = ("LSTM", "GRU", "RNN")
_TASKS = {
    "detect": "a detector",
    "segment": "a segmentation network",
    "pose": "a pose estimator",
    "obb": "a detector of rotated boxes",
}
_FLOAT_FILE = "adopt the float file that it was made of: trtpoets quantize makes INT8 of it"
_REASONS = 2
"""Most reasons that an error about quantisation gives."""

_CLASSIFIER = "an image classifier with one output of class scores was expected"
_BOXES = re.compile(r"box|\bdets?\b|detection|anchors?\b", re.IGNORECASE)


def require_classifier_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Raise BadArtefact if Ultralytics' metadata names another task."""
    task = metadata.get("task", "")
    if task in _TASKS:
        raise BadArtefact(f"{path} is {_TASKS[task]}: its metadata says task={task}", hint=_CLASSIFIER, code="TP9220")


def require_supported(
    path: Path, model: Any, nodes: Sequence[Any], skipped: frozenset[str], control_flow: Mapping[str, str]
) -> None:
    """Raise BadArtefact if the nodes that compute the scores contain what neither trtpoets nor TensorRT can use.

    `skipped` are tensors at the ends of the graph whose quantisation is removed when it is wrapped. `control_flow`
    says why nodes of control flow can't be replaced, by their names.
    """
    names = {node.op_type for node in nodes}
    reasons = unsuitable_quantisation(model, nodes, skipped)
    if names & set(INTEGER_OPERATORS):
        raise BadArtefact(
            f"{path} is quantised with {', '.join(sorted(names & set(INTEGER_OPERATORS)))}, which TensorRT can't read",
            hint=_FLOAT_FILE,
            code="TP9221",
        )
    other = sorted({operator_name(node) for node in nodes if node.domain not in STANDARD})
    if any(name.startswith("com.microsoft.") for name in other):
        raise BadArtefact(
            f"{path} was optimised by ONNX Runtime and contains operators of its own: {', '.join(other)}",
            hint="adopt the ONNX file that it was made of",
            code="TP9222",
        )
    if other:
        raise BadArtefact(
            f"{path} contains custom operators: {', '.join(other)}",
            hint="export it with standard ONNX operators only",
            code="TP9223",
        )
    loops = [node for node in nodes if node.op_type in CONTROL_FLOW]
    if loops:
        name = node_name(loops[0])
        reason = control_flow.get(name, "it selects nodes at run time")
        operators = sorted({node.op_type for node in loops})
        raise BadArtefact(
            f"{path} contains control flow: {', '.join(operators)}. {loops[0].op_type} {name} can't be replaced by one "
            f"branch: {reason}",
            hint=f"export it with a fixed input size, and simplify it: python -m onnxsim {quote(path)} simple.onnx",
            code="TP9224",
        )
    recurrent = sorted(names & set(_RECURRENT))
    if recurrent:
        raise BadArtefact(
            f"{path} is a recurrent network ({', '.join(recurrent)}), such as those that read text",
            hint=_CLASSIFIER,
            code="TP9225",
        )
    if reasons:
        raise BadArtefact(
            f"{path} is quantised in a way that TensorRT can't read: {'; '.join(reasons[:_REASONS])}",
            hint=f"quantise it symmetrically, or {_FLOAT_FILE}",
            code="TP9226",
        )


def require_no_detector(path: Path, view: GraphView) -> None:
    """Raise BadArtefact if the graph, or a branch or loop in it, contains an operator of detectors or returns boxes."""
    outputs = [value.name for value in view.graph.output]
    returned = f", and returns {', '.join(outputs)}" if len(outputs) > 1 else ""
    controls = False
    for node in _with_branches(view.graph):
        controls = controls or node.op_type in CONTROL_FLOW
        if node.op_type in ("NonMaxSuppression", "RoiAlign", "MaxRoiPool") or "NMS" in node.op_type:
            raise BadArtefact(
                f"{path} is a detector: it contains {operator_name(node)}{returned}", hint=_CLASSIFIER, code="TP9227"
            )
    # Without control flow the graph can be run, which shows the shapes of the outputs too (`not_one_output`).
    if controls and len(outputs) > 1 and any(map(_BOXES.search, outputs)):
        raise BadArtefact(f"{path} is a detector: it returns {', '.join(outputs)}", hint=_CLASSIFIER, code="TP9600")


def _with_branches(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph, and those of the branches and loops inside it."""
    graphs = [graph]
    while graphs:
        for node in graphs.pop().node:
            yield node
            for entry in node.attribute:
                graphs += [entry.g] if entry.HasField("g") else list(entry.graphs)


def require_no_embedding(path: Path, view: GraphView, tensor: str, name: str, values: np.ndarray) -> None:
    """Raise BadArtefact if the output is a vector that describes a photo instead of scores of classes.

    That is certain for vectors of length 1 (an L2 normalisation at the end) and for outputs named so.
    """
    end = [node for node in (view.producer.get(one) for one in before(view, tensor)) if node is not None]
    last = end[-1] if end else None
    normalised = last is not None and (last.op_type == "LpNormalization" or _divides_by_norm(view, last))
    why = "it ends in an L2 normalisation" if normalised else why_no_scores(name, values)
    if why:
        raise BadArtefact(
            f"{path} is not a classifier: its output {name} with {values.shape[1]} values is an embedding or "
            f"landmarks, {why}",
            hint=_CLASSIFIER,
            code="TP9228",
        )


def _divides_by_norm(view: GraphView, node: Any) -> bool:
    if node.op_type != "Div":
        return False
    divisor = [view.producer.get(one) for one in before(view, node.input[1], ("Expand", "Clip", "Max", "Add"))]
    return any(one is not None and one.op_type == "ReduceL2" for one in divisor)


def not_one_output(path: Path, view: GraphView, shapes: Mapping[str, tuple[int, ...]]) -> BadArtefact:
    """Return the error for a file whose outputs are not those of a classifier, by their shapes for one photo."""
    text = ", ".join(f"{name} {_sizes(shape)}" for name, shape in shapes.items())
    first = next(iter(view.graph.input)).name
    if any(map(_BOXES.search, shapes)):
        return BadArtefact(f"{path} is a detector: its outputs are {text}", hint=_CLASSIFIER, code="TP9229")
    if any(len(shape) == 4 and min(shape[2:]) > 1 for shape in shapes.values()):
        return BadArtefact(
            f"{path} returns images or maps, as networks for segmentation, detection or restoration do: {text}",
            hint=_CLASSIFIER,
            code="TP9230",
        )
    if any(len(shape) == 3 for shape in shapes.values()):
        return BadArtefact(
            f"{path} is a detector or a sequence model: its outputs are {text}", hint=_CLASSIFIER, code="TP9231"
        )
    wanted = next(iter(shapes), "OUTPUT")
    extract = f"import onnx; onnx.utils.extract_model({str(path)!r}, 'one.onnx', [{first!r}], [{wanted!r}])"
    return BadArtefact(
        f"{path} has several outputs: {text}. One output of class scores was expected",
        hint=f"keep the one with the scores, such as {wanted}: python -c {quote(extract)}",
        code="TP9232",
    )


def _sizes(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
