"""The convolution of PyTorch in Keras: padding and groups."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.torch_networks import TorchNetwork
from trtpoets.core.optional import tensorflow
from trtpoets.train.own_networks.layers import Convolution, convolved
from trtpoets.train.own_networks.torch_names import TorchNames


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "activation"),
    [(3, 1, 1, True), (3, 2, 1, False), (1, 2, 1, True), (5, 2, 3, True), (7, 2, 6, True), (3, 1, 6, False)],
)
def test_padding_is_equal_on_both_sides(size: int, kernel: int, stride: int, groups: int, activation: bool) -> None:
    """With 6 groups, as many as channels: depthwise."""
    reference = TorchNetwork(size)
    wide = reference.relu(reference.norm(reference.conv("x", "wide", 6), "wide_norm"))
    output = reference.norm(reference.conv(wide, "conv", 6, kernel, stride, groups), "norm")
    if activation:
        output = reference.relu(output)
    values = np.random.default_rng(1).normal(0, 1, (2, size, size, 3)).astype(np.float32)
    expected = reference.run(output, values)
    keras = tensorflow().keras
    photos = keras.Input((size, size, 3))
    wide = convolved(photos, Convolution("wide", "wide_norm", 6), 1e-5)
    width, groups = (None, 1) if groups == 6 else (6, groups)
    output = convolved(wide, Convolution("conv", "norm", width, kernel, stride, groups, activation), 1e-5)
    model = keras.Model(photos, output)
    tensors = TorchNames("head").keras_tensors(reference.tensors)
    for variable in model.variables:
        variable.assign(tensors[variable.path])
    ours = np.asarray(model(values)).transpose(0, 3, 1, 2).reshape(2, -1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
