"""Graphs of TensorFlow 1 for tests, how they are read, and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.adoption.tensorflow.networks import SIDE, features, graph, photos, spec_of, weights, written
from trtpoets.adoption.contract import Pixels
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import LoadedTensorFlow, read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.optional import onnxruntime
from trtpoets.core.original import scores_from_output, values_from_photos


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
    classifier = classifier_from_tensorflow(loaded, spec, folder / "classifier")
    model = onnx_from_classifier(classifier, folder / "fp32.onnx")
    values = values_from_photos(photos(), spec.preprocess, pixels.channels)
    with TensorFlowNetwork(loaded) as network:
        expected = scores_from_output(network.infer(values), loaded.model.output)
    session = onnxruntime().InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    return expected, session.run(None, {"photos": photos()})[0]


def expected_scores(loaded: LoadedTensorFlow, pixels: Pixels) -> np.ndarray:
    spec = spec_of(loaded, pixels)
    with TensorFlowNetwork(loaded) as network:
        output = network.infer(values_from_photos(photos(), spec.preprocess, pixels.channels))
    return scores_from_output(output, loaded.model.output)
