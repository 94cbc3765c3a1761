"""Describes a network of another program by its file alone: layers, weights, labels, preprocessing. Nothing is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.adoption.foreign import Clues, ForeignModel
from trtpoets.adoption.known import known_facts
from trtpoets.adoption.labels import labels_for
from trtpoets.adoption.producers import producer_name
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Answers, Format, Layout, OriginalInput, OriginalOutput, Source

if TYPE_CHECKING:
    from pathlib import Path

_NUMPY_NAMES = {"fp32": "float32", "fp16": "float16", "fp64": "float64"}


@dataclass(frozen=True)
class NetworkFacts:
    """A network, as its file and the files beside it describe it.

    `operators` counts layers or operators by type, the most frequent first. `weights` is the number of weights by type.
    `labels` are those that were found, and `labels_from` says where. `preprocessing` are sentences about what the
    graph, metadata and the producer's conventions state. `refused` is why `adopt` refuses the file; "" if nothing in
    it does, but `adopt` may still refuse it when it runs it.
    """

    producer: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    operators: Mapping[str, int]
    weights: Mapping[str, int]
    labels: tuple[str, ...] = ()
    labels_from: str = ""
    preprocessing: tuple[str, ...] = ()
    refused: str = ""


def by_number(names: Iterable[str]) -> dict[str, int]:
    """Return how often each name occurs, the most frequent first."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def model_of(
    path: Path, format_: Format, source: TensorFacts, target: TensorFacts, classes: int, clues: Clues
) -> ForeignModel | None:
    """Return the description that labels and conventions are found by; None if the input is no image."""
    shape = source.shape or ()
    if len(shape) != 4:
        return None
    sides = tuple(size if isinstance(size, int) and size > 0 else 0 for size in shape[1:])
    first = sides[2] not in (1, 3) and sides[0] in (1, 3)
    channels, height, width = sides if first else (sides[2], sides[0], sides[1])
    if channels not in (1, 3):
        return None
    layout = Layout.NCHW if first else Layout.NHWC
    dtypes = [_NUMPY_NAMES.get(tensor.dtype, tensor.dtype) for tensor in (source, target)]
    taken = OriginalInput(source.name, dtypes[0], layout)
    given = OriginalOutput(target.name, dtypes[1], classes, Answers.PROBABILITIES)
    return ForeignModel(path, format_, "", height, width, channels, taken, given, clues)


def known_about(
    model: ForeignModel | None, in_graph: Iterable[str] = ()
) -> tuple[str, tuple[str, ...], str, tuple[str, ...]]:
    """Return the producer, the labels, where they come from, and the sentences about the preprocessing."""
    sentences = list(in_graph)
    if model is None:
        return "", (), "", tuple(sentences)
    for fact in known_facts(model):
        sentences.append(fact.choices or fact.evidence.text)
    labels: tuple[str, ...] = ()
    where = ""
    if model.output.size:
        try:
            names, evidence = labels_for(model)
        except BadInput as error:
            where = error.message
        else:
            labels = () if evidence.source is Source.ASSUMED else names
            where = evidence.text if labels else ""
    return producer_name(model), labels, where, tuple(dict.fromkeys(sentences))


def refusal_of(tensors: Sequence[TensorFacts], what: str) -> str:
    """Return why a network with these inputs or outputs is no classifier; "" for one tensor. `what` names them."""
    if len(tensors) <= 1:
        return ""
    return f"it has {len(tensors)} {what} ({', '.join(tensor.name for tensor in tensors[:6])}); a classifier has one"


def refusal_of_input(tensor: TensorFacts) -> str:
    """Return why the input cannot be a batch of photos; "" if its shape has 4 axes or is unknown."""
    if tensor.shape is None or len(tensor.shape) == 4:
        return ""
    return f"its input {tensor.name} has {len(tensor.shape)} axes; photos have 4: batch, height, width, channels"
