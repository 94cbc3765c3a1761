"""Frozen graphs of TensorFlow 1: inputs, outputs, batches, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import (
    SIDE,
    features,
    graph,
    inception_graph,
    photos,
    retrain_graph,
    weights,
)
from tests.adoption.tensorflow.reading import read, scores_in_onnx
from tests.support.errors import raises
from trtpoets.adoption.contract import SIGNED, Pixels
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Answers, Format, Layout

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_a_graph_of_tensorflow_for_poets(tmp_path: Path) -> None:
    loaded = read(retrain_graph(), tmp_path)
    model = loaded.model
    assert (model.format, model.height, model.width, model.channels) == (Format.GRAPH_DEF, SIDE, SIDE, 3)
    assert (model.input.name, model.input.dtype, model.input.layout, model.input.batch) == (
        "input",
        "float32",
        Layout.NHWC,
        1,
    )
    assert (model.output.name, model.output.size, model.output.answers) == ("final_result", 3, Answers.PROBABILITIES)
    assert model.fixed is None
    assert {"input", "input_1/BottleneckInputPlaceholder", "final_result"} <= set(model.clues.nodes)
    expected, scores = scores_in_onnx(loaded, tmp_path, SIGNED)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.ptp(scores, axis=0).max() > 0.01


def test_a_graph_that_decodes_photos_is_fed_after_its_scaling(tmp_path: Path) -> None:
    loaded = read(inception_graph(), tmp_path)
    model = loaded.model
    assert (model.input.name, model.height, model.input.batch) == ("Mul", SIDE, 1)
    assert model.fixed is not None
    assert model.fixed.pixels.same_as(Pixels((1 / 128,) * 3, (-1.0,) * 3))
    assert "DecodeJpeg" in model.fixed.evidence.text
    expected, scores = scores_in_onnx(loaded, tmp_path, model.fixed.pixels)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    tf = tensorflow()
    png = tf.io.encode_png(photos()[0]).numpy()  # DecodeJpeg reads PNG files too, without losses
    with tf.Graph().as_default() as whole:
        tf.import_graph_def(inception_graph(), name="")
        with tf.compat.v1.Session(graph=whole) as session:
            own = session.run("final_result:0", {"DecodeJpeg/contents:0": png})
    np.testing.assert_allclose(own, scores[:1], atol=1e-5)


def several(v1: Any) -> None:
    value = v1.squeeze(features(v1, v1.placeholder("float32", [None, SIDE, SIDE, 3])), [1, 2])
    v1.nn.softmax(v1.matmul(value, weights(6, 3)), name="colour")
    v1.nn.softmax(v1.matmul(value, weights(6, 4)), name="shape")


def two_inputs(v1: Any) -> None:
    left, right = (v1.placeholder("float32", [None, SIDE, SIDE, 3], name=name) for name in ("left", "right"))
    v1.nn.softmax(v1.matmul(v1.squeeze(features(v1, left + right), [1, 2]), weights(6, 3)))


def reads_a_file(v1: Any) -> None:
    extra = v1.io.decode_raw(v1.io.read_file("/etc/hostname"), "uint8")
    value = features(v1, v1.placeholder("float32", [None, SIDE, SIDE, 3])) + v1.reduce_sum(v1.cast(extra, "float32"))
    v1.nn.softmax(v1.matmul(v1.squeeze(value, [1, 2]), weights(6, 3)))


def runs_python(v1: Any) -> None:
    value = v1.py_func(lambda x: x, [v1.placeholder("float32", [None, SIDE, SIDE, 3])], "float32")
    value.set_shape([None, SIDE, SIDE, 3])
    v1.nn.softmax(v1.matmul(v1.squeeze(features(v1, value), [1, 2]), weights(6, 3)))


def detector(v1: Any) -> None:
    photo = v1.placeholder("uint8", [None, None, None, 3], name="image_tensor")
    value = v1.squeeze(features(v1, v1.cast(photo, "float32")), [1, 2])
    v1.identity(value, name="detection_boxes")
    v1.nn.softmax(value, name="detection_scores")


def loop(v1: Any) -> None:
    value = features(v1, v1.placeholder("float32", [None, SIDE, SIDE, 3]))
    value = v1.while_loop(lambda x: v1.reduce_sum(x) < 100, lambda x: (x + 1,), [v1.squeeze(value, [1, 2])])
    v1.nn.softmax(v1.matmul(value, weights(6, 3)))


def branch(v1: Any) -> None:
    value = v1.squeeze(features(v1, v1.placeholder("float32", [None, SIDE, SIDE, 3])), [1, 2])
    chosen = v1.cond(v1.reduce_sum(value) > 1, lambda: value, lambda: -value)
    v1.nn.softmax(v1.matmul(chosen, weights(6, 3)))


def segmentation(v1: Any) -> None:
    v1.nn.softmax(v1.nn.conv2d(v1.placeholder("float32", [None, 8, 8, 3]), weights(3, 3, 3, 2), 1, "SAME"))


def sequence(v1: Any) -> None:
    value = v1.placeholder("float32", [None, 20, 13], name="mfcc")
    v1.nn.softmax(v1.matmul(v1.reduce_mean(value, 1), weights(13, 3)))


def one_number(v1: Any) -> None:
    value = v1.squeeze(features(v1, v1.placeholder("float32", [None, SIDE, SIDE, 3])), [1, 2])
    v1.matmul(value, weights(6, 1), name="age")


def variables(v1: Any) -> None:
    weight = v1.get_variable("kernel", initializer=weights(6, 3), use_resource=False)
    value = v1.squeeze(v1.placeholder("float32", [None, 1, 1, 6]), [1, 2])
    v1.nn.softmax(v1.matmul(value, weight))


@pytest.mark.parametrize(
    ("build", "code", "value"),
    [
        (several, "TP9113", "colour, shape"),
        (two_inputs, "TP9109", "left, right"),
        (reads_a_file, "TP9103", "ReadFile"),
        (runs_python, "TP9103", "PyFunc"),
        (detector, "TP9114", "detection_boxes"),
        (loop, "TP9107", "StatelessWhile"),
        (branch, "TP9144", "StatelessIf"),
        (segmentation, "TP9139", "float32 [None, 8, 8, 2]"),
        (sequence, "TP9136", "3 axes [None, 20, 13]"),
        (one_number, "TP9132", "graph.pb"),
    ],
)
def test_what_is_no_classifier_of_photos(build: Any, code: str, value: str, tmp_path: Path) -> None:
    with raises(BadArtefact, code, value) as caught:
        read(graph(build), tmp_path)
    assert caught.value.hint


def test_an_array_of_a_few_bytes_and_many_gigabytes(tmp_path: Path) -> None:
    definition = retrain_graph()
    node = next(node for node in definition.node if node.op == "Const" and node.name.startswith("features/conv"))
    node.attr["value"].tensor.ClearField("tensor_content")
    node.attr["value"].tensor.float_val.append(1)
    node.attr["value"].tensor.tensor_shape.dim[0].size = 10**9
    with raises(BadArtefact, "TP9143"):
        read(definition, tmp_path)


def test_a_graph_without_its_weights(tmp_path: Path) -> None:
    with raises(BadArtefact, "TP9111") as caught:
        read(graph(variables), tmp_path)
    assert "freeze_graph" in caught.value.hint
