"""Fake quantisation compared with ONNX Runtime's pairs, and its gradients with LSQ's formula."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from trtpoets.convert.int8.distill.fake_quantisation import fake_quantised

LOW, HIGH = -4.0, 3.0


def gradients(values: np.ndarray, scale: np.ndarray, upstream: np.ndarray) -> tuple[np.ndarray, ...]:
    """The result, and the gradients of sum(result * upstream) for the values and the scale."""
    tf = tensorflow()
    x, s = tf.constant(values), tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch([x, s])
        result = fake_quantised(x, s, LOW, HIGH)
        loss = tf.reduce_sum(result * upstream)
    return tuple(np.asarray(tensor) for tensor in (result, *tape.gradient(loss, [x, s])))


def lsq(values: np.ndarray, scale: np.ndarray, upstream: np.ndarray) -> tuple[np.ndarray, ...]:
    """Equations 1, 3 and 5 of Esser et al. (2020), value by value."""
    v = values / scale
    rounded = np.clip(np.rint(v), LOW, HIGH)
    by_value = np.where((v >= LOW) & (v <= HIGH), 1.0, 0.0)
    by_scale = np.where(v <= LOW, LOW, np.where(v >= HIGH, HIGH, np.rint(v) - v))
    axes = tuple(axis for axis, size in enumerate(np.shape(scale)) if size == 1) if np.ndim(scale) else None
    return rounded * scale, by_value * upstream, (by_scale * upstream).sum(axis=axes, keepdims=bool(np.ndim(scale)))


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (1, 5, 1)], ids=["one scale", "by first axis", "by second axis"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_lsq(shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(0, 1.5, (3, 5, 7)).astype(np.float32)
    scale = random.uniform(0.3, 0.9, shape).astype(np.float32)
    upstream = random.normal(0, 1, values.shape).astype(np.float32)
    for own, expected in zip(gradients(values, scale, upstream), lsq(values, scale, upstream), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


def test_halves_are_rounded_to_even_as_a_pair_does() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    assert gradients(values, np.float32(1.0), values)[0].tolist() == [0, 2, 2, 0, -2, -2]


def test_values_beyond_the_range_are_clipped_and_move_only_the_scale() -> None:
    result, by_value, by_scale = gradients(np.array([9.0, -9.0], np.float32), np.float32(0.5), np.ones(2, np.float32))
    assert result.tolist() == [1.5, -2.0]
    assert by_value.tolist() == [0, 0]
    assert by_scale == HIGH + LOW
