"""Export to TFLite: scores, types and names in the file, labels and metadata, and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adoption.tensorflow.networks import keras_model, spec_of
from tests.adoption.tensorflow.networks import photos as foreign_photos
from tests.convert.test_tflite_metadata import Table
from tests.support.errors import raises
from tests.support.tiny import SIDE, tiny_classifier, tiny_photo_files, tiny_photos, tiny_spec, tiny_tflite
from trtpoets.adoption.contract import SIGNED
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.tflite_export import tflite_from_classifier
from trtpoets.convert.tflite_metadata import metadata_of_spec
from trtpoets.core.errors import (
    BadArtefact,
    BadInput,
    BadPhoto,
    ConversionFailed,
    MissingArtefact,
    MissingDependency,
    PhotoChanged,
    TrtPoetsError,
)
from trtpoets.core.files import sha256_of_file
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Channels, scores_from_output, values_from_photos
from trtpoets.core.tflite_file import network_in, read_tflite, write_tflite
from trtpoets.core.types import Classifier, Precision, Preprocess, Split, TfliteModel
from trtpoets.device.runners import open_runner

FP32, INT8 = Precision.FP32, Precision.INT8


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    pytest.importorskip("tensorflow")
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def models(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, TfliteModel]:
    folder = tmp_path_factory.mktemp("tflite")
    return {precision: tiny_tflite(folder, classifier, precision) for precision in (FP32, INT8)}


def operators(path: Path) -> list[tuple[str, str]]:
    """Return the name of each operator and the type of its output, in order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=network_in(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    types = {details["index"]: details["dtype"].__name__ for details in interpreter.get_tensor_details()}
    return [(details["op_name"], types[details["outputs"][0]]) for details in interpreter._get_ops_details()]


def test_a_written_file_can_be_read(models: dict[Precision, TfliteModel]) -> None:
    for precision, model in models.items():
        assert read_tflite(model.path) == model == TfliteModel(model.path, precision, tiny_spec())


@pytest.mark.parametrize(("precision", "tolerance"), [(FP32, 1e-5), (INT8, 0.05)])
def test_scores_are_close_to_tensorflow(
    classifier: Classifier, models: dict[Precision, TfliteModel], precision: Precision, tolerance: float
) -> None:
    photos = tiny_photos(32, seed=3)
    with open_runner(classifier) as baseline, open_runner(models[precision]) as runner:
        expected, scores = baseline.infer(photos), runner.infer(photos)
    assert abs(scores - expected).max() < tolerance
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("precision", [pytest.param(FP32, marks=pytest.mark.slow), INT8])
def test_an_adopted_classifier_has_no_keras_network(tmp_path: Path, precision: Precision) -> None:
    pytest.importorskip("tensorflow")
    keras_model().save(tmp_path / "net.keras")
    pixels = replace(SIGNED, channels=Channels.BGR)
    loaded = read_tensorflow(tmp_path / "net.keras")
    spec = spec_of(loaded, pixels)
    adopted = classifier_from_tensorflow(loaded, spec, tmp_path / "classifier")
    (tmp_path / "classifier" / "model.json").write_text(spec.to_json())
    files = tiny_photo_files(tmp_path / "photos")
    network = tflite_from_classifier(adopted, precision, files if precision is INT8 else (), tmp_path / "net.tflite")
    batch = foreign_photos()
    with TensorFlowNetwork(loaded) as original, open_runner(network) as runner:
        values = values_from_photos(batch, spec.preprocess, Channels.BGR)
        expected = scores_from_output(original.infer(values), loaded.model.output)
        assert abs(runner.infer(batch) - expected).max() < (0.1 if precision is INT8 else 1e-5)


def test_int8_computes_in_integers_from_the_photo_to_the_features(models: dict[Precision, TfliteModel]) -> None:
    steps = operators(models[INT8].path)
    names = [name for name, _ in steps]
    last = names.index("DEQUANTIZE")
    assert names[:2] == ["QUANTIZE", "DEPTHWISE_CONV_2D"] and "CONV_2D" in names
    assert {kind for _, kind in steps[:last]} == {"int8"}
    assert [name for name, kind in steps[last:] if kind != "float32"] == []
    assert names[last:] == ["DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"]
    assert {kind for _, kind in operators(models[FP32].path)} == {"float32"}


def test_inputs_and_outputs_in_the_interpreter(models: dict[Precision, TfliteModel]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for precision, model in models.items():
        interpreter = Interpreter(model_path=str(model.path))  # the whole file, with the archive after the network
        (photo,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert (photo["name"], photo["dtype"], photo["shape"].tolist()) == ("photos", np.uint8, [1, SIDE, SIDE, 3])
        assert (scores["name"], scores["dtype"], scores["shape"].tolist()) == ("scores", np.float32, [1, 3])
        # With the scale 1 and the zero point 0, the quantised value of a pixel is the pixel itself.
        assert photo["quantization"] == ((1.0, 0) if precision is INT8 else (0.0, 0))
        assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["photos"], "outputs": ["scores"]}}


def test_unzip_extracts_the_labels(models: dict[Precision, TfliteModel]) -> None:
    with zipfile.ZipFile(models[INT8].path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "model.json", "trtpoets.json"]
        assert archive.read("labels.txt").decode() == "ant\nbee\ncow\n"
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("trtpoets.json"))["precision"] == "int8"
    if shutil.which("unzip"):
        unzip = subprocess.run(["unzip", "-p", models[FP32].path, "labels.txt"], capture_output=True, check=True)
        assert (unzip.stdout, unzip.stderr) == (b"ant\nbee\ncow\n", b"")


