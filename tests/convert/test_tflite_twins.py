"""A TFLite network and an ONNX network of the same classifier: which tensors and layers are equal."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.errors import raises
from tests.support.tiny import tiny_graph, tiny_photos
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.tflite_graph import TfliteGraph
from trtpoets.convert.tflite_twins import as_onnx, as_tflite, twins_from
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import loaded_interpreter


def test_tensors_are_matched_by_value(tiny_tflite_network: bytes) -> None:
    twins = twins_from(tiny_tflite_network, tiny_graph(), tiny_photos(2))
    assert not twins.unknown
    graph = TfliteGraph(twins.content)
    names = [twins.tensors[int(operator.outputs[0])] for operator in graph.operators]
    # Where ONNX has several tensors with the same values, it is the last of them.
    assert names == ["real", "r", "f", "l", "scores"]


def test_a_layer_with_the_scaling_of_pixels_in_its_weights_has_no_twin(tiny_tflite_network: bytes) -> None:
    """TensorFlow's converter puts it there if the first layer has no padding; its own weights are quantised then."""
    twins = twins_from(tiny_tflite_network, tiny_graph(), tiny_photos(1))
    assert not twins.layers
    assert twins.scaled == (int(TfliteGraph(twins.content).operators[0].outputs[0]), (0.0, 255.0))


def test_the_network_reads_pixels_as_real_numbers_and_gives_the_same_scores(tiny_tflite_network: bytes) -> None:
    photo = tiny_photos(1, seed=2)
    scores = []
    for content, pixels in (
        (tiny_tflite_network, photo),
        (twins_from(tiny_tflite_network, tiny_graph(), photo).content, photo.astype("f4")),
    ):
        interpreter = loaded_interpreter(content)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
        interpreter.invoke()
        scores.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    before, after = scores
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_another_network_is_refused(tiny_tflite_network: bytes) -> None:
    other = tiny_graph()
    view = GraphView(other)
    view.constants["fc"].CopyFrom(numpy_helper.from_array(-view.array("fc"), "fc"))
    with raises(ConversionFailed, "TP3261") as caught:
        twins_from(tiny_tflite_network, other, tiny_photos(1))
    assert caught.value.hint == "write FP32 only: trtpoets bundle NAME --for tflite --precision fp32"


def test_a_network_that_does_not_scale_pixels_is_refused(tiny_tflite_network: bytes) -> None:
    graph = TfliteGraph(tiny_tflite_network)
    graph.graph.operators = graph.operators[1:]  # without the CAST
    graph.graph.inputs = [graph.operators[0].inputs[0]]
    with raises(ConversionFailed, "TP3260"):
        twins_from(graph.content, tiny_graph(), tiny_photos(1))


@pytest.mark.parametrize(("kind", "shape"), [("CONV_2D", (8, 3, 2, 5)), ("DEPTHWISE_CONV_2D", (6, 1, 3, 3))])
def test_the_order_of_weights(kind: str, shape: tuple[int, ...]) -> None:
    weights = np.arange(np.prod(shape)).reshape(shape)
    stored = as_tflite(weights, kind)
    assert stored.shape == ((8, 2, 5, 3) if kind == "CONV_2D" else (1, 3, 3, 6))
    np.testing.assert_array_equal(as_onnx(stored, kind), weights)
