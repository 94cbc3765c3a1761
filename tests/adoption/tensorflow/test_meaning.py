"""What the values of the output are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import photos, spec_of
from tests.adoption.tensorflow.reading import classifier, read, scores_in_onnx
from trtpoets.adoption.contract import Pixels
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Answers, Channels, scores_from_output, values_from_photos

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


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
