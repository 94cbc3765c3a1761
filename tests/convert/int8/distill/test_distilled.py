"""Distillation of a small network whose ranges are much too wide."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.errors import raises
from tests.support.quantised_networks import tensors, with_pairs
from tests.support.small_networks import SIZE, residual_network
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.distill.distilled import distilled, require_differentiable
from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.convert.int8.fidelity import features_of, sqnr_db
from trtpoets.convert.int8.placement import Placement, placement_from_onnx
from trtpoets.core.errors import ConversionFailed

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

COARSE = 40.0
"""The largest magnitude of each tensor in the damaged network; the values are below 5."""


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Photos of one colour each with some noise: uint8 (60, H, W, 3)."""
    random = np.random.default_rng(2)
    colours = random.integers(40, 216, (60, 1, 1, 3))
    return np.asarray(colours + random.integers(-40, 40, (60, SIZE, SIZE, 3)), np.uint8)


@pytest.fixture(scope="module")
def exact(photos: np.ndarray) -> np.ndarray:
    return features(residual_network(), photos)


def features(model: Any, photos: np.ndarray) -> np.ndarray:
    return tensors(model, [features_of(GraphView(model))], photos)[0].reshape(len(photos), -1)


def damaged(magnitude: float) -> tuple[onnx.ModelProto, Placement]:
    model = residual_network()
    placement = placement_from_onnx(model)
    return with_pairs(model, placement, dict.fromkeys(placement.tensors, magnitude)), placement


def values_of(model: Any) -> dict[str, np.ndarray]:
    view = GraphView(model)
    return {name: view.array(name) for name in view.constants}


@pytest.fixture(scope="module")
def trained(photos: np.ndarray, exact: np.ndarray) -> tuple[Any, Any, Placement]:
    """The damaged network, and after distillation with the first 48 photos."""
    version, placement = damaged(COARSE)
    config = DistillConfig(steps=50, batch=8, learning_rate=0.1)
    seen: list[tuple[int, int]] = []
    name = features_of(GraphView(version))
    after, notes = distilled(
        version, placement, name, photos[:48], exact[:48], config, lambda task, done, total: seen.append((done, total))
    )
    assert notes.steps in (25, 50)
    assert notes.after_db > notes.before_db
    assert seen[-1] == (50, 50)
    return version, after, placement


def test_distillation_repairs_coarse_ranges(
    trained: tuple[Any, Any, Placement], photos: np.ndarray, exact: np.ndarray
) -> None:
    before, after = (sqnr_db(exact[48:], features(model, photos[48:])) for model in trained[:2])
    assert after > before + 1


def test_the_distilled_file_is_an_int8_file_of_the_same_form(trained: tuple[Any, Any, Placement]) -> None:
    version, after, placement = trained
    assert after.graph.node == version.graph.node
    old, new = values_of(version), values_of(after)
    for weight in placement.weights:
        scales = new[f"{weight.tensor}.scale"]
        integers = new[weight.tensor] / scales.reshape(-1, *[1] * (new[weight.tensor].ndim - 1))
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
        assert np.abs(integers).max() < 127.5
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert {"stem.weight", "stem.bias", "stem.weight.scale", "stem_relu.scale"} <= changed
    assert not {name for name in changed if name.startswith("head.") or name.endswith("zero_point")}


@pytest.mark.slow
def test_a_network_that_training_does_not_improve_is_returned_as_it_is(photos: np.ndarray, exact: np.ndarray) -> None:
    version, placement = damaged(5.0)
    config = DistillConfig(steps=2, batch=8, learning_rate=1.0)
    after, notes = distilled(version, placement, features_of(GraphView(version)), photos[:24], exact[:24], config)
    assert after is version
    assert (notes.steps, notes.constants, notes.after_db) == (0, {}, notes.before_db)


def test_a_network_that_tensorflow_computes_differently_is_refused(photos: np.ndarray, exact: np.ndarray) -> None:
    model = residual_network()
    require_differentiable(model, features_of(GraphView(model)), photos, exact)
    with raises(ConversionFailed, "TP3292"):
        require_differentiable(model, features_of(GraphView(model)), photos, exact * 1.1)
