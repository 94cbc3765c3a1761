"""The layers that users count, and the identity of trained weights."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from tests.support.fine_tuning import tiny_network
from trtpoets.core.errors import BadInput
from trtpoets.core.optional import tensorflow
from trtpoets.train.finetune_layers import layers_of, number_to_unfreeze, weights_hash


def test_a_layer_is_a_kernel_with_its_norm() -> None:
    names = [[variable.path.split("/")[-1] for variable in layer] for layer in layers_of(tiny_network())]
    assert names == [["kernel", "gamma", "beta"], ["kernel", "gamma", "beta"], ["kernel", "bias"]]


def test_a_network_without_norms_has_layers_too() -> None:
    names = [[variable.path.split("/")[-1] for variable in layer] for layer in layers_of(tiny_network(norms=False))]
    assert names == [["kernel", "bias"]] * 3


def test_norms_of_parallel_branches_belong_to_their_own_kernel() -> None:
    """Keras lists both kernels before both norms."""
    keras = tensorflow().keras
    photos = keras.Input((8, 8, 3), dtype="uint8", name="photos")
    x = keras.layers.Rescaling(1 / 255)(photos)
    branches = []
    for name in ("left", "right"):
        branch = keras.layers.Conv2D(4, 1, use_bias=False, name=name)(x)
        branches.append(keras.layers.BatchNormalization(name=f"{name}_norm")(branch))
    joined = keras.layers.BatchNormalization(name="joined_norm")(keras.layers.Concatenate()(branches))
    model = keras.Model(photos, keras.layers.GlobalAveragePooling2D()(joined))
    names = [[variable.path for variable in layer] for layer in layers_of(replace(tiny_network(), model=model))]
    assert names == [
        ["left/kernel", "left_norm/gamma", "left_norm/beta"],
        ["right/kernel", "right_norm/gamma", "right_norm/beta", "joined_norm/gamma", "joined_norm/beta"],
    ]


def test_the_network_stays_frozen_for_others() -> None:
    network = tiny_network()
    layers_of(network)
    assert network.model.trainable_variables == []


def test_a_number_above_that_of_the_layers_names_it() -> None:
    network = tiny_network()
    assert [number_to_unfreeze(word, network) for word in ("1", "3", "all")] == [1, 3, 3]
    with raises(BadInput, "TP2110", "tiny", "3", "999") as caught:
        number_to_unfreeze("999", network)
    assert "from 1 to 3" in caught.value.hint


def test_the_identity_is_that_of_the_weights() -> None:
    network = tiny_network()
    before = weights_hash(network)
    variable = network.model.variables[0]
    values = variable.numpy()
    variable.assign(values + 1e-3)
    assert weights_hash(network) != before
    variable.assign(values)
    assert weights_hash(network) == before
