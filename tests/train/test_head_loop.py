"""The training loop of the last layer."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tests.support.clouds import CLASSES, clouds
from trtpoets.core.threads import one_blas_thread
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.train import head_loop
from trtpoets.train.head_loop import (
    TrainingLoop,
    Updates,
    chosen_for_evaluation,
    right_answers_and_nats,
    smoothed_targets,
    softmax_in_place,
    standardisation,
)


def test_standardisation_is_that_of_numpy() -> None:
    features = clouds(9000, 8)[0]
    mean, scale = standardisation(features)
    np.testing.assert_allclose(mean, features.mean(axis=0, dtype=np.float64), rtol=1e-5)
    deviation = np.delete(features.std(axis=0, dtype=np.float64), 7)
    assert scale[7] == 0
    np.testing.assert_allclose(np.delete(scale, 7), 1 / deviation, rtol=1e-4)


@pytest.mark.parametrize("optimizer", Optimizer)
def test_heads_that_are_dropped_do_not_change_the_others(optimizer: Optimizer) -> None:
    features, labels = clouds(200, 8)
    settings = ((0.001, 0.1, 0.2), (0.01, 0.0, 0.1), (0.1, 0.01, 0.0))
    configs = [
        HeadConfig(learning_rate=rate, optimizer=optimizer, l2=l2, label_smoothing=smoothing)
        for rate, l2, smoothing in settings
    ]
    order = np.random.default_rng(1).integers(0, len(features), (40, 20))
    every, fewer = (TrainingLoop(features, labels, configs, np.ones(CLASSES)) for _ in range(2))
    every.run(order)
    fewer.run(order[:20])
    fewer.keep([0, 2])
    fewer.run(order[20:])
    left = fewer.parameters()
    assert sorted(left) == [0, 2]
    for number, (weights, bias) in left.items():
        np.testing.assert_allclose(weights, every.parameters()[number][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(bias, every.parameters()[number][1], rtol=1e-3, atol=1e-3)


def test_many_features_are_standardised_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(200, 8)
    order = np.random.default_rng(1).integers(0, len(features), (20, 30))
    before = features.copy()
    results = []
    for most in (2**26, 0):
        monkeypatch.setattr(head_loop, "_COPIED_BYTES", most)
        loop = TrainingLoop(features, labels, [HeadConfig()], np.ones(CLASSES))
        loop.run(order)
        results.append(loop.parameters()[0])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(features, before)


def test_updates_are_those_of_the_formulas() -> None:
    """Two steps of SGD with momentum 0.9, and of Adam, with another rate for each head."""
    rates = np.array([0.1, 0.2])
    gradients = [np.full((2, 1, 2), value, np.float32) for value in (1.0, 3.0)]
    sgd, adam = (Updates((2, 1, 2), optimizer, rates) for optimizer in (Optimizer.SGD, Optimizer.ADAM))
    for gradient in gradients:
        sgd.apply(gradient.copy())
        adam.apply(gradient.copy())
    np.testing.assert_allclose(sgd.values[:, 0, 0], -rates * (1 + 0.9 + 3), rtol=1e-6)
    second = (0.9 * 0.1 + 0.1 * 3) / (1 - 0.9**2) / np.sqrt((0.999 * 0.001 + 0.001 * 9) / (1 - 0.999**2))
    np.testing.assert_allclose(adam.values[:, 0, 1], -rates * (1 + second), rtol=1e-5)


def test_softmax_and_cross_entropy() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (2, 3, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1])
    right, nats = right_answers_and_nats(logits, labels)
    scores = softmax_in_place(logits.copy())
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(nats, -np.log(scores[:, labels, np.arange(5)]), rtol=1e-5)
    assert (right == (scores.argmax(axis=1) == labels)).all()


def test_targets_are_smoothed() -> None:
    np.testing.assert_allclose(smoothed_targets(4, 0.2)[2], [0.05, 0.05, 0.85, 0.05], rtol=1e-6)


def test_one_thread_computes_products() -> None:
    with one_blas_thread():
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_a_part_of_many_photos_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(100, 160)
    assert chosen_for_evaluation(rows, 0) is rows
    monkeypatch.setattr("trtpoets.train.head_loop.MAX_EVALUATED", 20)
    chosen = chosen_for_evaluation(rows, 0)
    assert len(set(chosen.tolist()) & set(rows.tolist())) == 20 and (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, chosen_for_evaluation(rows, 0))
    assert not np.array_equal(chosen, chosen_for_evaluation(rows, 1))
