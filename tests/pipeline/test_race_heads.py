"""The heads of the rounds of a race classify the photos of their fold, which they were not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.support.clouds import clouds
from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.training import HeadConfig
from trtpoets.judge.cross_fit import CrossFitConfig, Folds, folds_of_photos
from trtpoets.pipeline.race_heads import heads_of_folds
from trtpoets.train.joint_heads import scores_by_fold

CONFIG = HeadConfig()


def folds_of(truth: np.ndarray) -> Folds:
    names = [f"{number:064x}" for number in range(len(truth))]
    folds = folds_of_photos(truth, np.arange(len(truth)), names, CrossFitConfig())
    assert folds is not None
    return folds


def test_heads_classify_the_photos_of_their_fold() -> None:
    features, truth = clouds(200, 1)
    folds = folds_of(truth)
    heads = heads_of_folds(features.astype(np.float32), truth, folds, 3, CONFIG)
    right = scores_by_fold(heads, features, folds.fold_of, 3).argmax(axis=1) == truth
    assert len(heads) == folds.count and right.mean() > 0.8


def test_heads_are_not_trained_on_the_photos_of_their_fold() -> None:
    """Features without any information: a head that saw the photos would be right on most."""
    truth = np.arange(120) % 3
    features = np.random.default_rng(0).normal(size=(120, 200)).astype(np.float32)
    folds = folds_of(truth)
    heads = heads_of_folds(features, truth, folds, 3, CONFIG)
    right = scores_by_fold(heads, features, folds.fold_of, 3).argmax(axis=1) == truth
    assert right.mean() < 0.55


def test_class_weights_act() -> None:
    random = np.random.default_rng(0)
    truth = (np.arange(300) % 10 == 0).astype(np.int64)
    features = (truth[:, None] + random.normal(size=(300, 4))).astype(np.float32)
    folds = folds_of(truth)

    def rare(config: HeadConfig) -> int:
        heads = heads_of_folds(features, truth, folds, 2, config)
        return int(scores_by_fold(heads, features, folds.fold_of, 2).argmax(axis=1).sum())

    assert rare(replace(CONFIG, class_weights=True)) > 2 * rare(CONFIG)


def test_a_training_that_diverges_is_refused() -> None:
    features, truth = clouds(60, 1)
    with raises(BadInput, "TP8095"):
        heads_of_folds(features.astype(np.float32), truth, folds_of(truth), 3, HeadConfig(l2=1e39))
