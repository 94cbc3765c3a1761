"""Export to ONNX: the same scores as TensorFlow, canonical names, reproducible bytes, and errors."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.small_networks import photos_in
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, calibration_from_photos
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import int8_from_onnx
from trtpoets.convert.onnx_export import ExportConfig, onnx_from_classifier, onnx_from_network
from trtpoets.convert.precision import fp16_from_onnx
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.onnx_file import LABELS_KEY, metadata_of, open_session, read_onnx
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Classifier, ModelSpec, Preprocess

LABELS = ("daisy", "rose", "tulip")
SCALE, OFFSET = (1 / 127.5, 1 / 120, 1 / 100), (-1.0, -0.9, -1.1)


def scrambled(model: Any) -> None:
    """Give batch norms statistics that differ from those of an untrained network."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights(
                [(1 + 0.2 * random.normal(size=w.shape)).clip(0.3).astype(np.float32) for w in layer.get_weights()]
            )


def small_base(size: int) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    photos = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(photos)
    x = keras.layers.ReLU(6, name="stem_relu")(keras.layers.BatchNormalization(name="stem_bn")(x))
    y = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    y = keras.layers.ReLU(6, name="depthwise_relu")(keras.layers.BatchNormalization(name="depthwise_bn")(y))
    y = keras.layers.Conv2D(16, 1, use_bias=False, name="project")(y)
    y = keras.layers.BatchNormalization(name="project_bn")(y)
    features = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.Add(name="join")([x, y]))
    base = keras.Model(photos, features)
    scrambled(base)
    return base


def with_scaling(base: Any, size: int) -> Any:
    import keras

    photos = keras.Input((size, size, 3), dtype="uint8", name=INPUT_NAME)
    scaled = keras.ops.cast(photos, "float32") * np.array(SCALE, np.float32) + np.array(OFFSET, np.float32)
    return keras.Model(photos, base(scaled))


def classifier(folder: Path, base: Any, size: int, labels: tuple[str, ...] = LABELS) -> Classifier:
    import keras

    network = with_scaling(base, size)
    scores = keras.layers.Dense(len(LABELS), activation="softmax", name="head")(network.output)
    whole = keras.Model(network.input, scores)
    whole.export(str(folder / "saved_model"), verbose=False)
    return Classifier(folder, ModelSpec("small", "small", Preprocess(size, size, SCALE, OFFSET), labels, "test"))


@pytest.fixture(scope="module")
def base() -> Any:
    tensorflow()
    return small_base(32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, base: Any) -> Classifier:
    return classifier(tmp_path_factory.mktemp("classifier"), base, 32)


