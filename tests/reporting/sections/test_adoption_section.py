"""How the file of an adopted classifier expects its photos."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.tiny import tiny_spec
from trtpoets.core.network_notes import Parity
from trtpoets.core.original import (
    Answers,
    Channels,
    Evidence,
    Format,
    Layout,
    Original,
    OriginalInput,
    OriginalOutput,
    Source,
)
from trtpoets.core.types import ModelSpec, Preprocess, Resize
from trtpoets.reporting.sections.adoption_section import SOURCES, adoption_rows, parity_sentence, pixels_text


def adopted(
    channels: Channels = Channels.RGB, scale: float = 1 / 255, offset: tuple[float, ...] = (0.0,) * 3
) -> ModelSpec:
    original = Original(
        Format.ONNX,
        "net.onnx",
        "a" * 64,
        "",
        OriginalInput("x", "float32", Layout.NCHW),
        OriginalOutput("y", "float32", 3, Answers.LOG_PROBABILITIES),
        channels,
        (Evidence("pixels", Source.TRIAL, "27 of 30 photos\x1b are right"),),
    )
    preprocess = Preprocess(96, 64, (scale,) * 3, (offset[0], offset[1], offset[2]), Resize.CROP, 0.875)
    return replace(tiny_spec(), preprocess=preprocess, original=original)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (adopted(), "RGB, x / 255"),
        (adopted(scale=1.0, offset=(-124.0, -117.0, -104.0), channels=Channels.BGR), "BGR, x - 104, x - 117, x - 124"),
        (adopted(scale=1 / 127.5, offset=(-1.0, -1.0, -1.0)), "RGB, x / 127.5 - 1"),
        (adopted(scale=1.0, offset=(0.5, 9.0, 9.0), channels=Channels.INVERTED_GRAY), "INVERTED GRAY, x + 0.5"),
    ],
)
def test_pixels_as_a_formula(spec: ModelSpec, text: str) -> None:
    assert spec.original is not None
    assert pixels_text(spec, spec.original) == text


def test_rows_describe_the_original_and_its_evidence() -> None:
    rows = dict(adoption_rows(adopted()))
    assert rows["original file"] == "net.onnx (onnx)"
    assert rows["producer"] == "unknown"
    assert rows["photos"] == f"96 x 64 pixels, {Resize.CROP.value}, 0.875 of the shorter side"
    assert rows["output"] == "log probabilities"
    assert rows[f"pixels: {SOURCES[Source.TRIAL]}"] == r"27 of 30 photos\x1b are right"
    assert adoption_rows(tiny_spec()) == []
    assert set(SOURCES) == set(Source)


def test_scores_are_compared_with_those_of_the_original() -> None:
    spec = adopted()
    near = parity_sentence(spec, Parity(20, 3e-6, 1e-7, None, 20), None)
    assert near == "fp32.onnx gives the scores of the original file on 20 images: the largest difference is 3e-06."
    integers = parity_sentence(spec, Parity(20, 0.031, 0.01, None, 19), Parity(20, 0.0039, 0.0, None, 20))
    assert integers.startswith("With the rounding of its integers, the converted network gives the scores")
    assert "difference of at most 0.0039" in integers and integers.endswith("the same answer to 19 of them.")
