"""Finds the output of an ONNX graph that has the scores, and what its values are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.onnx.refusals import not_one_output, require_no_embedding
from trtpoets.adoption.onnx.tensors import TRANSPARENT, before, quantisation
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.core.errors import BadArtefact
from trtpoets.core.original import Answers, OriginalOutput

_ENDS = {
    "Softmax": Answers.PROBABILITIES,
    "LogSoftmax": Answers.LOG_PROBABILITIES,
    "Sigmoid": Answers.SIGMOID,
    "HardSigmoid": Answers.SIGMOID,
}
"""The operators at the end of a graph that say what its values are."""

_NORMALISING = (*TRANSPARENT, *_ENDS, "Log", "Exp", "QuantizeLinear", "DequantizeLinear", "Normalizer")

_MAPS = ("ZipMap", "Normalizer")
_LABELS = ("LabelEncoder", "ArgMax", "Cast", "Reshape", "Squeeze", "Identity")
"""Operators between the scores and an output of labels."""

_LABEL_OPERATORS = (
    *_NORMALISING,
    *("ArgMax", "ArgMin", "TopK", "ReduceMax", "ReduceSum", "Gather", "GatherElements", "GatherND", "Slice", "Equal"),
    *("Greater", "GreaterOrEqual", "Less", "Where", "Shape", "ArrayFeatureExtractor", "LabelEncoder", "ZipMap"),
    *("Binarizer", "Concat", "Expand", "Sub", "Add", "Mul", "Div", "Round"),
)
"""Operators that make labels, the best scores or other forms of the scores."""

_TOLERANCE = 0.01
"""Largest difference of a sum of probabilities from 1: those of float16 are rounded."""


@dataclass(frozen=True)
class ScoreOutput:
    """The output with the scores. `labels` are those that a ZipMap names, if there is one."""

    output: OriginalOutput
    labels: tuple[str, ...] = ()


Probe = Callable[[list[str]], Mapping[str, np.ndarray]]
"""Runs the graph on a few random images and returns tensors by name; the first axis is the image."""


def score_output(path: Path, view: GraphView, probe: Probe) -> ScoreOutput:
    """Return the output that has the scores. Raises BadArtefact, saying what the file is, if it is not certain."""
    names: dict[str, str] = {}  # tensor -> output of the file
    labels: tuple[str, ...] = ()
    for value in view.graph.output:
        tensor, more = before_labels(view, value)
        names.setdefault(tensor, value.name)
        labels = labels or more
    values = probe(list(names))
    vectors = {tensor: array for tensor, array in values.items() if _is_vector(array)}
    chosen = _chosen(view, list(names), vectors)
    if chosen is None:
        shapes = {names[tensor]: (1, *array.shape[1:]) for tensor, array in values.items()}
        raise not_one_output(path, view, shapes)
    output = vectors[chosen].reshape(len(vectors[chosen]), -1)
    require_no_embedding(path, view, chosen, names[chosen], output)
    scale, zero_point = _output_quantisation(view, chosen, output.dtype)
    rounding = output.shape[1] * scale / 2 if output.dtype.kind in "iu" else 0.0
    answers = _answers(path, view, chosen, (output.astype(np.float64) - zero_point) * scale, _TOLERANCE + rounding)
    if labels and len(labels) != output.shape[1]:
        labels = ()
    return ScoreOutput(OriginalOutput(chosen, output.dtype.name, output.shape[1], answers, scale, zero_point), labels)


def before_labels(view: GraphView, value: Any) -> tuple[str, tuple[str, ...]]:
    """Return the tensor of which an output with labels or maps is made, and the labels of the maps if there are any.

    It is the output itself unless that is a sequence, or consists of integers or strings.
    """
    from onnx import TensorProto

    kind, labels = value.type, ()
    is_tensor = kind.WhichOneof("value") == "tensor_type"
    discrete = is_tensor and kind.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32, TensorProto.STRING)
    operators = (*_MAPS, *(_LABELS if discrete else ()))
    tensor = value.name
    for name in before(view, value.name, operators):
        node = view.producer.get(name)
        tensor = name
        if node is not None and node.op_type == "ZipMap":
            labels = tuple(text.decode("utf-8", "replace") for text in attribute(node, "classlabels_strings", ()))
    return tensor, labels


def _is_vector(array: np.ndarray) -> bool:
    """Whether a tensor is one vector of numbers for each image: (N, K), also with further axes of length 1."""
    longer = [size for size in array.shape[1:] if size != 1]
    return array.dtype.name in ("float16", "float32", "float64", "uint8", "int8") and len(longer) <= 1


def _chosen(view: GraphView, tensors: list[str], vectors: Mapping[str, np.ndarray]) -> str | None:
    """Return the tensor of which all other outputs are other forms; None if there is none.

    Among logits and their softmax, the softmax is chosen.
    """
    best: tuple[int, str] | None = None
    for tensor in tensors:
        if tensor not in vectors:
            continue
        forms = set(before(view, tensor, _NORMALISING))
        if all(other == tensor or _is_made_of(view, other, forms) for other in tensors):
            rank = sum(node is not None and node.op_type in _ENDS for node in map(view.producer.get, forms))
            if best is None or rank > best[0]:
                best = (rank, tensor)
    return best[1] if best else None


def _is_made_of(view: GraphView, tensor: str, forms: set[str]) -> bool:
    """Whether a tensor is made of tensors in `forms` and constants only, by operators that make labels."""
    pending, seen, met = [tensor], set(), False
    while pending:
        name = pending.pop()
        if name in forms:
            met = True
            continue
        if not name or name in view.constants or name in seen:
            continue
        seen.add(name)
        node = view.producer.get(name)
        if node is None or node.op_type not in _LABEL_OPERATORS:
            return False
        pending.extend(node.input)
    return met


def _output_quantisation(view: GraphView, tensor: str, dtype: np.dtype[Any]) -> tuple[float, int]:
    """Return scale and zero point of an integer output: those of the QuantizeLinear that makes it."""
    if dtype.kind in "iu":
        for name in before(view, tensor):
            node = view.producer.get(name)
            if node is not None and node.op_type == "QuantizeLinear":
                numbers = quantisation(view, node)
                if numbers is not None and numbers[0].size == 1:
                    return float(numbers[0].reshape(-1)[0]), int(numbers[1].reshape(-1)[0])
    return 1.0, 0


def _answers(path: Path, view: GraphView, tensor: str, values: np.ndarray, tolerance: float) -> Answers:
    """Return what the values are, from the operator at the end of the graph, else from values of random images.

    Rows of non-negative numbers that sum to 1 are probabilities, all others logits.
    """
    finite = values[np.isfinite(values).all(axis=1)]
    if not len(finite):
        raise BadArtefact(
            f"{path} returns no numbers (NaN or infinity) for random images",
            hint="export it again in float32",
            code="TP9240",
        )
    by_values = np.all(finite >= -_TOLERANCE / 10) and np.all(np.abs(finite.sum(axis=1) - 1) < tolerance)
    end = _end(view, tensor)
    size = values.shape[1]
    if size == 1 and end is not Answers.SIGMOID:
        if end is not None:
            raise BadArtefact(
                f"{path} returns one number that is not a probability: it does not end in a Sigmoid",
                hint="export it with a Sigmoid at its end, or with one output for each class",
                code="TP9241",
            )
        return Answers.LOGITS  # of the second class, if the labels name two: `adopt` requires that
    if end is Answers.PROBABILITIES and not by_values:
        raise BadArtefact(
            f"{path} ends in a Softmax, but its outputs for a photo sum to {finite.sum(axis=1)[0]:.3g} instead of 1: "
            "the Softmax is computed along another axis than the classes",
            hint="export it with the Softmax along the axis of the classes, or without it",
            code="TP9242",
        )
    if end is not None:
        return end
    return Answers.PROBABILITIES if by_values else Answers.LOGITS


def _end(view: GraphView, tensor: str) -> Answers | None:
    for name in before(view, tensor, (*TRANSPARENT, "QuantizeLinear", "DequantizeLinear")):
        node = view.producer.get(name)
        if node is None:
            return None
        if node.op_type in _ENDS:
            return _ENDS[node.op_type]
        if node.op_type == "Log":
            source = view.producer.get(node.input[0])
            return Answers.LOG_PROBABILITIES if source is not None and source.op_type == "Softmax" else None
    return None
