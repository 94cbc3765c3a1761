"""Trains the cross-fitted heads of a network in a round of a race.

They are `compressed_heads`, which take a seventh of the processor time of the heads that `cross_fit` trains. Their
accuracy is lower by up to a point, for all networks alike: the networks that win are as good (`benchmarks/README.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.train.compressed_heads import compressed, heads_from_weights
from trtpoets.train.head import weights_of_classes

if TYPE_CHECKING:
    from trtpoets.core.training import HeadConfig
    from trtpoets.judge.cross_fit import Folds
    from trtpoets.train.head import Head


def heads_of_folds(
    features: np.ndarray, truth: np.ndarray, folds: Folds, classes: int, config: HeadConfig
) -> list[Head]:
    """Train the head of each fold on the photos of all other folds: features, float32 (N, D), labels `truth`, int (N,).

    Of `config` the penalty, the label smoothing and the class weights are used; no step has to be selected. The
    features are standardised by all photos. Raises BadInput if the training diverged.
    """
    photos = compressed(features)
    trained = folds.fold_of[None] != np.arange(folds.count)[:, None]
    weights = np.stack([weights_of_classes(config, truth[own], classes)[truth] * own for own in trained])
    heads = heads_from_weights(photos, truth, classes, weights, config)
    if heads is None:
        raise BadInput("the training of a head diverged", hint="race with a smaller --l2", code="TP8095")
    return [photos.for_features(head) for head in heads]
