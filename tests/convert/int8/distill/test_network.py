"""The differentiable network compared with ONNX Runtime: common structures, and pairs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.quantised_networks import tensors, with_pairs
from tests.support.small_networks import SIZE, residual_network
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.convert.int8.fidelity import features_of, sqnr_db
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

BATCH = np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)

UNSUPPORTED = {"vit": "Shape", "vit_parts": "Shape", "group_norm": "InstanceNormalization", "alexnet": "LRN"}


def features(model: Any, photos: np.ndarray = BATCH) -> tuple[np.ndarray, np.ndarray]:
    """The features in ONNX Runtime and in TensorFlow."""
    name = features_of(GraphView(model))
    expected = tensors(model, [name], photos)[0].reshape(len(photos), -1)
    return expected, np.asarray(DifferentiableNetwork(model, name, {}).run(tensorflow().constant(photos)))


@pytest.mark.parametrize("name", [name for name in TOPOLOGIES if name not in UNSUPPORTED])
def test_features_of_common_structures(name: str) -> None:
    assert sqnr_db(*features(TOPOLOGIES[name]())) > 100


@pytest.mark.parametrize(("name", "operator"), UNSUPPORTED.items())
def test_an_operator_that_is_not_supported_is_named(name: str, operator: str) -> None:
    model = TOPOLOGIES[name]()
    with raises(ConversionFailed, "TP3290", operator):
        DifferentiableNetwork(model, features_of(GraphView(model)), {})


def test_pairs_round_as_in_onnx_runtime() -> None:
    """One layer after another: a rounded value that differs in one layer would be another input of the next."""
    model = residual_network()
    placement = placement_from_onnx(model)
    quantised = with_pairs(model, placement, dict.fromkeys(placement.tensors, 3.0))
    for layer in ("stem:0", "depthwise:0"):
        expected = tensors(quantised, [layer], BATCH)[0].reshape(len(BATCH), -1)
        network = DifferentiableNetwork(quantised, layer, {weight.tensor: 127 for weight in placement.weights})
        own = np.asarray(network.run(tensorflow().constant(BATCH)))
        assert np.mean(np.abs(own - expected) > 1e-4 * np.abs(expected).max()) < 0.002
    assert sqnr_db(*features(quantised)) > 30