def test_metadata_describes_the_photo_and_the_labels(models: dict[Precision, TfliteModel]) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.Model.GetRootAs(network_in(models[FP32].path), 0)
    entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    metadata = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert metadata == metadata_of_spec(tiny_spec(), FP32) and metadata[4:8] == b"M001"
    root = Table.root(metadata)
    assert (root.text(0), root.text(7)) == ("tiny", "1.0.0")
    (graph,) = root.tables(3)
    (photos,), (scores,) = graph.tables(2), graph.tables(3)
    assert (photos.text(0), scores.text(0)) == ("photos", "scores")
    content = photos.table(3)
    assert content.number(0, "Uint8") == 2  # ImageProperties
    image = content.table(1)
    assert image.number(0, "Int8") == 1  # RGB
    assert (image.table(1).number(0, "Uint32"), image.table(1).number(1, "Uint32")) == (SIDE, SIDE)
    assert scores.table(3).number(0, "Uint8") == 1  # FeatureProperties
    (labels,) = scores.tables(6)
    assert (labels.text(0), labels.number(2, "Int8")) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_the_same_classifier_and_photos_give_the_same_bytes(
    classifier: Classifier, models: dict[Precision, TfliteModel], tmp_path: Path
) -> None:
    for precision, model in models.items():
        again = tiny_tflite(tmp_path, classifier, precision)
        assert sha256_of_file(again.path) == sha256_of_file(model.path), precision


def test_labels_that_are_hard_to_write(tmp_path: Path, models: dict[Precision, TfliteModel]) -> None:
    labels = ("bée 🐝", "two\u2028lines", "\udcff")  # the last one is how Python decodes a file name that is not UTF-8
    spec = replace(tiny_spec(), labels=labels)
    model = write_tflite(network_in(models[FP32].path), spec, FP32, tmp_path / "odd.tflite")
    assert read_tflite(model.path).spec.labels == labels
    assert metadata_of_spec(spec, FP32)[4:8] == b"M001"


@pytest.mark.parametrize("channels", [(0.0171, 0.0175, 0.0174), (0.004, 0.004, 0.004)])
def test_each_channel_has_its_own_scale(tmp_path: Path, channels: tuple[float, float, float]) -> None:
    """Networks of other programs may scale each channel by its own mean and deviation; INT8 must preserve that."""
    tf = tensorflow()
    offset = (-2.1, -0.3, 1.0)
    preprocess = Preprocess(SIDE, SIDE, channels, offset)
    photos = tf.keras.Input((SIDE, SIDE, 3), dtype="uint8", name="photos")
    scaled = tf.keras.layers.Rescaling(list(channels), list(offset))(photos)
    pooled = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.ReLU()(scaled))
    model = tf.keras.Model(photos, tf.keras.layers.Dense(3, activation="softmax", name="scores")(pooled))
    model.save(tmp_path / "classifier.keras")
    spec = replace(tiny_spec(), preprocess=preprocess)
    exported = tflite_from_classifier(
        Classifier(tmp_path, spec), INT8, tiny_photo_files(tmp_path / "photos", 8), tmp_path / "int8.tflite"
    )
    batch = tiny_photos(8, seed=5)
    with open_runner(exported) as runner:
        assert abs(runner.infer(batch) - model(batch).numpy()).max() < 0.01


