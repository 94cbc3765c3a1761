"""Small classifiers in TensorFlow's formats, of a few hundred weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.contract import RAW, Contract, Geometry, Pixels
from trtpoets.adoption.tensorflow.reader import LoadedTensorFlow
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Original, classes_of
from trtpoets.core.types import ModelSpec

SIDE = 16


def keras_model(*first: Any, last: str | None = "softmax", units: int = 3, channels: int = 3) -> Any:
    """`first` layers, then a convolution, a batch norm with values of its own, and a Dense layer."""
    keras = tensorflow().keras
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, channels), name="photo"),
            *first,
            layers.Conv2D(4, 3, strides=2, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(units, activation=last, name="classes"),
        ]
    )
    random = np.random.default_rng(2)
    model.set_weights([random.uniform(0.5, 1.5, w.shape) * np.sign(w + 1e-9) for w in model.get_weights()])
    return model


def graph(
    build: Callable[[Any], None],
) -> Any:
    """The GraphDef of what `build` adds to a graph of TensorFlow 1; it gets `tf.compat.v1`."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1)
    return graph.as_graph_def()


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Random weights."""
    return np.random.default_rng(seed).normal(0, 0.4, shape).astype(np.float32)


def features(v1: Any, pixels: Any, name: str = "features", stride: int = 2) -> Any:
    """A convolution, a frozen batch norm, a depthwise convolution, LRN, and the mean over the photo: (N, 1, 1, 6)."""
    value = v1.nn.conv2d(pixels, weights(3, 3, 3, 6), [1, stride, stride, 1], "SAME", name=f"{name}/conv")
    value, *_ = v1.nn.fused_batch_norm(
        value, weights(6, seed=1), weights(6, seed=2), weights(6, seed=3), np.abs(weights(6, seed=4)), is_training=False
    )
    value = v1.nn.depthwise_conv2d(value, weights(3, 3, 6, 1, seed=5), [1, 1, 1, 1], "SAME", name=f"{name}/depthwise")
    value = v1.nn.relu6(v1.nn.local_response_normalization(value))
    return v1.reduce_mean(value, [1, 2], keepdims=True, name=name)


def retrain_graph() -> Any:
    """As retrain.py of TensorFlow for Poets writes it: a batch of 1, and a PlaceholderWithDefault at the features."""

    def build(v1: Any) -> None:
        pixels = v1.placeholder("float32", [1, SIDE, SIDE, 3], name="input")
        flat = v1.reshape(features(v1, pixels), [-1, 6])
        fed = v1.placeholder_with_default(flat, [None, 6], name="input_1/BottleneckInputPlaceholder")
        logits = v1.add(v1.matmul(fed, weights(6, 3, seed=6)), weights(3, seed=7), name="Wx_plus_b/add")
        v1.nn.softmax(logits, name="final_result")
        v1.summary.histogram("activations", logits)

    return graph(build)


def inception_graph() -> Any:
    """As retrain.py of 2016 writes it: JPEG bytes, `Mul`, and features reshaped to a batch of 1."""

    def build(v1: Any) -> None:
        photo = v1.placeholder("string", [], name="DecodeJpeg/contents")
        pixels = v1.cast(v1.image.decode_jpeg(photo, channels=3, name="DecodeJpeg"), "float32", name="Cast")
        resized = v1.image.resize_bilinear(v1.expand_dims(pixels, 0), [SIDE, SIDE], name="ResizeBilinear")
        scaled = v1.multiply(v1.subtract(resized, 128.0, name="Sub"), 1 / 128, name="Mul")
        flat = v1.reshape(features(v1, scaled, "pool_3"), [1, 6], name="pool_3/_reshape")
        fed = v1.placeholder_with_default(flat, [None, 6], name="input/BottleneckInputPlaceholder")
        v1.nn.softmax(v1.matmul(fed, weights(6, 3, seed=6)), name="final_result")

    return graph(build)


def written(definition: Any, path: Path) -> Path:
    """Write a GraphDef."""
    path.write_bytes(definition.SerializeToString())
    return path


def spec_of(loaded: LoadedTensorFlow, pixels: Pixels = RAW, side: int = SIDE) -> ModelSpec:
    """The ModelSpec of a network with these pixels."""
    model = loaded.model
    preprocess = Contract(pixels, Geometry()).preprocess(model.height or side, model.width or side)
    labels = tuple(f"class {n}" for n in range(classes_of(model.output)))
    original = Original(model.format, model.path.name, model.sha256, "", model.input, model.output, pixels.channels)
    return ModelSpec("small", "small", preprocess, labels, model.sha256, original)


def photos(count: int = 5, side: int = SIDE) -> np.ndarray:
    """Random photos with areas of one colour: uint8 (count, side, side, 3)."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (count, 4, 4, 3))
    return coarse.repeat(side // 4, 1).repeat(side // 4, 2).astype(np.uint8)


def replaced_in_zip(path: Path, name: str, content: Callable[[bytes], bytes]) -> None:
    """Change one file in a zip archive."""
    result = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(result, "w") as target:
        for entry in source.namelist():
            target.writestr(entry, content(source.read(entry)) if entry == name else source.read(entry))
    path.write_bytes(result.getvalue())
