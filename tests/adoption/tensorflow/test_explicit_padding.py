"""Depthwise convolutions with explicit padding: TensorFlow with oneDNN aborts on them if a bias follows."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, graph, photos, weights
from tests.adoption.tensorflow.reading import read, scores_in_onnx
from trtpoets.adoption.contract import RAW
from trtpoets.adoption.tensorflow.explicit_padding import separate_padding
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # importing it takes seconds of each worker of the tests
    pytest.skip("needs TensorFlow", allow_module_level=True)

PADDING = [[0, 0], [0, 1], [2, 0], [0, 0]]


def network(pixels: Any, bias: str = "bias_add") -> Any:
    """Scores of pixels. In a graph on a processor with AVX512_VNNI it aborts the process; eagerly it does not."""
    nn = tensorflow().nn
    value = nn.relu(nn.conv2d(pixels / 255, weights(3, 3, 3, 6), 2, "SAME"))
    value = nn.depthwise_conv2d(value, weights(3, 3, 6, 1, seed=5), [1, 2, 2, 1], PADDING)
    value = nn.bias_add(value, weights(6, seed=1)) if bias == "bias_add" else value + weights(6, seed=1)
    value = tensorflow().reduce_mean(nn.relu6(value), [1, 2])
    return nn.softmax(value @ (3 * weights(6, 3, seed=6)), name="scores")


def frozen_graph(bias: str = "bias_add") -> Any:
    return graph(lambda v1: network(v1.placeholder("float32", [None, SIDE, SIDE, 3], name="input"), bias))


@pytest.mark.parametrize("bias", ["bias_add", "add"])
def test_a_frozen_graph_gives_the_scores_of_its_explicit_padding(
    bias: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        loaded = read(frozen_graph(bias), tmp_path)
    assert "TensorFlow runs 1 depthwise convolutions" in caplog.text
    original, exported = scores_in_onnx(loaded, tmp_path, RAW)
    expected = network(photos().astype(np.float32), bias).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3
    np.testing.assert_allclose(original, expected, atol=1e-5)
    np.testing.assert_allclose(exported, expected, atol=1e-5)


def test_a_signature_with_explicit_padding_runs_without_it(tmp_path: Path) -> None:
    tf = tensorflow()
    module = tf.Module()
    pixels = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="photo")
    module.serve = tf.function(lambda photo: {"scores": network(photo)}, input_signature=[pixels], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    loaded = read_tensorflow(tmp_path / "saved")
    values = photos().astype(np.float32)
    with TensorFlowNetwork(loaded) as original:
        np.testing.assert_allclose(original.infer(values), network(values).numpy(), atol=1e-5)


def test_convolutions_in_functions_are_changed_too(tmp_path: Path) -> None:
    tf = tensorflow()
    inner = tf.function(network, autograph=False)
    with tf.Graph().as_default() as graph:
        pixels = tf.compat.v1.placeholder("float32", [None, SIDE, SIDE, 3], name="input")
        tf.identity(inner(pixels), name="scores")
    definition = graph.as_graph_def()
    assert len(definition.library.function) == 1
    assert separate_padding(definition) == 1
    assert separate_padding(definition) == 0
    with tf.Graph().as_default() as again:
        (scores,) = tf.import_graph_def(definition, return_elements=["scores:0"], name="")
    values = photos().astype(np.float32)
    with tf.compat.v1.Session(graph=again) as session:
        actual = session.run(scores, {"input:0": values})
    np.testing.assert_allclose(actual, network(values).numpy(), atol=1e-5)


def test_other_convolutions_are_left_as_they_are() -> None:
    def build(v1: Any) -> None:
        pixels = v1.placeholder("float32", [None, SIDE, SIDE, 3])
        value = v1.nn.conv2d(pixels, weights(3, 3, 3, 6), 2, PADDING)
        v1.nn.depthwise_conv2d(value, weights(3, 3, 6, 1), [1, 1, 1, 1], "SAME")

    definition = graph(build)
    before = definition.SerializeToString(deterministic=True)
    assert separate_padding(definition) == 0
    assert definition.SerializeToString(deterministic=True) == before
