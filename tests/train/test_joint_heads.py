"""Several heads that are trained at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.mapped import mapped_copy
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.train.head import Head, head_from_bottlenecks, head_scores
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold

WIDTH, CLASSES, PHOTOS = 12, 3, 120


def photos(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, PHOTOS)
    means = random.normal(size=(CLASSES, WIDTH))
    features = (means[labels] + random.normal(size=(PHOTOS, WIDTH))) * random.uniform(0.1, 4, WIDTH) + 3
    features[:, -1] = 7  # a feature that does not distinguish anything
    return features.astype(np.float32), labels


def parts(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    fold = np.arange(PHOTOS) % count
    chooses = [(number + 1) % count for number in range(count)]
    return [
        (np.flatnonzero((fold != number) & (fold != other)), np.flatnonzero(fold == other))
        for number, other in enumerate(chooses)
    ]


def complete(heads: tuple[Head | None, ...]) -> list[Head]:
    assert all(head is not None for head in heads)
    return [head for head in heads if head is not None]


@pytest.mark.parametrize(
    "config",
    [
        HeadConfig(steps=400, learning_rate=0.003, class_weights=True),
        HeadConfig(steps=200, learning_rate=0.01, optimizer=Optimizer.SGD, label_smoothing=0.1, l2=0.1),
    ],
)
def test_a_head_is_like_one_that_is_trained_alone(config: HeadConfig) -> None:
    features, labels = photos()
    own_parts = parts(4)
    heads = complete(heads_from_parts(features, labels, own_parts, CLASSES, config))
    trained, chooses = own_parts[2]
    alone, _ = head_from_bottlenecks(
        features[trained], labels[trained], features[chooses], labels[chooses], CLASSES, config
    )
    assert np.abs(head_scores(heads[2], features) - head_scores(alone, features)).mean() < 0.02
    assert heads[2].weights[-1].tolist() == [0.0] * CLASSES


def test_photos_of_other_folds_have_no_influence() -> None:
    """A head does not depend on the photos that it answers: neither on their features nor on their labels."""
    features, labels = photos()
    own_parts = parts(5)
    left_out = np.setdiff1d(np.arange(PHOTOS), np.concatenate(own_parts[0]))
    before = complete(heads_from_parts(features, labels, own_parts, CLASSES, HeadConfig(steps=60)))
    shifted, others = features.copy(), labels.copy()
    shifted[left_out] = 5 * shifted[left_out] - 3
    others[left_out] = (others[left_out] + 1) % CLASSES
    after = complete(heads_from_parts(shifted, others, own_parts, CLASSES, HeadConfig(steps=60)))
    assert np.allclose(before[0].weights, after[0].weights, rtol=2e-3, atol=2e-4)
    assert not np.allclose(before[2].weights, after[2].weights, rtol=2e-3, atol=2e-4)


def test_training_is_deterministic_and_ends_early() -> None:
    features, labels = photos()
    calls: list[tuple[str, int, int]] = []
    config = HeadConfig(steps=4000, learning_rate=0.05, early_stop=100)
    first = complete(
        heads_from_parts(
            features, labels, parts(3), CLASSES, config, lambda what, done, total: calls.append((what, done, total))
        )
    )
    second = complete(heads_from_parts(features, labels, parts(3), CLASSES, config))
    assert all(np.array_equal(one.weights, other.weights) for one, other in zip(first, second, strict=True))
    assert calls[-1] == ("cross-fit heads", 4000, 4000)
    assert len(calls) < 40  # of 80: the heads stopped


def test_a_training_that_diverges_gives_no_head() -> None:
    features, labels = photos()
    with np.errstate(all="ignore"):
        config = HeadConfig(steps=200, learning_rate=1e30, optimizer=Optimizer.SGD, eval_interval=100)
        assert heads_from_parts(features, labels, parts(3), CLASSES, config) == (None, None, None)


def test_mapped_features_give_the_same_heads_and_scores(tmp_path: Path) -> None:
    features, labels = photos()
    mapped = mapped_copy(features, tmp_path)
    config = HeadConfig(steps=100)
    first, second = (complete(heads_from_parts(rows, labels, parts(3), CLASSES, config)) for rows in (features, mapped))
    assert all(np.array_equal(one.weights, other.weights) for one, other in zip(first, second, strict=True))
    fold_of = np.arange(len(labels)) % 3
    scores = [scores_by_fold(first, rows, fold_of, CLASSES) for rows in (features, mapped)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
