"""SavedModels of TensorFlow 1 and 2: signatures, photos as bytes, and operators that reach beyond the network."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, features, photos, spec_of, weights
from tests.support.errors import raises
from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Geometry
from trtpoets.adoption.labels import labels_for
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import onnxruntime, tensorflow
from trtpoets.core.original import Answers, Format, scores_from_output, values_from_photos
from trtpoets.core.types import Resize

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def saved(function: Callable[..., Any], folder: Path, *inputs: Any, model: Any = None, **more: Any) -> Path:
    """Write a SavedModel whose serving_default is `function` of these TensorSpecs."""
    tf = tensorflow()
    module = tf.Module()
    module.model = model
    module.serve = tf.function(function, input_signature=inputs, autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve, **more})
    return folder


def pixels_spec(*shape: Any, dtype: str = "float32", name: str = "photo") -> Any:
    tf = tensorflow()
    return tf.TensorSpec(shape or (None, SIDE, SIDE, 3), tf.dtypes.as_dtype(dtype), name=name)


@pytest.fixture(scope="module")
def model() -> Any:
    """A small network in TensorFlow alone, of which saving takes less time than of a Keras model."""
    tf = tensorflow()

    base: Any = tf.Module

    class Network(base):
        def __init__(self) -> None:
            self.kernel, self.classes = tf.Variable(weights(3, 3, 3, 6)), tf.Variable(weights(6, 3, seed=1))

        def __call__(self, photo: Any) -> Any:
            value = tf.nn.relu(tf.nn.conv2d(photo, self.kernel, 2, "SAME", name="first"))
            return tf.nn.softmax(tf.reduce_mean(value, (1, 2)) @ self.classes)

    return Network()


def test_a_saved_model_of_tensorflow_2(model: Any, tmp_path: Path) -> None:
    def serve(photo: Any) -> Any:
        scores = model(photo)
        # As Lobe and estimators write them, beside the scores.
        return {"Confidences": scores, "Prediction": tensorflow().as_string(tensorflow().argmax(scores, 1))}

    folder = saved(serve, tmp_path / "saved", pixels_spec(name="Image"), model=model)
    loaded = read_tensorflow(folder / "saved_model.pb")
    foreign = loaded.model
    assert (foreign.path, foreign.format) == (folder, Format.SAVED_MODEL)
    assert (foreign.input.name, foreign.output.name, foreign.output.size) == ("Image", "Confidences", 3)
    assert foreign.output.answers is Answers.PROBABILITIES
    assert foreign.clues.writer.startswith("tensorflow 2.")
    assert any("first" in name for name in foreign.clues.nodes)
    values = values_from_photos(photos(), spec_of(loaded, UNIT).preprocess, UNIT.channels)
    output = TensorFlowNetwork(loaded).infer(values)
    np.testing.assert_allclose(output, model(values), atol=1e-6)
    other = tmp_path / "other"
    (other / "variables").mkdir(parents=True)
    for file in folder.rglob("*"):
        if file.is_file():
            (other / file.relative_to(folder)).write_bytes(file.read_bytes())
    (other / "labels.txt").write_text("a\nb\n")
    assert read_tensorflow(other).model.sha256 != foreign.sha256


def test_pixels_of_0_to_255_as_uint8(model: Any, tmp_path: Path) -> None:
    def serve(photo: Any) -> Any:
        return model(tensorflow().cast(photo, "float32") / 255.0)

    loaded = read_tensorflow(saved(serve, tmp_path / "saved", pixels_spec(dtype="uint8"), model=model))
    assert (loaded.model.input.dtype, loaded.model.output.name) == ("uint8", "output_0")
    assert loaded.model.fixed is not None
    assert loaded.model.fixed.pixels == RAW
    spec = spec_of(loaded)
    classifier = classifier_from_tensorflow(loaded, spec, tmp_path / "classifier")
    path = onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path
    values = values_from_photos(photos(), spec.preprocess, RAW.channels)
    expected = scores_from_output(TensorFlowNetwork(loaded).infer(values), loaded.model.output)
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"photos": photos()})[0], expected, atol=1e-5)


def test_one_jpeg_is_replaced_by_pixels(model: Any, tmp_path: Path) -> None:
    tf = tensorflow()

    def serve(content: Any) -> Any:
        photo = tf.image.convert_image_dtype(tf.io.decode_jpeg(content, channels=3), tf.float32)
        return model(tf.image.resize(photo, (SIDE, SIDE))[None] * 2.0 - 1.0)

    folder = saved(serve, tmp_path / "saved", tf.TensorSpec((), tf.string), model=model)
    foreign = read_tensorflow(folder).model
    assert (foreign.height, foreign.width, foreign.input.dtype) == (SIDE, SIDE, "float32")
    assert foreign.fixed is not None
    assert foreign.fixed.pixels.same_as(SIGNED)


def test_a_batch_of_jpegs_with_keys_and_labels_as_automl_vision_exports_it(model: Any, tmp_path: Path) -> None:
    tf = tensorflow()

    def one(content: Any) -> Any:
        photo = tf.image.convert_image_dtype(tf.io.decode_jpeg(content, channels=3), tf.float32)
        return tf.ensure_shape(tf.image.resize(photo, (SIDE, SIDE)), (SIDE, SIDE, 3))

    def serve(image_bytes: Any, key: Any) -> Any:
        scores = model(tf.map_fn(one, image_bytes, fn_output_signature=tf.float32) * 2 - 1)
        labels = tf.tile(tf.constant(["rose", "tulip", "daisy"])[None], [tf.shape(image_bytes)[0], 1])
        return {"scores": scores, "labels": labels, "key": tf.identity(key)}

    texts = [tf.TensorSpec((None,), tf.string, name=name) for name in ("image_bytes", "key")]
    folder = saved(serve, tmp_path / "saved", *texts, model=model)
    loaded = read_tensorflow(folder)
    foreign = loaded.model
    assert (foreign.height, foreign.width, foreign.input.dtype, foreign.output.name) == (
        SIDE,
        SIDE,
        "float32",
        "scores",
    )
    assert foreign.fixed is not None and foreign.geometry is not None
    assert (foreign.fixed.pixels, foreign.geometry.geometry) == (UNIT, Geometry(Resize.STRETCH))
    assert labels_for(foreign)[0] == ("rose", "tulip", "daisy")
    classifier = classifier_from_tensorflow(loaded, spec_of(loaded, UNIT), tmp_path / "classifier")
    path = onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    encoded = [tf.io.encode_png(photo).numpy() for photo in photos()]
    original = tf.saved_model.load(str(folder)).signatures["serving_default"]
    expected = original(image_bytes=tf.constant(encoded), key=tf.constant(["a"] * len(encoded)))["scores"]
    np.testing.assert_allclose(session.run(None, {"photos": photos()})[0], expected, atol=1e-5)


def test_labels_that_depend_on_the_photo_are_no_labels_of_the_classes(model: Any, tmp_path: Path) -> None:
    tf = tensorflow()

    def serve(photo: Any) -> Any:
        scores = model(photo)
        order = tf.argsort(scores, direction="DESCENDING")
        return {"scores": scores, "labels": tf.gather(tf.constant(["rose", "tulip", "daisy"]), order)}

    foreign = read_tensorflow(saved(serve, tmp_path / "saved", pixels_spec(), model=model)).model
    assert labels_for(foreign)[0] == ("class 0", "class 1", "class 2")


def test_scores_in_the_order_of_their_size_are_refused(model: Any, tmp_path: Path) -> None:
    folder = saved(
        lambda photo: tensorflow().math.top_k(model(photo), 3).values, tmp_path / "saved", pixels_spec(), model=model
    )
    with raises(BadArtefact, "TP9150") as caught:
        read_tensorflow(folder)
    assert caught.value.code == "TP9150"


def test_several_signatures_and_inputs(model: Any, tmp_path: Path) -> None:
    tf = tensorflow()
    module = tf.Module()
    module.model = model
    module.run = tf.function(model, input_signature=[pixels_spec()], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "two"), signatures={"predict": module.run, "classify": module.run})
    with raises(BadArtefact, "TP9119", "several signatures (classify, predict)"):
        read_tensorflow(tmp_path / "two")
    tf.saved_model.save(module, str(tmp_path / "one"), signatures={"predict": module.run})
    assert read_tensorflow(tmp_path / "one").model.output.size == 3
    folder = saved(
        lambda a, b: model(a) + model(b), tmp_path / "inputs", pixels_spec(name="a"), pixels_spec(name="b"), model=model
    )
    with raises(BadArtefact, "TP9120", "2", "a, b"):
        read_tensorflow(folder)


def test_files_and_python_are_refused(model: Any, tmp_path: Path) -> None:
    tf = tensorflow()
    marker = tmp_path / "marker"

    def writes(photo: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(marker), "x")]):
            return model(tf.identity(photo))

    folder = saved(writes, tmp_path / "writes", pixels_spec(), model=model)
    with raises(BadArtefact, "TP9103", "WriteFile") as caught:
        read_tensorflow(folder)
    assert (caught.value.code, marker.exists()) == ("TP9103", False)
    assert "--allow-code" in caught.value.hint

    def own(photo: Any) -> Any:
        value = tf.numpy_function(lambda x: x, [photo], tf.float32)
        return model(tf.ensure_shape(value, photo.shape))

    with raises(BadArtefact, "TP9103", "PyFunc"):
        read_tensorflow(saved(own, tmp_path / "python", pixels_spec(), model=model))


def test_a_checkpoint_written_by_the_signature_is_refused(model: Any, tmp_path: Path) -> None:
    tf = tensorflow()

    def serve(photo: Any) -> Any:
        with tf.control_dependencies(
            [
                tf.raw_ops.SaveV2(
                    prefix=str(tmp_path / "stolen"), tensor_names=["a"], shape_and_slices=[""], tensors=[photo]
                )
            ]
        ):
            return model(tf.identity(photo))

    with raises(BadArtefact, "TP9103", "SaveV2"):
        read_tensorflow(saved(serve, tmp_path / "saved", pixels_spec(), model=model))


def test_a_detector(tmp_path: Path) -> None:
    folder = saved(
        lambda photo: {"detection_boxes": photo[:, 0], "detection_scores": photo[:, 0, :, 0]},
        tmp_path / "saved",
        pixels_spec(None, None, None, 3),
    )
    with raises(BadArtefact, "TP9114", "object detector"):
        read_tensorflow(folder)


def test_any_height_and_width(tmp_path: Path) -> None:
    tf = tensorflow()
    kernel = tf.constant(weights(3, 3, 3, 4))

    def serve(photo: Any) -> Any:
        return tf.nn.softmax(tf.reduce_mean(tf.nn.conv2d(photo, kernel, 2, "SAME"), (1, 2)))

    loaded = read_tensorflow(saved(serve, tmp_path / "saved", pixels_spec(None, None, None, 3)))
    assert (loaded.model.height, loaded.model.width) == (0, 0)
    classifier = classifier_from_tensorflow(loaded, spec_of(loaded, UNIT, side=24), tmp_path / "classifier")
    session = onnxruntime().InferenceSession(str(onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path))
    assert session.get_inputs()[0].shape[1:] == [24, 24, 3]


def test_a_saved_model_of_tensorflow_1(tmp_path: Path) -> None:
    tf = tensorflow()
    v1 = tf.compat.v1
    folder = tmp_path / "saved"
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = v1.placeholder("float32", [1, SIDE, SIDE, 3], name="image")
        kernel = v1.get_variable("kernel", initializer=weights(6, 3), use_resource=False)
        flat = v1.reshape(features(v1, pixels), [-1, 6])
        scores = v1.nn.softmax(v1.matmul(v1.placeholder_with_default(flat, [None, 6]), kernel), name="scores")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"pixels": pixels}, {"prob": scores})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
        values = photos(1) / np.float32(255)
        expected = session.run(scores, {pixels: values})
    loaded = read_tensorflow(folder)
    foreign = loaded.model
    assert (foreign.input.name, foreign.input.batch, foreign.output.name) == ("pixels", 1, "prob")
    np.testing.assert_allclose(TensorFlowNetwork(loaded).infer(values), expected, atol=1e-6)
    assert TensorFlowNetwork(loaded).infer(photos(4) / np.float32(255)).shape == (4, 3)
    classifier = classifier_from_tensorflow(loaded, spec_of(loaded, UNIT), tmp_path / "classifier")
    session = onnxruntime().InferenceSession(str(onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path))
    np.testing.assert_allclose(session.run(None, {"photos": photos(1)})[0], expected, atol=1e-5)
