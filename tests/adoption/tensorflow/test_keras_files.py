"""Keras files of versions 2 and 3, by content; code and weights without an architecture are refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, keras_model, photos, replaced_in_zip, spec_of
from trtpoets.adoption.contract import RAW, UNIT, Pixels
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import LoadedTensorFlow, read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.optional import onnxruntime, tensorflow
from trtpoets.core.original import Answers, Channels, Format, scores_from_output, values_from_photos

pytest.importorskip("tensorflow")
h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def model() -> Any:
    return keras_model(tensorflow().keras.layers.Rescaling(1 / 255, name="to_unit"))


@pytest.fixture(scope="module")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(path)
    return path


def expected_scores(loaded: LoadedTensorFlow, pixels: Pixels) -> np.ndarray:
    spec = spec_of(loaded, pixels)
    with TensorFlowNetwork(loaded) as network:
        output = network.infer(values_from_photos(photos(), spec.preprocess, pixels.channels))
    return scores_from_output(output, loaded.model.output)


def test_a_file_of_keras_3(file: Path, model: Any, tmp_path: Path) -> None:
    loaded = read_tensorflow(file)
    found = loaded.model
    assert (found.format, found.height, found.width, found.channels) == (Format.KERAS, SIDE, SIDE, 3)
    assert (found.input.name, found.input.batch, found.output.name) == ("photo", 0, "classes")
    assert (found.output.size, found.output.answers) == (3, Answers.PROBABILITIES)
    assert found.clues.nodes == ("to_unit", "conv", "norm", "depthwise", "pool", "classes")
    assert found.clues.writer.startswith("keras 3.")
    assert found.fixed is not None
    assert found.fixed.pixels == RAW
    assert "to_unit" in found.fixed.evidence.text
    expected = expected_scores(loaded, RAW)
    np.testing.assert_allclose(expected, model.predict(photos(), verbose=0), atol=1e-6)
    made = classifier_from_tensorflow(loaded, spec_of(loaded), tmp_path / "classifier")
    path = onnx_from_classifier(made, tmp_path / "fp32.onnx").path
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"photos": photos()})[0], expected, atol=1e-5)


def test_the_content_decides_not_the_suffix(file: Path, model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "model.h5")
    hdf5 = (tmp_path / "model.h5").rename(tmp_path / "hdf5.keras")
    archive = tmp_path / "archive.h5"
    archive.write_bytes(file.read_bytes())
    expected = expected_scores(read_tensorflow(file), RAW)
    for path in (hdf5, archive):
        np.testing.assert_allclose(expected_scores(read_tensorflow(path), RAW), expected, atol=1e-6)


def test_backslashes_of_windows_in_the_weights(file: Path, tmp_path: Path) -> None:
    def with_backslashes(h5: bytes) -> bytes:
        result = io.BytesIO()
        with h5py.File(io.BytesIO(h5)) as source, h5py.File(result, "w") as target:
            names: list[str] = []
            source.visit(names.append)
            for name in names:
                if isinstance(source[name], h5py.Dataset):
                    target.create_dataset(name.replace("/", "\\", 1), data=source[name][()])
        return result.getvalue()

    path = tmp_path / "windows.keras"
    path.write_bytes(file.read_bytes())
    replaced_in_zip(path, "model.weights.h5", with_backslashes)
    with h5py.File(io.BytesIO(_entry(path, "model.weights.h5"))) as weights:
        assert any("\\" in name for name in weights)
    expected = expected_scores(read_tensorflow(file), RAW)
    np.testing.assert_allclose(expected_scores(read_tensorflow(path), RAW), expected, atol=1e-6)


def _entry(path: Path, name: str) -> bytes:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def test_a_single_sigmoid_and_grey_photos(tmp_path: Path) -> None:
    keras_model(last="sigmoid", units=1, channels=1).save(tmp_path / "grey.keras")
    loaded = read_tensorflow(tmp_path / "grey.keras")
    assert (loaded.model.channels, loaded.model.output.size) == (1, 1)
    assert loaded.model.output.answers is Answers.SIGMOID
    assert loaded.model.fixed is None
    for channels in (Channels.GRAY, Channels.INVERTED_GRAY):
        pixels = Pixels((1 / 255,) * 3, (0.1,) * 3, channels, "grey")
        classifier_from_tensorflow(loaded, spec_of(loaded, pixels), tmp_path / channels.value)
        saved = tensorflow().saved_model.load(str(tmp_path / channels.value / "saved_model"))
        scores = saved.signatures["serve"](photos=photos())["scores"].numpy()
        assert scores.shape == (5, 2)
        np.testing.assert_allclose(scores, expected_scores(loaded, pixels), atol=1e-5)


def test_a_spec_of_another_network_is_refused(file: Path, tmp_path: Path) -> None:
    loaded = read_tensorflow(file)
    spec = spec_of(loaded)
    with pytest.raises(BadInput, match="3 classes, but there are 2 labels"):
        classifier_from_tensorflow(loaded, replace(spec, labels=spec.labels[:2]), tmp_path)
    with pytest.raises(BadInput, match="16 x 16 pixels of 3 channels, not 8 x 16 of 3"):
        classifier_from_tensorflow(loaded, replace(spec, preprocess=replace(spec.preprocess, height=8)), tmp_path)


def test_normalization_in_a_nested_model(tmp_path: Path) -> None:
    keras = tensorflow().keras
    layers = keras.layers
    inner = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 3)),
            layers.Rescaling(1 / 255),
            layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.05, 0.05], name="statistics"),
            layers.Conv2D(4, 3),
        ],
        name="inner",
    )
    model = keras.Sequential([layers.Input((SIDE, SIDE, 3)), inner, layers.Flatten(), layers.Dense(2)])
    model.save(tmp_path / "nested.h5")
    found = read_tensorflow(tmp_path / "nested.h5").model
    assert found.output.answers is Answers.LOGITS
    assert found.fixed is not None
    assert found.fixed.pixels == RAW
    assert "statistics" in found.fixed.evidence.text


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet", "densenet"])
def test_preprocess_input_in_the_graph(network: str, tmp_path: Path) -> None:
    # Keras 3 reverses the channels by three slices and a stack, where caffe's networks want BGR.
    keras = tensorflow().keras
    photo = keras.Input((SIDE, SIDE, 3))
    values = getattr(keras.applications, network).preprocess_input(photo)
    scores = keras_model()(values)
    keras.Model(photo, scores).save(tmp_path / "net.keras")
    fixed = read_tensorflow(tmp_path / "net.keras").model.fixed
    assert fixed is not None
    assert fixed.pixels == RAW and fixed.channels_known
    assert "those of ImageNet in RGB" in fixed.evidence.text
    assert fixed.evidence.text.endswith("it reverses the channels itself") == (network != "densenet")


def test_means_of_another_order_than_the_photos(tmp_path: Path) -> None:
    # Photos that OpenCV read, without a reversal in the graph.
    layer = tensorflow().keras.layers.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0, 1.0, 1.0])
    keras_model(layer).save(tmp_path / "net.keras")
    fixed = read_tensorflow(tmp_path / "net.keras").model.fixed
    assert fixed is not None and fixed.pixels == replace(RAW, channels=Channels.BGR) and fixed.channels_known


def test_grouped_convolutions_and_activations_with_gradients_of_their_own(tmp_path: Path) -> None:
    """Keras compiles grouped convolutions as functions; GELU uses Erfc, which tf2onnx does not have."""
    layers = tensorflow().keras.layers
    model = keras_model(
        layers.Conv2D(6, 3, groups=3, activation="gelu"),
        layers.LayerNormalization(),
        layers.Conv2D(4, 3, groups=2, activation="silu"),
        layers.Conv2D(4, 1, activation="hard_silu"),
    )
    model.save(tmp_path / "model.keras")
    loaded = read_tensorflow(tmp_path / "model.keras")
    expected = expected_scores(loaded, UNIT)
    np.testing.assert_allclose(expected, model(photos() / np.float32(255)), atol=1e-5)
    made = classifier_from_tensorflow(loaded, spec_of(loaded, UNIT), tmp_path / "classifier")
    path = onnx_from_classifier(made, tmp_path / "fp32.onnx").path
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"photos": photos()})[0], expected, atol=1e-5)


def test_weights_without_an_architecture(model: Any, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(BadArtefact, match="weights without an architecture") as caught:
        read_tensorflow(tmp_path / "model.weights.h5")
    assert "load_weights" in caught.value.hint


def test_lambda_layers_are_run_only_if_the_user_allows_it(tmp_path: Path) -> None:
    model = keras_model(tensorflow().keras.layers.Lambda(lambda x: x * 0.5 + 0.1, name="own"))
    for name in ("lambda.keras", "lambda.h5"):
        model.save(tmp_path / name)
        with pytest.raises(BadArtefact, match=r"Lambda layer \(own\).*not run") as caught:
            read_tensorflow(tmp_path / name)
        assert "--allow-code" in caught.value.hint
    expected = model.predict(photos() / np.float32(255), verbose=0)
    loaded = read_tensorflow(tmp_path / "lambda.keras", allow_code=True)
    np.testing.assert_allclose(expected_scores(loaded, UNIT), expected, atol=1e-5)


def test_layers_of_other_programs(tmp_path: Path) -> None:
    keras = tensorflow().keras

    base: Any = keras.layers.Layer

    @keras.utils.register_keras_serializable("mine")
    class Doubled(base):
        def call(self, x: Any) -> Any:
            return x * 2

    keras_model(Doubled()).save(tmp_path / "own.keras")
    keras.utils.get_custom_objects().clear()
    with pytest.raises(BadArtefact, match="mine>Doubled, a class of the program that wrote it") as caught:
        read_tensorflow(tmp_path / "own.keras", allow_code=True)
    assert "model.export" in caught.value.hint


def test_several_outputs(model: Any, tmp_path: Path) -> None:
    keras = tensorflow().keras
    outputs = {name: model.get_layer(name).output for name in ("classes", "pool")}
    keras.Model(model.inputs, outputs).save(tmp_path / "two.keras")
    with pytest.raises(BadArtefact, match="has 2 outputs"):
        read_tensorflow(tmp_path / "two.keras")


def test_damaged_and_missing_files(file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.keras"
    content = bytearray(file.read_bytes())
    content[-400:-300] = bytes(100)
    damaged.write_bytes(content)
    with pytest.raises(BadArtefact):
        read_tensorflow(damaged)
    with pytest.raises(MissingArtefact):
        read_tensorflow(tmp_path / "none.keras")


_TEACHABLE_MACHINE = f"""
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np, tf_keras
layers = tf_keras.layers
tf_keras.utils.set_random_seed(0)
photo = layers.Input(({SIDE}, {SIDE}, 3))
x = layers.Conv2D(4, 3, strides=2, use_bias=False)(photo)
x = layers.BatchNormalization()(x)
x = layers.DepthwiseConv2D(3, use_bias=False)(x)
x = layers.ReLU(6.0)(x)
body = tf_keras.Model(photo, x)
model = tf_keras.Sequential([
    tf_keras.Sequential([body, layers.GlobalAveragePooling2D()]),
    tf_keras.Sequential([layers.Dense(5, "relu"), layers.Dense(3, "softmax", use_bias=False, name="dense_Dense2")]),
])
model.build((None, {SIDE}, {SIDE}, 3))
random = np.random.default_rng(0)
model.set_weights([random.uniform(0.2, 1.5, w.shape) for w in model.get_weights()])
model.save(sys.argv[1] + "/keras_model.h5")
values = np.load(sys.argv[1] + "/values.npy")
np.save(sys.argv[1] + "/answers.npy", model.predict(values, verbose=0))
x = layers.Input(({SIDE}, {SIDE}, 3))
y = layers.Dense(2, "softmax")(layers.Flatten()(__import__("tensorflow").math.subtract(x / 127.5, 1.0)))
tf_keras.Model(x, y).save(sys.argv[1] + "/functions.h5")
"""


@pytest.mark.slow
def test_files_of_keras_2(tmp_path: Path) -> None:
    """As Teachable Machine writes them, with nested Sequentials, and with functions of TensorFlow as layers."""
    pytest.importorskip("importlib.metadata").version("tf-keras")
    np.save(tmp_path / "values.npy", photos() / np.float32(127.5) - 1)
    subprocess.run([sys.executable, "-c", _TEACHABLE_MACHINE, str(tmp_path)], check=True, capture_output=True)
    loaded = read_tensorflow(tmp_path / "keras_model.h5")
    assert "dense_Dense2" in loaded.model.clues.nodes
    assert loaded.model.output.answers is Answers.PROBABILITIES
    output = TensorFlowNetwork(loaded).infer(np.load(tmp_path / "values.npy"))
    np.testing.assert_allclose(output, np.load(tmp_path / "answers.npy"), atol=1e-5)
    functions = read_tensorflow(tmp_path / "functions.h5").model
    assert functions.fixed is not None
    assert functions.fixed.pixels == RAW


def test_functions_of_tensorflow_that_reach_files(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "functions.h5")
    with h5py.File(tmp_path / "functions.h5", "r+") as stored:
        config = json.loads(stored.attrs["model_config"])
        config["config"]["layers"][1] = {
            "class_name": "TFOpLambda",
            "config": {"name": "tf.io.write_file", "function": "io.write_file"},
        }
        stored.attrs["model_config"] = json.dumps(config)
    with pytest.raises(BadArtefact, match=r"tf\.io\.write_file"):
        read_tensorflow(tmp_path / "functions.h5")
