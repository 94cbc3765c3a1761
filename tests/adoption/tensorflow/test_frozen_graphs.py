"""Frozen graphs of TensorFlow 1: inputs, outputs, batches, and what is refused."""

from __future__ import annotations

import gc
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
    spec_of,
    weights,
    written,
)
from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Pixels
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import LoadedTensorFlow, read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import onnxruntime, tensorflow
from trtpoets.core.original import Answers, Channels, Format, Layout, scores_from_output, values_from_photos

pytest.importorskip("tensorflow")


MEAN = np.array([0.485, 0.456, 0.406], np.float32)


def read(definition: Any, folder: Path, allow_code: bool = False) -> LoadedTensorFlow:
    return read_tensorflow(written(definition, folder / "graph.pb"), allow_code=allow_code)


def classifier(*first: Any, shape: Any = (None, SIDE, SIDE, 3), name: str = "Placeholder", end: str = "softmax") -> Any:
    """A graph whose input takes `first` functions of `tf.compat.v1` and the pixels."""

    def build(v1: Any) -> None:
        value = v1.placeholder("float32", shape, name=name)
        for function in first:
            value = function(v1, value)
        logits = v1.nn.bias_add(v1.matmul(v1.squeeze(features(v1, value), [1, 2]), weights(6, 3)), weights(3))
        if end != "logits":
            getattr(v1.nn, end)(logits, name="scores")

    return graph(build)


