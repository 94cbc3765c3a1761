"""What distillation trains, and what is written of it."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from tests.support.quantised_networks import with_pairs
from tests.support.small_networks import SIZE, residual_network
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.convert.int8.distill.parameters import TrainedParameters, with_constants
from trtpoets.convert.int8.fidelity import features_of
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def parameters_of(model: object) -> tuple[object, DifferentiableNetwork, TrainedParameters]:
    placement = placement_from_onnx(model)
    version = with_pairs(model, placement, dict.fromkeys(placement.tensors, 3.0))
    levels = {weight.tensor: weight.levels for weight in placement.weights}
    network = DifferentiableNetwork(version, features_of(GraphView(model)), levels)
    return version, network, TrainedParameters(network, placement.same_scale)


def test_without_a_step_the_network_is_as_before() -> None:
    version, network, parameters = parameters_of(residual_network())
    photos = tensorflow().constant(np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8))
    view = GraphView(version)
    for name, tensor in parameters.constants().items():
        np.testing.assert_array_equal(np.asarray(tensor), view.array(name))
    np.testing.assert_array_equal(network.run(photos), network.run(photos, parameters.constants()))


def test_weights_biases_and_scales_of_int8_layers_are_trained() -> None:
    _, _, parameters = parameters_of(residual_network())
    layers = ["stem", "depthwise", "project", "expand", "back", "top"]
    expected = {f"{name}.{part}" for name in layers for part in ("weight", "weight.scale", "bias")}
    constants = set(parameters.constants())
    assert expected <= constants
    assert {"stem_relu.scale", "project.scale"} <= constants
    assert not any(name.startswith("head") for name in constants)


def test_written_weights_are_what_was_trained_and_lie_on_the_grid() -> None:
    version, network, parameters = parameters_of(residual_network())
    random = np.random.default_rng(1)
    for variable in parameters.variables.values():
        variable.assign(random.normal(0, 0.5, variable.shape).astype(np.float32))
    arrays = parameters.arrays()
    scale = arrays["back.weight.scale"].reshape(-1, 1, 1, 1)
    integers = arrays["back.weight"] / scale
    np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
    assert np.abs(np.rint(integers)).max() <= 127
    photos = tensorflow().constant(random.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8))
    trained = np.asarray(network.run(photos, parameters.constants()))
    file = with_constants(version, arrays)
    written = np.asarray(DifferentiableNetwork(file, network.target, network.levels).run(photos))
    np.testing.assert_allclose(written, trained, rtol=1e-4, atol=1e-4 * float(np.abs(trained).max()))


def test_tensors_with_one_scale_keep_one_scale() -> None:
    _, _, parameters = parameters_of(TOPOLOGIES["squeezenet"]())
    random = np.random.default_rng(2)
    for variable in parameters.variables.values():
        variable.assign(random.normal(0, 0.5, variable.shape).astype(np.float32))
    scales = parameters.arrays()
    assert scales["two_1_relu.scale"] == scales["two_3_relu.scale"]
    assert scales["two_1_relu.scale"] != scales["four_1_relu.scale"]
