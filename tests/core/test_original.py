"""What networks of other programs take for photos, and scores of what they return."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trtpoets.core.original import (
    LUMA,
    Answers,
    Channels,
    Evidence,
    Format,
    Layout,
    Original,
    OriginalInput,
    OriginalOutput,
    Source,
    classes_of,
    scores_from_output,
    stored_values,
    values_from_photos,
)
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Preprocess

PIXEL = np.array([[[[200, 100, 50]]]], np.uint8)
PREPROCESS = Preprocess(1, 1, (0.5, 0.25, 0.125), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("channels", "values"),
    [
        (Channels.RGB, [101.0, 27.0, 9.25]),
        (Channels.BGR, [9.25, 27.0, 101.0]),
        (Channels.GRAY, [0.5 * (0.299 * 200 + 0.587 * 100 + 0.114 * 50) + 1]),
        (Channels.INVERTED_GRAY, [0.5 * (255 - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) + 1]),
    ],
)
def test_values_of_a_pixel(channels: Channels, values: list[float]) -> None:
    taken = values_from_photos(PIXEL, PREPROCESS, channels)
    assert (taken.dtype, taken.shape) == (np.float32, (1, 1, 1, channels.number))
    np.testing.assert_allclose(taken[0, 0, 0], values, rtol=1e-6)


def test_shares_of_grey_sum_to_one() -> None:
    assert sum(LUMA) == pytest.approx(1)
    assert [channels.text for channels in Channels] == ["RGB", "BGR", "GRAY", "INVERTED GRAY"]


def test_integers_are_rounded_to_even_and_limited() -> None:
    values = np.array([-300.0, -0.5, 0.5, 1.5, 0.74, 300.0], np.float32).reshape(1, 1, 6, 1)
    stored = stored_values(values, OriginalInput("x", "int8", Layout.NHWC, scale=1.0, zero_point=2))
    assert stored.dtype == np.int8
    assert stored.ravel().tolist() == [-128, 2, 2, 4, 3, 127]
    scaled = stored_values(values, OriginalInput("x", "uint8", Layout.NHWC, scale=0.5, zero_point=128))
    assert scaled.ravel().tolist() == [0, 127, 129, 131, 129, 255]


def test_channels_first_is_contiguous() -> None:
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)
    stored = stored_values(values, OriginalInput("x", "float16", Layout.NCHW))
    assert (stored.shape, stored.dtype, stored.flags.c_contiguous) == ((1, 3, 2, 4), np.float16, True)
    np.testing.assert_array_equal(stored[0, 2], values[0, :, :, 2])


ROWS = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 4.0]], np.float32)


@pytest.mark.parametrize(
    ("answers", "output"),
    [
        (Answers.PROBABILITIES, ROWS),
        (Answers.SIGMOID, ROWS / 4),
        (Answers.LOG_PROBABILITIES, np.log(ROWS / 4 + 1e-30)),
        (Answers.LOGITS, np.log(ROWS / 4 + 1e-30) + 700),
    ],
)
def test_scores_sum_to_one_for_every_kind_of_answer(answers: Answers, output: np.ndarray) -> None:
    scores = scores_from_output(output[:, :, None, None], OriginalOutput("y", "float32", 3, answers))
    assert (scores.dtype, scores.shape) == (np.float32, (2, 3))
    np.testing.assert_allclose(scores, ROWS / 4, atol=1e-4)


def test_integers_have_scale_and_zero_point() -> None:
    facts = OriginalOutput("y", "int8", 2, Answers.PROBABILITIES, scale=1 / 256, zero_point=-128)
    scores = scores_from_output(np.array([[-128, 127], [-64, -64], [-128, -128]], np.int8), facts)
    np.testing.assert_allclose(scores, np.array([[0, 1], [0.5, 0.5], [0.5, 0.5]]))


def test_a_single_probability_is_that_of_the_second_class() -> None:
    facts = OriginalOutput("y", "float32", 1, Answers.SIGMOID)
    np.testing.assert_allclose(scores_from_output(np.array([[0.25]], np.float32), facts), np.array([[0.75, 0.25]]))
    assert (classes_of(facts), classes_of(OriginalOutput("y", "float32", 5, Answers.LOGITS))) == (2, 5)


def test_formats_that_tensorflow_runs() -> None:
    assert [kind for kind in Format if not kind.is_tensorflow] == [Format.ONNX, Format.TFLITE]


def test_a_description_is_read_as_it_was_written() -> None:
    original = Original(
        Format.TFLITE,
        "a.tflite",
        "a" * 64,
        "",
        OriginalInput("x", "uint8", Layout.NHWC, 1 / 255, 3, 1),
        OriginalOutput("y", "uint8", 3, Answers.PROBABILITIES, 1 / 256),
        Channels.BGR,
        (Evidence("pixels", Source.METADATA, "the metadata says so"),),
    )
    assert from_json(Original, json.loads(json.dumps(to_json(original))), "model.json") == original
