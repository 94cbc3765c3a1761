"""Keras files of versions 2 and 3, by content; code and weights without an architecture are refused."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, keras_model, photos, replaced_in_zip, spec_of
from tests.adoption.tensorflow.reading import expected_scores
from tests.support.errors import raises
from trtpoets.adoption.contract import RAW
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.optional import onnxruntime, tensorflow
from trtpoets.core.original import Answers, Channels, Format

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)
h5py = pytest.importorskip("h5py")


def test_a_file_of_keras_3(file: Path, model: Any, tmp_path: Path) -> None:
    loaded = read_tensorflow(file)
    foreign = loaded.model
    assert (foreign.format, foreign.height, foreign.width, foreign.channels) == (Format.KERAS, SIDE, SIDE, 3)
    assert (foreign.input.name, foreign.input.batch, foreign.output.name) == ("photo", 0, "classes")
    assert (foreign.output.size, foreign.output.answers) == (3, Answers.PROBABILITIES)
    assert foreign.clues.nodes == ("to_unit", "conv", "norm", "depthwise", "pool", "classes")
    assert foreign.clues.writer.startswith("keras 3.")
    assert foreign.fixed is not None
    assert foreign.fixed.pixels == RAW
    assert "to_unit" in foreign.fixed.evidence.text
    expected = expected_scores(loaded, RAW)
    np.testing.assert_allclose(expected, model.predict(photos(), verbose=0), atol=1e-6)
    classifier = classifier_from_tensorflow(loaded, spec_of(loaded), tmp_path / "classifier")
    path = onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path
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
    foreign = read_tensorflow(tmp_path / "nested.h5").model
    assert foreign.output.answers is Answers.LOGITS
    assert foreign.fixed is not None
    assert foreign.fixed.pixels == RAW
    assert "statistics" in foreign.fixed.evidence.text


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


def test_weights_without_an_architecture(model: Any, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "model.weights.h5")
    with raises(BadArtefact, "TP9130") as caught:
        read_tensorflow(tmp_path / "model.weights.h5")
    assert "load_weights" in caught.value.hint


def test_several_outputs(model: Any, tmp_path: Path) -> None:
    keras = tensorflow().keras
    outputs = {name: model.get_layer(name).output for name in ("classes", "pool")}
    keras.Model(model.inputs, outputs).save(tmp_path / "two.keras")
    with raises(BadArtefact, "TP9125", "2", "outputs"):
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


def test_keras_does_not_warn_about_the_notes_of_a_file(tmp_path: Path) -> None:
    """Files of Keras 2 repeat the shape of the input at each layer, of which Keras 3 warns."""
    keras_model().save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["batch_input_shape"] = [None, SIDE, SIDE, 3]
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.9.0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_tensorflow(tmp_path / "model.h5").model.output.size == 3


def test_an_embedding_is_no_classifier(tmp_path: Path) -> None:
    layers = tensorflow().keras.layers
    model = keras_model(last=None)
    for name, layer in (
        ("norm", layers.UnitNormalization()),
        ("features", layers.Activation("linear", name="features")),
    ):
        embedding = tensorflow().keras.Sequential([layers.Input((SIDE, SIDE, 3)), *model.layers, layer])
        embedding.save(tmp_path / f"{name}.keras")
        code, reason = {"norm": ("TP9463", "length 1"), "features": ("TP9462", "its name")}[name]
        with raises(BadArtefact, code, tmp_path / f"{name}.keras", "3 values", reason):
            read_tensorflow(tmp_path / f"{name}.keras")