def scores_in_onnx(loaded: LoadedTensorFlow, folder: Path, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the original, and of fp32.onnx."""
    spec = spec_of(loaded, pixels)
    made = classifier_from_tensorflow(loaded, spec, folder / "classifier")
    model = onnx_from_classifier(made, folder / "fp32.onnx")
    values = values_from_photos(photos(), spec.preprocess, pixels.channels)
    with TensorFlowNetwork(loaded) as network:
        expected = scores_from_output(network.infer(values), loaded.model.output)
    session = onnxruntime().InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    return expected, session.run(None, {"photos": photos()})[0]


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


@pytest.mark.parametrize(
    ("first", "pixels"),
    [
        ([lambda v1, x: v1.divide(x, 255.0)], RAW),
        ([lambda v1, x: v1.subtract(v1.multiply(x, 1 / 127.5), 1.0)], RAW),
        ([lambda v1, x: v1.subtract(x, np.array([123.7, 116.8, 103.9], np.float32))], RAW),
        ([lambda v1, x: v1.subtract(x[..., ::-1], np.array([103.9, 116.8, 123.7], np.float32))], RAW),
        (
            [lambda v1, x: v1.divide(v1.subtract(v1.divide(x, 255.0), MEAN), 0.23)],
            RAW,
        ),
        ([lambda v1, x: v1.subtract(v1.multiply(x, 2.0), 1.0)], UNIT),
        ([lambda v1, x: v1.divide(v1.subtract(x, MEAN), 0.23)], UNIT),
        ([lambda v1, x: v1.multiply(x, 255.0)], UNIT),
        ([lambda v1, x: v1.multiply(v1.add(x, 1.0), 127.5)], SIGNED),
        ([lambda v1, x: v1.multiply(x, 1.1)], None),
        ([lambda v1, x: v1.subtract(x, 0.5)], None),
        ([], None),
    ],
)
def test_pixels_that_the_graph_determines(first: Any, pixels: Pixels | None, tmp_path: Path) -> None:
    model = read(classifier(*first), tmp_path).model
    assert (model.fixed and model.fixed.pixels) == pixels
    if model.fixed:
        assert f"pixels of {model.fixed.pixels.name}" in model.fixed.evidence.text


def test_bgr_and_a_sigmoid_as_custom_vision_writes_them(tmp_path: Path) -> None:
    loaded = read(classifier(end="sigmoid"), tmp_path)
    assert loaded.model.output.answers is Answers.SIGMOID
    assert loaded.model.input.batch == 0
    pixels = Pixels((0.01,) * 3, (-1.0, -1.1, -1.2), Channels.BGR, "BGR")
    expected, scores = scores_in_onnx(loaded, tmp_path, pixels)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("end", "answers"), [("log_softmax", Answers.LOG_PROBABILITIES), ("logits", Answers.LOGITS)])
def test_logarithms_and_logits(end: str, answers: Answers, tmp_path: Path) -> None:
    loaded = read(classifier(end=end), tmp_path)
    assert loaded.model.output.answers is answers
    spec = spec_of(loaded)
    classifier_from_tensorflow(loaded, spec, tmp_path)
    serve = tensorflow().saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    values = values_from_photos(photos(), spec.preprocess, Channels.RGB)
    expected = scores_from_output(TensorFlowNetwork(loaded).infer(values), loaded.model.output)
    np.testing.assert_allclose(serve(photos=photos())["scores"], expected, atol=1e-5)


def test_inputs_of_training_get_their_values_at_inference(tmp_path: Path) -> None:
    def build(v1: Any) -> None:
        pixels = v1.placeholder("float32", [None, SIDE, SIDE, 3], name="x")
        keep = v1.placeholder("float32", [], name="keep_prob")
        phase = v1.placeholder("bool", [], name="phase_train")
        value = v1.squeeze(features(v1, pixels), [1, 2]) / keep
        chosen = v1.cond(phase, lambda: value * 0, lambda: value)
        v1.nn.softmax(v1.matmul(chosen, weights(6, 3)), name="prob")

    definition = graph(build)
    gc.collect()  # the branches of a graph that is deleted must not be those of one that is read
    model = read(definition, tmp_path).model
    assert (model.input.name, model.output.name) == ("x", "prob")


def test_a_network_that_mixes_the_photos_of_a_batch_is_refused(tmp_path: Path) -> None:
    definition = classifier(lambda v1, x: x - v1.reduce_mean(x, 0, keepdims=True))
    with pytest.raises(BadArtefact, match="for 3 photos together") as caught:
        read(definition, tmp_path)
    assert caught.value.code == "TP9133"


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
    ("build", "code", "words"),
    [
        (several, "TP9113", "colour, shape"),
        (two_inputs, "TP9109", "left, right"),
        (reads_a_file, "TP9103", "ReadFile"),
        (runs_python, "TP9103", "PyFunc"),
        (detector, "TP9114", "object detector"),
        (loop, "TP9107", "loop"),
        (branch, "TP9144", "depends on the photo"),
        (segmentation, "TP9139", "one float for each class"),
        (sequence, "TP9136", "3 axes"),
        (one_number, "TP9132", "single number"),
    ],
)
def test_what_is_no_classifier_of_photos(build: Any, code: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match=words) as caught:
        read(graph(build), tmp_path)
    assert caught.value.code == code
    assert caught.value.hint


def test_an_input_without_a_shape_gets_its_channels_from_the_weights(tmp_path: Path) -> None:
    definition = classifier(shape=None)
    for node in definition.node:
        if node.op == "Placeholder":
            del node.attr["shape"]
        if node.op == "Conv2D":
            del node.attr["data_format"]
    loaded = read(definition, tmp_path)
    assert (loaded.model.height, loaded.model.width, loaded.model.channels) == (0, 0, 3)
    spec = spec_of(loaded, UNIT)
    classifier_from_tensorflow(loaded, spec, tmp_path)
    serve = tensorflow().saved_model.load(str(tmp_path / "saved_model")).signatures["serve"]
    output = TensorFlowNetwork(loaded).infer(values_from_photos(photos(), spec.preprocess, Channels.RGB))
    np.testing.assert_allclose(serve(photos=photos())["scores"], output, atol=1e-5)


def test_an_array_of_a_few_bytes_and_many_gigabytes(tmp_path: Path) -> None:
    definition = retrain_graph()
    node = next(node for node in definition.node if node.op == "Const" and node.name.startswith("features/conv"))
    node.attr["value"].tensor.ClearField("tensor_content")
    node.attr["value"].tensor.float_val.append(1)
    node.attr["value"].tensor.tensor_shape.dim[0].size = 10**9
    with pytest.raises(BadArtefact, match="at most 2 GB"):
        read(definition, tmp_path)


def test_a_graph_without_its_weights(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="in a checkpoint") as caught:
        read(graph(variables), tmp_path)
    assert "freeze_graph" in caught.value.hint


def test_files_of_other_kinds(tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.pb"
    truncated.write_bytes(retrain_graph().SerializeToString()[:-700])
    with pytest.raises(BadArtefact, match="not a complete TensorFlow graph"):
        read_tensorflow(truncated)
    pointer = tmp_path / "graph.pb"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(BadArtefact, match="Git LFS pointer") as caught:
        read_tensorflow(pointer)
    assert "git lfs pull" in caught.value.hint
    with pytest.raises(BadArtefact, match=r"folder without saved_model\.pb"):
        read_tensorflow(tmp_path)