def noise(size: int, count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def tensorflow_scores(exported: Classifier, photos: np.ndarray) -> np.ndarray:
    loaded = tensorflow().saved_model.load(str(exported.saved_model))
    (scores,) = loaded.signatures["serve"](photos=photos).values()
    array: np.ndarray = scores.numpy()
    return array


def test_a_classifier_is_exported_with_readable_names_and_the_same_scores(small: Classifier, tmp_path: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    model = onnx_from_classifier(small, tmp_path / "fp32.onnx", progress=lambda *update: progress.append(update))
    assert progress == [("export", step, 4) for step in range(5)]
    assert read_onnx(model.path) == model
    proto = onnx.load(model.path)
    assert [f"{node.name}" for node in proto.graph.node][1:-3] == [
        "stem_bn/Transpose",
        "Mul",
        "Add",
        "stem/Conv",
        "stem_relu/Clip",
        "depthwise/Conv",
        "depthwise_relu/Clip",
        "project/Conv",
        "join/Add",
        "features/GlobalAveragePool",
    ]
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 17}
    assert proto.ir_version == 8
    photos, scores = proto.graph.input[0], proto.graph.output[0]
    assert [d.dim_param or d.dim_value for d in photos.type.tensor_type.shape.dim] == ["N", 32, 32, 3]
    assert [d.dim_param or d.dim_value for d in scores.type.tensor_type.shape.dim] == ["N", 3]
    assert metadata_of(proto)[LABELS_KEY] == "daisy\nrose\ntulip"
    batch = noise(32)
    scores_of_onnx = open_session(model.path).run([OUTPUT_NAME], {INPUT_NAME: batch})[0]
    np.testing.assert_allclose(scores_of_onnx, tensorflow_scores(small, batch), atol=1e-5)


def test_a_keras_network_is_exported_with_its_features(base: Any, tmp_path: Path) -> None:
    network = with_scaling(base, 32)
    onnx_from_network(network, tmp_path / "base.onnx", metadata={"who": "a test"})
    batch = noise(32)
    features = open_session(tmp_path / "base.onnx").run(["features"], {INPUT_NAME: batch})[0]
    np.testing.assert_allclose(features, network(batch).numpy(), atol=1e-5)
    assert metadata_of(onnx.load(tmp_path / "base.onnx")) == {"who": "a test"}
    with raises(BadInput, "TP3043", "float32 (None, 32, 32, 3)"):
        onnx_from_network(base, tmp_path / "no.onnx")


EXPORT = """
import sys
from pathlib import Path
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.types import Classifier, ModelSpec
folder = Path(sys.argv[1])
spec = ModelSpec.from_json((folder / "model.json").read_text(), "model.json")
onnx_from_classifier(Classifier(folder, spec), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(small: Classifier, tmp_path: Path) -> None:
    (small.folder / "model.json").write_text(small.spec.to_json())
    here = onnx_from_classifier(small, tmp_path / "here.onnx").path
    there = tmp_path / "there.onnx"
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(small.folder), str(there)],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
    )
    assert sha256_of_file(here) == sha256_of_file(there)


def test_opsets(small: Classifier, tmp_path: Path) -> None:
    exported = onnx_from_classifier(small, tmp_path / "old.onnx", ExportConfig(opset=13))
    assert onnx.load(exported.path).opset_import[0].version == 13
    with raises(BadInput, "TP3042", "13", "18", "9"):
        ExportConfig(opset=9)


def test_saved_models_that_do_not_match_model_json(small: Classifier, tmp_path: Path) -> None:
    nothing = Classifier(tmp_path, small.spec)
    with raises(MissingArtefact, "TP3044", "saved_model"):
        onnx_from_classifier(nothing, tmp_path / "fp32.onnx")
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model/saved_model.pb").write_bytes(b"\x01 nothing like it")
    with raises(BadArtefact, "TP3045", "saved_model"):
        onnx_from_classifier(nothing, tmp_path / "fp32.onnx")
    four = ModelSpec("small", "small", small.spec.preprocess, (*LABELS, "one more"), "test")
    with raises(BadArtefact, "TP3047", "4"):
        onnx_from_classifier(Classifier(small.folder, four), tmp_path / "fp32.onnx")
    large = ModelSpec("small", "small", Preprocess(64, 64, SCALE, OFFSET), LABELS, "test")
    with raises(BadArtefact, "TP3046", "[None, 64, 64, 3]"):
        onnx_from_classifier(Classifier(small.folder, large), tmp_path / "fp32.onnx")
    assert not (tmp_path / "fp32.onnx").exists()


def test_an_operator_that_onnx_does_not_have(tmp_path: Path) -> None:
    import keras

    tf = tensorflow()

    class Odd(keras.Layer):
        def call(self, x: Any) -> Any:
            return tf.math.igamma(tf.cast(x, tf.float32), 2.0)

    photos = keras.Input((8, 8, 3), dtype="uint8")
    with raises(ConversionFailed, "TP3049", "Igamma"):
        onnx_from_network(keras.Model(photos, keras.layers.Flatten()(Odd()(photos))), tmp_path / "odd.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ResNet50", "InceptionV3", "MobileNetV3Small", "EfficientNetB0", "MobileNetV2", "MobileNet"]
)
def test_published_topologies_export_quantise_and_build(name: str, tmp_path: Path) -> None:
    from tests.convert.test_precision import rtx_builds

    tensorflow()
    import keras

    keras.utils.set_random_seed(0)
    size = 96
    inner = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(size, size, 3), pooling="avg"
    )
    scrambled(inner)
    exported = classifier(tmp_path, inner, size)
    model = onnx_from_classifier(exported, tmp_path / "fp32.onnx")
    batch = noise(size)
    scores = open_session(model.path).run([OUTPUT_NAME], {INPUT_NAME: batch})[0]
    np.testing.assert_allclose(scores, tensorflow_scores(exported, batch), atol=1e-4)
    assert not {node.op_type for node in onnx.load(model.path).graph.node} & {
        "BatchNormalization",
        "Identity",
        "Dropout",
    }
    photos = photos_in(photo_folder(tmp_path / "photos", {"daisy": 4, "rose": 4}))
    fp16, _ = fp16_from_onnx(model, photos, tmp_path / "fp16.onnx")
    (ranges,) = calibration_from_photos(model, photos, CalibrationConfig(photos=8, method=Method.PERCENTILE)).by_method
    config = Int8Config(max_float_layers=0)
    int8, notes = int8_from_onnx(Int8Evaluator(model, photos, (), config), ranges, tmp_path / "int8.onnx")
    assert notes.share > 0.95
    assert all(rtx_builds(converted.path) for converted in (model, fp16, int8))
