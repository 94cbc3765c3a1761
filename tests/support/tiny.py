"""Tiny networks in every format that a runner accepts: 16x16 photos, three classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.core.onnx_file import CALIBRATION_KEY, PRECISION_KEY, SPEC_KEY
from trtpoets.core.types import (
    Classifier,
    ModelSpec,
    OnnxModel,
    Photo,
    Precision,
    Preprocess,
    Resize,
    Split,
    TfliteModel,
)

SIDE = 16


def tiny_spec(side: int = SIDE, offset: float = -1.0) -> ModelSpec:
    preprocess = Preprocess(side, side, (1 / 127.5,) * 3, (offset,) * 3, Resize.STRETCH, 1.0)
    return ModelSpec("tiny", "none", preprocess, ("ant", "bee", "cow"), "weights")


def tiny_photos(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def tiny_weights() -> tuple[np.ndarray, np.ndarray]:
    """Convolution (8, 3, 3, 3) and head (8, 3), float32."""
    rng = np.random.default_rng(7)
    return rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32), rng.normal(0, 1, (8, 3)).astype(np.float32)


def tiny_graph(precision: Precision = Precision.FP32, batch: str | int = "N") -> Any:
    """A ModelProto in the given precision, with the metadata of trtpoets."""
    from onnx import TensorProto, helper, numpy_helper

    kind, dtype = (TensorProto.FLOAT16, np.float16) if precision is Precision.FP16 else (TensorProto.FLOAT, np.float32)
    weights, head = tiny_weights()
    constants = {
        "w": weights.astype(dtype),
        "fc": head.astype(dtype),
        "s": np.array(1 / 127.5, dtype),
        "o": np.array(-1.0, dtype),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["photos"], ["real"], to=kind),
        node("Mul", ["real", "s"], ["scaled"]),
        node("Add", ["scaled", "o"], ["shifted"]),
        node("Transpose", ["shifted"], ["x"], perm=[0, 3, 1, 2]),
    ]
    conv = ["x", "w"]
    if precision is Precision.INT8:
        constants |= {"xs": np.array(1 / 127, np.float32), "xz": np.array(0, np.int8)}
        constants |= {"ws": (abs(weights).max((1, 2, 3)) / 127).astype(np.float32), "wz": np.zeros(8, np.int8)}
        nodes += [
            node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
            node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
            node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        ]
        conv = ["xd", "wd"]
    nodes += [
        node("Conv", conv, ["c"], name="conv"),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "fc"], ["l"], name="head"),
        node("Softmax", ["l"], ["q"], axis=1),
        node("Cast", ["q"], ["scores"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, [batch, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {SPEC_KEY: tiny_spec().to_json(), PRECISION_KEY: precision.value}
    if precision is Precision.INT8:
        metadata[CALIBRATION_KEY] = "c" * 64
    helper.set_model_props(model, metadata)
    return model


def tiny_onnx(path: Path, precision: Precision = Precision.FP32, batch: str | int = "N") -> OnnxModel:
    """Write `tiny_graph` to `path`."""
    import onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(tiny_graph(precision, batch), str(path))
    return OnnxModel(path, precision, tiny_spec())


def tiny_classifier(folder: Path) -> Classifier:
    """The same network as a SavedModel with the signature "serve", and as a Keras file."""
    from trtpoets.core.optional import tensorflow

    tf = tensorflow()
    weights, head = tiny_weights()
    photos = tf.keras.Input((SIDE, SIDE, 3), dtype="uint8", name="photos")
    x = tf.keras.layers.Rescaling(1 / 127.5, offset=-1.0)(photos)
    x = tf.keras.layers.Conv2D(8, 3, activation="relu", use_bias=False, name="conv")(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    model = tf.keras.Model(photos, tf.keras.layers.Dense(3, activation="softmax", use_bias=False, name="head")(x))
    model.get_layer("conv").set_weights([weights.transpose(2, 3, 1, 0)])
    model.get_layer("head").set_weights([head])
    signature = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="photos")]
    serve = tf.function(lambda photos: {"scores": model(photos)}, input_signature=signature)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "classifier.keras")
    tf.saved_model.save(model, str(folder / "saved_model"), signatures={"serve": serve})
    return Classifier(folder, tiny_spec())


def tiny_photo_files(folder: Path, count: int = 8, split: Split = Split.TRAIN) -> list[Photo]:
    """Photos of noise as PNG files of a split."""
    import hashlib

    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for number, pixels in enumerate(tiny_photos(count, seed=11)):
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        label = tiny_spec().labels[number % 3]
        photos.append(Photo(path, label, split, hashlib.sha256(path.read_bytes()).hexdigest()))
    return photos


def tiny_tflite(folder: Path, classifier: Classifier, precision: Precision) -> TfliteModel:
    """The classifier as TFLite in `folder`."""
    from trtpoets.convert.tflite_export import tflite_from_classifier

    photos = tiny_photo_files(folder / "photos")
    return tflite_from_classifier(classifier, precision, photos, folder / f"{precision.value}.tflite")
