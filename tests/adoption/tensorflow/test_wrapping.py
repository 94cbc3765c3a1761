"""The classifier made of a TensorFlow network takes photos and returns scores."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import keras_model, photos, spec_of
from tests.adoption.tensorflow.reading import expected_scores
from tests.support.errors import raises
from trtpoets.adoption.contract import Pixels
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.core.errors import BadInput
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Answers, Channels

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


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
    with raises(BadInput, "TP9142", "3", "2"):
        classifier_from_tensorflow(loaded, replace(spec, labels=spec.labels[:2]), tmp_path)
    with raises(BadInput, "TP9141", "16", "3", "8"):
        classifier_from_tensorflow(loaded, replace(spec, preprocess=replace(spec.preprocess, height=8)), tmp_path)
