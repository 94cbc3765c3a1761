"""GraphDefs run as numpy functions, and their failures are errors of trtpoets."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import graph
from trtpoets.adoption.tensorflow.execution import example_values, function_of, runner, shape_of, shapes_of
from trtpoets.adoption.tensorflow.graph import Graph
from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Layout

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def build(v1: Any) -> None:
    photo = v1.placeholder("float32", [None, 2, 2, 3], name="photo")
    v1.reduce_mean(photo, (1, 2), name="mean")
    v1.placeholder("float32", None, name="any")


@pytest.fixture(scope="module")
def definition() -> Any:
    return graph(build)


def test_shapes(definition: Any) -> None:
    assert shape_of(definition, "mean") == [None, 3]
    assert shapes_of(definition, ["photo:0", "any"]) == [[None, 2, 2, 3], None]
    with pytest.raises(BadArtefact) as caught:
        shape_of(definition, "nothing")
    assert caught.value.code == "TP9101"


def test_a_graph_is_a_function_of_arrays(definition: Any) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    run = function_of(Graph(definition, "photo", "mean:0"))
    np.testing.assert_allclose(run(values), values.mean(axis=(1, 2)))
    with pytest.raises(RunFailed) as caught:
        run(values[:, :1])
    assert caught.value.code == "TP9102"


def test_failures_of_tensorflow_functions() -> None:
    run = runner(lambda values: tensorflow().reshape(values, [2, 2]))
    np.testing.assert_array_equal(run(np.arange(4.0)), [[0, 1], [2, 3]])
    with pytest.raises(RunFailed) as caught:
        run(np.arange(3.0))
    assert caught.value.code == "TP9102"


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("layout", Layout)
def test_example_values(dtype: str, layout: Layout) -> None:
    values = example_values(3, 8, 12, 3, layout, dtype)
    assert values.shape == ((3, 8, 12, 3) if layout is Layout.NHWC else (3, 3, 8, 12))
    assert values.dtype == dtype
    assert values.std() > 0
    if dtype == "float32":
        assert values[0].min() >= 0 and values[0].max() <= 1
        assert values[1].min() < 0 and abs(values[1]).max() <= 1
        assert 2 < values[2].max() <= 255
    np.testing.assert_array_equal(values, example_values(3, 8, 12, 3, layout, dtype))
