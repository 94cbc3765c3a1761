"""A head fitted to another base, and the last layer of a graph that it replaces."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.support.distill_features import CLASSES, WIDTH, features
from trtpoets.train.distill import PENALTIES, best_distilled_head, distilled_head, divergence
from trtpoets.train.head import Head, head_scores


def some_head(seed: int = 0) -> Head:
    random = np.random.default_rng(seed)
    return Head(
        random.normal(0, 0.5, (WIDTH, CLASSES)).astype(np.float32), random.normal(0, 1, CLASSES).astype(np.float32)
    )


def test_a_base_that_scales_and_shifts_is_undone() -> None:
    head, x = some_head(), features(600)
    wanted = x @ head.weights + head.bias
    moved = x * np.linspace(0.7, 1.4, WIDTH, dtype=np.float32) + np.linspace(-1, 1, WIDTH, dtype=np.float32)
    fitted = distilled_head(head, moved, wanted, 1e-6)
    assert np.abs(moved @ fitted.weights + fitted.bias - wanted).max() < 1e-3
    assert np.abs(moved @ head.weights + head.bias - wanted).max() > 1


def test_a_large_penalty_moves_the_bias_alone() -> None:
    head, x = some_head(), features(300)
    wanted = x @ head.weights + head.bias + np.array([1, -1, 2, 0], np.float32)
    fitted = distilled_head(head, x, wanted, 1e9)
    assert np.allclose(fitted.weights, head.weights, atol=1e-5)
    assert np.allclose(fitted.bias - head.bias, [1, -1, 2, 0], atol=1e-3)


def test_an_unchanged_base_keeps_the_head_at_any_penalty() -> None:
    head, x = some_head(), features(100)
    for penalty in PENALTIES:
        fitted = distilled_head(head, x, x @ head.weights + head.bias, penalty)
        assert np.allclose(fitted.weights, head.weights, atol=1e-5)


def test_a_feature_that_never_changes_keeps_its_weights() -> None:
    head, x = some_head(), features(100)
    x[:, 3] = 5
    fitted = distilled_head(head, x, features(100, 7)[:, :CLASSES], 0.1)
    assert np.array_equal(fitted.weights[3], head.weights[3])


def test_noise_is_followed_little_and_a_shift_closely() -> None:
    head, x = some_head(), features(400)
    wanted = x @ head.weights + head.bias
    random = np.random.default_rng(5)
    noise = (x + random.normal(0, 3, x.shape)).astype(np.float32)
    scale = (x * np.linspace(0.5, 2, WIDTH)).astype(np.float32)
    assert best_distilled_head(head, noise, wanted)[1] >= best_distilled_head(head, scale, wanted)[1]
    for seen in (noise, scale):
        fitted, _ = best_distilled_head(head, seen, wanted)
        before, after = (divergence(head_scores(head, x), head_scores(h, seen)).mean() for h in (head, fitted))
        assert after < before


def test_divergence_is_none_between_equals_and_more_otherwise() -> None:
    scores = head_scores(some_head(), features(20))
    assert np.allclose(divergence(scores, scores), 0)
    assert (divergence(scores, scores[::-1]) >= -1e-9).all()
    assert divergence(np.array([[1, 0]], np.float32), np.array([[0.5, 0.5]], np.float32))[0] == pytest.approx(np.log(2))


def test_fewer_photos_than_features_give_the_weights_of_the_normal_equations() -> None:
    head, x = some_head(), features(WIDTH // 2)
    seen = (x * np.linspace(0.5, 2, WIDTH)).astype(np.float32)
    wanted = x @ head.weights + head.bias
    fitted = distilled_head(head, seen, wanted, 0.1)
    standard = (seen - seen.mean(axis=0)) / seen.std(axis=0)
    residual = wanted - (seen @ head.weights + head.bias)
    kernel = standard.T @ standard + 0.1 * len(seen) * np.eye(WIDTH)
    change = np.linalg.solve(kernel, standard.T @ (residual - residual.mean(axis=0))) / seen.std(axis=0)[:, None]
    assert np.allclose(fitted.weights, head.weights + change, atol=1e-3)
    assert np.abs(change).max() > 0.01


def test_a_head_does_not_depend_on_the_number_of_threads() -> None:
    """With these sizes, OpenBLAS adds in another order with two threads."""
    random = np.random.default_rng(0)
    x = np.maximum(random.normal(size=(333, 777)), 0).astype(np.float32)
    head = Head(random.normal(0, 0.1, (777, 7)).astype(np.float32), np.zeros(7, np.float32))
    with threadpool_limits(1, "blas"):
        wanted = x @ head.weights + random.normal(0, 0.1, (333, 7)).astype(np.float32)
    fitted = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            fitted.append(distilled_head(head, x, wanted, 0.1))
    assert np.array_equal(fitted[0].weights, fitted[1].weights)
    assert np.array_equal(fitted[0].bias, fitted[1].bias)
