"""Keras models become graphs with one input and one output."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import photos
from tests.support.errors import raises
from trtpoets.adoption.tensorflow.execution import function_of
from trtpoets.adoption.tensorflow.graph import Graph
from trtpoets.adoption.tensorflow.keras_network import graph_of_model
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_the_graph_computes_what_the_model_computes(model: Any) -> None:
    graph = graph_of_model(tensorflow(), model, "net.keras")
    assert (graph.input, graph.output) == ("photo", "classes")
    assert graph.layers[-1] == "classes"
    values = photos().astype(np.float32)
    run = function_of(Graph(graph.definition, "photo", graph.tensor))
    np.testing.assert_allclose(run(values), model(values), atol=1e-6)
    np.testing.assert_allclose(graph.call(values), model(values), atol=1e-6)


def test_models_without_an_input_or_with_several(model: Any) -> None:
    with pytest.raises(BadArtefact) as caught:
        graph_of_model(tensorflow(), SimpleNamespace(inputs=None), "net.keras")
    assert caught.value.code == "TP9124"

    two = SimpleNamespace(inputs=[*model.inputs, *model.inputs], outputs=model.outputs)
    with raises(BadArtefact, "TP9125", "2", "inputs", "photo, photo") as caught:
        graph_of_model(tensorflow(), two, "net.keras")
    assert caught.value.code == "TP9125"
