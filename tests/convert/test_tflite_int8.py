"""int8.tflite with the parameters of int8.onnx: integers, scales and biases in the file, and closeness to FP32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import SIDE, tiny_photo_files, tiny_photos, tiny_spec
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, calibration_from_photos
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import int8_from_onnx
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.convert.tflite_export import tflite_from_classifier
from trtpoets.convert.tflite_graph import TfliteGraph
from trtpoets.convert.tflite_int8 import Parameters, corrected, int8_from_fp32, quantised_network, rounded_weights
from trtpoets.convert.tflite_twins import twins_from
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.optional import loaded_interpreter, tensorflow
from trtpoets.core.tflite_file import network_in, read_tflite
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, TfliteModel
from trtpoets.device.runners import open_runner

FP32, INT8 = Precision.FP32, Precision.INT8


@dataclass(frozen=True)
class Files:
    """A small residual network with depthwise and grouped convolutions in FP32 and INT8, and its calibration photos."""

    classifier: Classifier
    fp32: TfliteModel
    onnx: OnnxModel
    int8: OnnxModel
    ranges: Ranges
    photos: list[Photo]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    folder = tmp_path_factory.mktemp("tflite_int8")
    classifier = _residual(folder / "classifier")
    photos = tiny_photo_files(folder / "photos", 16)
    onnx = onnx_from_classifier(classifier, folder / "fp32.onnx")
    fp32 = tflite_from_classifier(classifier, FP32, [], folder / "fp32.tflite")
    (ranges,) = calibration_from_photos(onnx, photos, CalibrationConfig(method=Method.MSE)).by_method
    int8, _ = int8_from_onnx(Int8Evaluator(onnx, photos, []), ranges, folder / "int8.onnx")
    return Files(classifier, fp32, onnx, int8, ranges, photos)


def _residual(folder: Path) -> Classifier:
    tf = tensorflow()
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(5)
    photos = tf.keras.Input((SIDE, SIDE, 3), dtype="uint8", name="photos")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(photos)
    x = layers.ReLU(6.0)(layers.Conv2D(8, 3, strides=2, padding="same")(layers.ZeroPadding2D(1)(x)))
    y = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", bias_initializer="ones")(x))
    y = layers.Conv2D(8, 1, groups=2, use_bias=False)(y)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    model = tf.keras.Model(photos, layers.Dense(3, activation="softmax", name="head")(x))
    signature = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="photos")]
    serve = tf.function(lambda photos: {"scores": model(photos)}, input_signature=signature)
    folder.mkdir(parents=True)
    model.save(folder / "classifier.keras")
    tf.saved_model.save(model, str(folder / "saved_model"), signatures={"serve": serve})
    return Classifier(folder, tiny_spec())


@pytest.fixture(scope="module")
def proto(files: Files) -> Any:
    return check_onnx(files.onnx.path)


def parameters_of(proto: Any, spans: dict[str, tuple[float, float]], nodes: list[Any]) -> Parameters:
    view = GraphView(proto)
    weights = {node.name: view.array(node.input[1]) for node in nodes}
    biases = {
        node.name: view.array(node.input[2]) if len(node.input) > 2 else np.zeros(8, np.float32) for node in nodes
    }
    return Parameters(spans, weights, biases)


def test_the_variant_closest_to_fp32_is_written(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "int8.tflite"
    model, notes = int8_from_fp32(files.fp32, (files.onnx, files.int8, files.ranges), files.photos, [], out)
    assert read_tflite(out) == model == TfliteModel(out, INT8, tiny_spec())
    assert list(notes.trials) == ["calibrated", "searched", "rounded", "affine"]
    assert list(notes.features_db) == list(notes.trials)
    assert notes.variant == max(notes.features_db, key=lambda name: notes.features_db[name])
    assert {trial.photos for trial in notes.trials.values()} == {16}
    photos = tiny_photos(16, seed=3)
    with open_runner(files.fp32) as wide, open_runner(model) as narrow:
        assert abs(wide.infer(photos) - narrow.infer(photos)).max() < 0.02


def test_scores_decide_where_the_last_layer_can_not_be_separated(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(network: bytes) -> bytes:
        raise ConversionFailed("no dense layer", code="TP3266")

    monkeypatch.setattr("trtpoets.convert.tflite_int8.with_features_of_tflite", impossible)
    sources = (files.onnx, files.int8, files.ranges)
    _, notes = int8_from_fp32(files.fp32, sources, files.photos, [], tmp_path / "int8.tflite")
    assert notes.features_db == {}
    assert notes.variant == max(notes.trials, key=lambda name: notes.trials[name].rank)


def test_everything_from_the_photo_to_the_features_is_an_integer(files: Files, tmp_path: Path) -> None:
    sources = (files.onnx, files.int8, files.ranges)
    model, _ = int8_from_fp32(files.fp32, sources, files.photos, [], tmp_path / "int8.tflite")
    graph = TfliteGraph(network_in(model.path))
    kinds = [graph.kind(operator) for operator in graph.operators]
    assert kinds[:2] == ["QUANTIZE", "DEPTHWISE_CONV_2D"]
    assert kinds[kinds.index("DEQUANTIZE") :] == ["DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"]
    for operator in graph.convolutions:
        weights, bias = (graph.graph.tensors[int(operator.inputs[place])] for place in (1, 2))
        assert (weights.type, bias.type) == (graph.schema.TensorType.INT8, graph.schema.TensorType.INT32)
        assert not np.any(weights.quantization.zeroPoint)
        source = graph.graph.tensors[int(operator.inputs[0])]
        np.testing.assert_allclose(
            bias.quantization.scale, source.quantization.scale[0] * np.asarray(weights.quantization.scale), rtol=1e-6
        )


def test_without_int8_onnx_biases_are_corrected_for_minima_and_maxima(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "int8.tflite"
    _, notes = int8_from_fp32(files.fp32, (files.onnx, None, None), files.photos, files.photos, out)
    assert list(notes.trials) == ["calibrated", "corrected"]


def test_the_interpreter_computes_what_the_parameters_say(files: Files, proto: Any) -> None:
    """The output of the second layer, from integers, with the scales of the file: at most one level off."""
    photos = tiny_photos(2, seed=9)
    twins = twins_from(network_in(files.fp32.path), proto, photos)
    assert not twins.unknown and len(twins.layers) == 3
    spans = dict.fromkeys(twins.tensors.values(), (-1.0, 3.0))
    content = quantised_network(twins, parameters_of(proto, spans, list(twins.layers.values())))
    graph = TfliteGraph(content)
    layer = graph.convolutions[2]
    assert graph.kind(layer) == "DEPTHWISE_CONV_2D"
    interpreter = loaded_interpreter(content, keep_tensors=True)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photos[:1].astype(np.float32))
    interpreter.invoke()
    source, weights, bias = (interpreter.get_tensor(int(index)).astype(np.int64) for index in layer.inputs)
    tensors = graph.graph.tensors
    zero = int(tensors[int(layer.inputs[0])].quantization.zeroPoint[0])
    padded = np.pad(source[0] - zero, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    sums = np.einsum("hwcij,ijc->hwc", windows, weights[0]) + bias
    step = np.asarray(tensors[int(layer.inputs[2])].quantization.scale)
    output = tensors[int(layer.outputs[0])].quantization
    # A ReLU6 follows, whose lower limit is the integer of 0.
    expected = np.rint(sums * step / output.scale[0]) + output.zeroPoint[0]
    expected = np.clip(expected, output.zeroPoint[0], 127)
    values = interpreter.get_tensor(int(layer.outputs[0]))[0]
    assert abs(values - expected).max() <= 1


def test_rounded_weights_and_biases_are_written_as_they_are(files: Files, proto: Any) -> None:
    twins = twins_from(network_in(files.fp32.path), proto, tiny_photos(1))
    nodes = list(twins.layers.values())
    spans = dict.fromkeys(twins.tensors.values(), (-1.0, 3.0))
    plain = parameters_of(proto, spans, nodes)
    name, last = nodes[-1].name, list(twins.layers)[-1]
    scales = (abs(plain.weights[name]).max(axis=(1, 2, 3)) / 127).reshape(-1, 1, 1, 1)
    rounded = (np.floor(plain.weights[name] / scales) * scales).astype(np.float32)
    graph = TfliteGraph(quantised_network(twins, replace(plain, rounded={name: rounded})))
    weights = graph.constant(int(graph.convolutions[last].inputs[1]))
    assert weights is not None
    np.testing.assert_array_equal(weights[:, 0, 0], np.clip(np.rint(rounded / scales), -127, 127)[:, :, 0, 0])


def test_a_bias_beyond_32_bits_gets_a_larger_scale(files: Files, proto: Any) -> None:
    twins = twins_from(network_in(files.fp32.path), proto, tiny_photos(1))
    nodes = list(twins.layers.values())
    plain = parameters_of(proto, dict.fromkeys(twins.tensors.values(), (-1.0, 3.0)), nodes)
    name, last = nodes[-1].name, list(twins.layers)[-1]
    biases = {**plain.biases, name: np.array([1e6, *[0.0] * 7], np.float32)}
    weights = {**plain.weights, name: plain.weights[name] * np.float32(1e-3)}
    graph = TfliteGraph(quantised_network(twins, replace(plain, weights=weights, biases=biases)))
    index = int(graph.convolutions[last].inputs[2])
    bias = graph.constant(index)
    assert bias is not None
    np.testing.assert_allclose(
        bias * np.asarray(graph.graph.tensors[index].quantization.scale), biases[name], rtol=1e-6
    )


def test_corrected_biases_preserve_the_mean_of_each_channel(files: Files, proto: Any) -> None:
    photos = tiny_photos(8, seed=4)
    twins = twins_from(network_in(files.fp32.path), proto, photos)
    nodes = list(twins.layers.values())
    plain = parameters_of(proto, {}, nodes)
    coarse = {node.name: np.round(plain.weights[node.name], 1) for node in nodes}
    parameters = replace(plain, rounded=coarse)
    shifted = corrected(proto, parameters, nodes, photos)
    node = nodes[-1]  # a 1 x 1 convolution in two groups: its mean output is that of its mean input
    lost = (plain.weights[node.name] - rounded_weights(parameters, node.name)).reshape(2, 4, 4)
    mean = _mean_input(proto, node.input[0], photos).reshape(2, 4)
    expected = np.einsum("goi,gi->go", lost, mean).reshape(-1)
    np.testing.assert_allclose(shifted.biases[node.name] - plain.biases[node.name], expected, atol=1e-5)


def _mean_input(proto: Any, tensor: str, photos: np.ndarray) -> np.ndarray:
    from trtpoets.convert.int8.activation_stats import with_outputs
    from trtpoets.core.onnx_file import open_session

    session = open_session(with_outputs(proto, [tensor]).SerializeToString())
    return np.asarray(session.run([tensor], {"photos": photos})[0].mean(axis=(0, 2, 3)))


def test_photos_of_the_training_split_are_required(files: Files, tmp_path: Path) -> None:
    with raises(BadInput, "TP3063"):
        int8_from_fp32(files.fp32, (files.onnx, None, None), [], [], tmp_path / "int8.tflite")
