"""Reading, changing and writing the flatbuffer of a TFLite network."""

from __future__ import annotations

import numpy as np

from tests.support.tiny import tiny_weights
from trtpoets.convert.tflite_graph import TfliteGraph


def test_operators_and_constants(tiny_tflite_network: bytes) -> None:
    graph = TfliteGraph(tiny_tflite_network)
    assert [graph.kind(operator) for operator in graph.operators] == [
        *("CAST", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX")
    ]
    (convolution,) = graph.convolutions
    weights = graph.constant(int(convolution.inputs[1]))
    assert weights is not None
    # Without padding, TensorFlow's converter folds the scaling of pixels into the weights.
    np.testing.assert_allclose(weights * 127.5, tiny_weights()[0].transpose(0, 2, 3, 1), rtol=1e-5)
    assert graph.constant(int(convolution.inputs[0])) is None  # computed


def test_a_constant_that_two_operators_read_is_changed_for_one(tiny_tflite_network: bytes) -> None:
    graph = TfliteGraph(tiny_tflite_network)
    first, second = graph.operators[1], graph.operators[3]
    second.inputs[1] = first.inputs[1]
    before = graph.constant(int(first.inputs[1]))
    assert before is not None
    graph.set_constant(second, 1, before + 1)
    again = TfliteGraph(graph.content)
    first, second = again.operators[1], again.operators[3]
    np.testing.assert_array_equal(again.constant(int(first.inputs[1])), before)
    np.testing.assert_array_equal(again.constant(int(second.inputs[1])), before + 1)


def test_equal_vectors_are_written_once(tiny_tflite_network: bytes) -> None:
    graph = TfliteGraph(tiny_tflite_network)
    values = np.random.default_rng(0).random(1 << 16)
    added = [graph.add_constant("large", values) for _ in range(2)]
    content = graph.content
    assert len(content) < len(tiny_tflite_network) + (6 << 16)  # 4 bytes each, once
    again = TfliteGraph(content)
    for index in added:
        np.testing.assert_array_equal(again.constant(index), values.astype(np.float32))
    assert again.code("MEAN") == graph.code("MEAN") and again.code("RELU6") == len(graph.model.operatorCodes)
