"""Constants of a graph are replaced in a copy."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from tests.support.small_networks import residual_network
from trtpoets.convert.int8.distill.parameters import with_constants


def test_constants_get_other_values_in_their_shapes() -> None:
    model = residual_network()
    before = model.SerializeToString()
    (name, shape) = next((c.name, tuple(c.dims)) for c in model.graph.initializer if len(c.dims) == 4)
    values = np.arange(np.prod(shape), dtype=np.float32)
    copy = with_constants(model, {name: values, "nothing": values})
    constants = {constant.name: constant for constant in copy.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(constants[name]), values.reshape(shape))
    assert model.SerializeToString() == before
    assert {constant.name for constant in model.graph.initializer} == set(constants)
