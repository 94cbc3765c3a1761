"""Determines what a TensorFlow network returns for each class: probabilities, logits or independent probabilities."""

from __future__ import annotations

import numpy as np

from trtpoets.adoption.tensorflow.graph import Graph
from trtpoets.core.errors import BadArtefact
from trtpoets.core.original import Answers

_OPERATORS = {
    "Softmax": Answers.PROBABILITIES,
    "Sigmoid": Answers.SIGMOID,
    "LogSoftmax": Answers.LOG_PROBABILITIES,
}

_SORTING = ("TopK", "TopKV2")
"""Operators after which a score belongs to another class for each photo."""

_ROUNDING = 1e-3
"""Largest difference from 1 of the sum of probabilities in float32 or float16."""


def ends_in_softmax(graph: Graph) -> bool:
    """Whether the rows of the output sum to 1 without a further division."""
    return bool(graph.final.op == "Softmax")


def answers_of(graph: Graph, outputs: np.ndarray, source: str) -> Answers:
    """Return what the rows of the output are, by the last operator, or else by `outputs`, those for random images.

    Raises BadArtefact for a single value that is no probability, and for the highest scores in their order.
    """
    if graph.final.op in _SORTING:
        raise BadArtefact(
            f"{source} returns the highest scores first ({graph.final.op} {graph.final.name}), so it is not known "
            "which score belongs to which class",
            hint="export the network with the scores of all classes in their order",
            code="TP9150",
        )
    if not np.isfinite(outputs).all():
        raise BadArtefact(
            f"{source} returns values that are not finite", hint="use a file of which training succeeded", code="TP9131"
        )
    known = _OPERATORS.get(graph.final.op)
    if known is not None and (outputs.shape[1] > 1 or known is Answers.SIGMOID):
        return known
    if outputs.shape[1] == 1:
        raise BadArtefact(
            f"{source} returns a single number that does not come from a sigmoid, so it is not known what it means",
            hint="if it is a logit, add the sigmoid in Keras and save again: keras.Sequential([model, "
            "keras.layers.Activation('sigmoid')]).save('with_sigmoid.keras')",
            code="TP9132",
        )
    if _are_probabilities(outputs):
        return Answers.PROBABILITIES
    if (outputs <= 0).all() and _are_probabilities(np.exp(outputs)):
        return Answers.LOG_PROBABILITIES
    return Answers.LOGITS


def _are_probabilities(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=_ROUNDING))
