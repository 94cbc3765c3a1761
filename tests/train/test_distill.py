"""A head fitted to another base, and the last layer of a graph that it replaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.photos import photo_folder
from tests.support.small_networks import SIZE, Network, photos_in, residual_network, saved
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.last_layer import base_of, last_layer, with_last_layer
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session, read_onnx, write_onnx
from trtpoets.core.types import INPUT_NAME
from trtpoets.train.distill import PENALTIES, best_distilled_head, distilled_head, divergence
from trtpoets.train.head import Head, head_scores

WIDTH, CLASSES = 24, 4


def some_head(seed: int = 0) -> Head:
    random = np.random.default_rng(seed)
    return Head(
        random.normal(0, 0.5, (WIDTH, CLASSES)).astype(np.float32), random.normal(0, 1, CLASSES).astype(np.float32)
    )


def features(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (count, WIDTH)).astype(np.float32)


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


def test_the_same_base_changes_nothing_at_any_penalty() -> None:
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


def test_the_last_layer_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    paths = [p.path for p in photos_in(photo_folder(tmp_path / "photos", {"ant": 3}))]
    proto = residual_network()
    model = saved(proto, tmp_path / "a.onnx")
    layer = last_layer(proto)
    base = base_of(proto, "features")
    (batch,) = photo_batches(paths, model.spec.preprocess, 8)
    assert batch.shape == (3, SIZE, SIZE, 3)
    seen = open_session(base).run(["features"], {INPUT_NAME: batch})[0]
    assert seen.shape == (3, len(layer.weights))
    random = np.random.default_rng(0)
    head = Head(
        random.normal(size=layer.weights.shape).astype(np.float32),
        random.normal(size=layer.bias.shape).astype(np.float32),
    )
    write_onnx(with_last_layer(proto, head.weights, head.bias), tmp_path / "b.onnx")
    assert read_onnx(tmp_path / "b.onnx").spec == model.spec
    scores = open_session(tmp_path / "b.onnx").run(None, {INPUT_NAME: batch})[0]
    assert np.allclose(scores, head_scores(head, seen), atol=1e-5)
    changed = with_last_layer(proto, head.weights, head.bias)
    assert base_of(changed, "features") == base
    again = with_last_layer(changed, layer.weights, layer.bias)
    assert again.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_a_last_layer_that_is_none_of_ours() -> None:
    net = Network()
    proto = net.model(net.conv(net.features, 8, "stem"))
    with pytest.raises(ConversionFailed, match=r"not \(2, 2\) and \(2,\)"):
        with_last_layer(proto, np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
    shared = Network()
    proto = shared.model(shared.conv(shared.features, 8, "stem"))
    head = GraphView(proto).producer[GraphView(proto).producer["scores"].input[0]]
    head.input[2] = "stem.bias"
    with pytest.raises(ConversionFailed, match="are not constants, or other nodes share them"):
        last_layer(proto)
    GraphView(proto).producer["scores"].op_type = "Sigmoid"
    with pytest.raises(ConversionFailed, match="does not end in a dense layer and a softmax"):
        last_layer(proto)