def test_progress_is_reported(classifier: Classifier, tmp_path: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    tflite_from_classifier(classifier, FP32, [], tmp_path / "fp32.tflite", lambda *update: progress.append(update))
    assert progress == [("fp32.tflite", done, 2) for done in range(3)]


def test_int8_is_calibrated_only_with_unchanged_training_photos(classifier: Classifier, tmp_path: Path) -> None:
    out = tmp_path / "int8.tflite"
    with raises(BadInput, "TP3063"):
        tflite_from_classifier(classifier, INT8, [], out)
    with raises(BadInput, "TP3064", "0.png", "test"):
        tflite_from_classifier(classifier, INT8, tiny_photo_files(tmp_path / "test", split=Split.TEST), out)
    photos = tiny_photo_files(tmp_path / "train")
    photos[2].path.write_bytes(photos[3].path.read_bytes())
    with raises(BadInput, "TP3018", "1", "8"):
        tflite_from_classifier(classifier, INT8, photos, out)
    photos[2].path.unlink()
    with raises(BadPhoto, "TP1125"):
        tflite_from_classifier(classifier, INT8, photos, out)
    assert not out.exists()


def test_a_photo_that_is_damaged_during_calibration(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tiny_photo_files(tmp_path / "train")
    monkeypatch.setattr(
        "trtpoets.convert.tflite_export.refuse_changed_photos", lambda _: photos[4].path.write_text("no photo")
    )
    with raises(PhotoChanged, "TP1014", "4.png"):
        tflite_from_classifier(classifier, INT8, photos, tmp_path / "int8.tflite")


def test_fp16_is_not_supported(classifier: Classifier, tmp_path: Path) -> None:
    with raises(BadInput, "TP3058", "fp16") as caught:
        tflite_from_classifier(classifier, Precision.FP16, [], tmp_path / "fp16.tflite")
    assert caught.value.hint == "give --precision fp32 --precision int8"


def test_a_network_that_does_not_begin_with_rescaling(tmp_path: Path) -> None:
    tf = tensorflow()
    photos = tf.keras.Input((SIDE, SIDE, 3), dtype="uint8")
    pooled = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Normalization(mean=0, variance=1)(photos))
    tf.keras.Model(photos, tf.keras.layers.Dense(3)(pooled)).save(tmp_path / "classifier.keras")
    with raises(ConversionFailed, "TP3061"):
        tflite_from_classifier(
            Classifier(tmp_path, tiny_spec()), INT8, tiny_photo_files(tmp_path / "photos"), tmp_path / "int8.tflite"
        )


def test_an_error_of_the_converter_is_reported(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = tensorflow()

    def refuse(self: Any) -> bytes:
        raise RuntimeError("'tfl.quantize' op has no kernel\nsee the log")

    monkeypatch.setattr(tf.lite.TFLiteConverter, "convert", refuse)
    with raises(ConversionFailed, "TP3062", "'tfl.quantize' op has no kernel"):
        tflite_from_classifier(classifier, FP32, [], tmp_path / "fp32.tflite")


def test_a_tensorflow_without_the_converter(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.convert.tflite_export.tensorflow", lambda: SimpleNamespace(__version__="2.30.0"))
    with raises(MissingDependency, "TP3059", "2.30.0"):
        tflite_from_classifier(classifier, FP32, [], tmp_path / "fp32.tflite")


def test_a_missing_file_and_files_of_other_programs(tmp_path: Path, models: dict[Precision, TfliteModel]) -> None:
    with raises(MissingArtefact, "TP1089") as missing:
        read_tflite(tmp_path / "none.tflite")
    assert missing.value.hint == "make it: trtpoets bundle NAME --for tflite"
    with raises(BadArtefact, "TP1090", "Is a directory"):
        read_tflite(tmp_path)
    path = tmp_path / "a.tflite"
    path.write_bytes(b"\x08\x08garbage")
    with raises(BadArtefact, "TP1091"):
        read_tflite(path)
    path.write_bytes(network_in(models[FP32].path))
    with raises(BadArtefact, "TP1092", "BadZipFile"):
        read_tflite(path)


def test_labels_that_differ_from_model_json(tmp_path: Path, models: dict[Precision, TfliteModel]) -> None:
    content = models[FP32].path.read_bytes()
    path = tmp_path / "a.tflite"
    path.write_bytes(content[: len(network_in(models[FP32].path))])
    with zipfile.ZipFile(models[FP32].path) as old, zipfile.ZipFile(path, "a") as new:
        for name in old.namelist():
            new.writestr(name, b"cow\nbee\nant\n" if name == "labels.txt" else old.read(name))
    with raises(BadArtefact, "TP1088", "labels.txt", "model.json"):
        read_tflite(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_never_reaches_the_interpreter(
    models: dict[Precision, TfliteModel], data: st.DataObject
) -> None:
    """If any byte is changed, the file is rejected, or its network and description are the same as before."""
    model = models[INT8]
    content = bytearray(model.path.read_bytes())
    network, position = network_in(model.path), data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    damaged = model.path.with_name("damaged.tflite")
    damaged.write_bytes(content)
    try:
        content_read = network_in(damaged), read_tflite(damaged)
    except TrtPoetsError as error:
        assert str(damaged) in error.message
    else:
        assert content_read == (network, replace(model, path=damaged))


@settings(max_examples=60, deadline=None)
@given(keep=st.integers(0, 1 << 14))
def test_a_truncated_file_is_refused(models: dict[Precision, TfliteModel], keep: int) -> None:
    content = models[FP32].path.read_bytes()
    cut = models[FP32].path.with_name("cut.tflite")
    cut.write_bytes(content[: min(keep, len(content) - 1)])
    with pytest.raises(BadArtefact):
        read_tflite(cut)
