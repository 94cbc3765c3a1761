"""Heads on principal components: they solve the penalised softmax regression, on the photos that count."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.core.training import HeadConfig
from trtpoets.train import compressed_heads
from trtpoets.train.compressed_heads import CompressedFeatures, compressed, heads_from_weights
from trtpoets.train.head import head_scores
from trtpoets.train.head_loop import standardisation

CONFIG = HeadConfig(l2=0.01)


def photos(count: int = 300, width: int = 20, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    means = random.normal(size=(classes, width))
    features = (0.7 * means[labels] + random.normal(size=(count, width))) * (1 + np.arange(width)) + 5
    return features.astype(np.float32), labels


def test_all_components_keep_the_distances_of_standardised_photos() -> None:
    features, _ = photos()
    result = compressed(features)
    mean, scale = standardisation(features)
    standard = (features - mean) * scale
    assert result.values.shape == (300, 20)
    np.testing.assert_allclose(result.values @ result.values.T, standard @ standard.T, atol=2e-3)
    assert (np.diff(result.variances) <= 0).all()
    np.testing.assert_allclose(result.variances, np.square(result.values).mean(axis=0), rtol=1e-3)


def test_the_first_components_have_most_of_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed_heads, "COMPONENTS", 3)
    random = np.random.default_rng(0)
    three = random.normal(size=(200, 3)) @ random.normal(size=(3, 40))
    result = compressed((three + 0.01 * random.normal(size=(200, 40))).astype(np.float32))
    assert result.values.shape == (200, 3)
    assert result.variances.sum() == pytest.approx(40, rel=0.01)


def test_the_gradient_of_the_penalised_loss_vanishes_on_the_photos_that_count() -> None:
    features, labels = photos()
    own = compressed(features)
    weights = np.stack([np.ones(300), np.where(np.arange(300) < 150, 2.0, 0.0)]).astype(np.float32)
    heads = heads_from_weights(own, labels, 3, weights, CONFIG)
    assert heads is not None
    for head, counted in zip(heads, weights, strict=True):
        errors = (head_scores(head, own.values) - np.eye(3)[labels]) * (counted / counted.sum())[:, None]
        gradient = own.values.T @ errors + 2 * CONFIG.l2 * head.weights
        assert np.abs(gradient).max() < 0.01 < np.abs(own.values.T @ (np.eye(3)[labels] / 300)).max()
        assert np.abs(errors.sum(axis=0)).max() < 0.01
    right = [float((head_scores(head, own.values).argmax(axis=1) == labels).mean()) for head in heads]
    assert min(right) > 0.8


def test_heads_for_features_give_the_same_scores() -> None:
    features, labels = photos()
    own = compressed(features)
    heads = heads_from_weights(own, labels, 3, np.ones((1, 300), np.float32), CONFIG)
    assert heads is not None
    np.testing.assert_allclose(
        head_scores(own.for_features(heads[0]), features), head_scores(heads[0], own.values), atol=1e-4
    )


def test_photos_that_count_more_are_answered_more_often() -> None:
    features, labels = photos()
    own = compressed(features)
    weights = np.stack([np.ones(300), np.where(labels == 0, 3.0, 1.0)]).astype(np.float32)
    heads = heads_from_weights(own, labels, 3, weights, CONFIG)
    assert heads is not None
    plain, more = (int((head_scores(head, own.values).argmax(axis=1) == 0).sum()) for head in heads)
    assert more > plain


def test_values_that_are_not_numbers_give_no_heads() -> None:
    values = np.full((6, 2), np.nan, np.float32)
    photos_without_numbers = CompressedFeatures(
        values, np.ones(2, np.float32), np.zeros(2, np.float32), np.eye(2, dtype=np.float32)
    )
    assert heads_from_weights(photos_without_numbers, np.arange(6) % 2, 2, np.ones((1, 6), np.float32), CONFIG) is None
