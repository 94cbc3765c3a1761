"""The step of fine-tuning changes what it should, by what it should."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.fine_tuning import WIDTH, tiny_network
from trtpoets.core.optional import tensorflow
from trtpoets.train.finetune_layers import layers_of
from trtpoets.train.finetune_loop import FineTuningLoop, mixed_precision, step_sizes
from trtpoets.train.head import Head
from trtpoets.train.networks import Network

RANDOM = np.random.default_rng(0)
PHOTOS = RANDOM.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(16, dtype=np.int32) % 2


def loop_of(network: Network, unfrozen: int, rates: np.ndarray | None = None) -> FineTuningLoop:
    head = Head(RANDOM.normal(0, 1, (WIDTH, 2)).astype(np.float32), np.zeros(2, np.float32))
    layers = layers_of(network)[-unfrozen:]
    rates = np.ones(unfrozen) if rates is None else rates
    return FineTuningLoop(network, layers, head, layer_rates=rates, label_smoothing=0.0, class_weights=np.ones(2))


def test_frozen_layers_and_statistics_of_norms_do_not_change() -> None:
    network = tiny_network()
    before = {variable.path: variable.numpy() for variable in network.model.variables}
    loop = loop_of(network, 2)
    for number in range(1, 4):
        loop.train(PHOTOS, LABELS, 0.01, number)
    changed = {path for path, values in before.items() if not np.array_equal(values, _named(network, path).numpy())}
    assert {path.split("/")[0] for path in changed} == {"second", "second_norm", "third"}
    assert not any("moving" in path for path in changed)


def _named(network: Network, path: str) -> Any:
    return next(variable for variable in network.model.variables if variable.path == path)


@pytest.mark.parametrize("norms", [True, False])
def test_the_loss_falls_and_logits_are_those_of_the_network(norms: bool) -> None:
    network = tiny_network(norms)
    loop = loop_of(network, 3)
    losses = [loop.train(PHOTOS, LABELS, 0.05, number)[1] for number in range(1, 30)]
    assert losses[-1] < 0.8 * losses[0]
    weights, bias = loop.values()[-2:]
    expected = np.asarray(network.model(PHOTOS, training=False)) @ weights + bias
    np.testing.assert_allclose(loop.logits(PHOTOS), expected, rtol=1e-4, atol=1e-4)


def test_a_step_is_a_share_of_the_size_of_the_outputs() -> None:
    network = tiny_network()
    loop = loop_of(network, 3, np.array([0.1, 1.0, 1.0]))
    before = loop.values()
    loop.train(PHOTOS, LABELS, 0.01, 1)
    for place, factor in ((0, 0.1), (3, 1.0)):
        change = np.abs(loop.values()[place] - before[place]) / step_sizes(before[place])
        assert change.max() == pytest.approx(0.01 * factor, rel=0.02)  # Adam's first step


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    network = tiny_network()
    loop = loop_of(network, 1)
    values = loop.values()
    loop.assign([*values[:-1], np.array([np.inf, 0], np.float32)])
    loop.train(PHOTOS, LABELS, 0.01, 1)
    for before, after in zip(values[:-1], loop.values()[:-1], strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_factors_are_those_of_output_channels() -> None:
    kernel = np.ones((3, 3, 2, 4), np.float32) * np.array([1, 2, 3, 4], np.float32)
    np.testing.assert_allclose(step_sizes(kernel), np.array([1, 2, 3, 4]).reshape(1, 1, 1, 4) / np.sqrt(18), rtol=1e-6)
    depthwise = np.ones((3, 3, 2, 1), np.float32) * np.array([1, 2], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(step_sizes(depthwise), np.array([1, 2]).reshape(1, 1, 2, 1) / 3, rtol=1e-6)
    np.testing.assert_allclose(step_sizes(np.array([3.0, 4.0])), [np.sqrt(12.5)])
    assert step_sizes(np.zeros(3)).min() > 0


def test_mixed_precision_is_set_inside_only() -> None:
    optimizer = tensorflow().config.optimizer
    with mixed_precision(False):
        assert not optimizer.get_experimental_options().get("auto_mixed_precision", False)
    with mixed_precision(True):
        assert optimizer.get_experimental_options()["auto_mixed_precision"]
    assert not optimizer.get_experimental_options().get("auto_mixed_precision", False)
