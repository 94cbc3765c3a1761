"""Pixel values that a TFLite file determines: its own quantisation, its first operators, an integer sibling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_files import TfliteFile, tflite_classifier
from trtpoets.adopt.contract import CENTRED, RAW, SIGNED, UNIT, Pixels
from trtpoets.adopt.foreign import ForeignModel
from trtpoets.adopt.tflite import sibling_pixels
from trtpoets.adopt.tflite.contents import read_contents
from trtpoets.adopt.tflite.pixels import pixels_of_input, range_of_pixels
from trtpoets.core.original import (
    Answers,
    Channels,
    Format,
    Layout,
    OriginalInput,
    OriginalOutput,
    Source,
    stored_values,
    values_from_photos,
)
from trtpoets.core.types import Preprocess

pytest.importorskip("ai_edge_litert")


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype", "expected"),
    [
        (1 / 255, 0, "uint8", UNIT),
        (1 / 256, -128, "int8", UNIT),
        (1 / 127.5, 127, "uint8", SIGNED),
        (1 / 127, 128, "uint8", SIGNED),
        (1 / 128, 0, "int8", SIGNED),
        (1 / 127.5, -1, "int8", SIGNED),
        (1.0, 0, "uint8", RAW),
        (1.0, -128, "int8", RAW),
        (1.0, 0, "int8", CENTRED),
        (1.0, 128, "uint8", CENTRED),
        (0.0187, 114, "uint8", None),
        (1 / 255, 128, "uint8", None),
        (1 / 127.5, 0, "uint8", None),
        (1 / 250, 0, "uint8", None),
    ],
)
def test_ranges_of_pixels(scale: float, zero_point: int, dtype: str, expected: Pixels | None) -> None:
    assert range_of_pixels(scale, zero_point, dtype) == expected


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [
        ("uint8", 0.007874015718698502, 128),
        ("uint8", 0.0078125, 127),
        ("int8", 0.003921568859368563, -128),
        ("int8", 0.00784, -1),
        ("int8", 1.0, 0),
    ],
)
def test_the_integers_are_the_pixels(tmp_path: Path, dtype: str, scale: float, zero_point: int) -> None:
    file = tflite_classifier(dtype=dtype, scale=scale, zero_point=zero_point)
    fixed = pixels_of_input(read_contents(file.write(tmp_path / "net.tflite")))
    assert fixed is not None
    assert fixed.evidence.source is Source.GRAPH
    assert f"scale {scale:.6g} and zero point {zero_point}" in fixed.evidence.text
    photos = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    values = values_from_photos(photos, Preprocess(16, 16, fixed.pixels.scale, fixed.pixels.offset), Channels.RGB)
    stored = stored_values(values, OriginalInput("photo", dtype, Layout.NHWC, scale, zero_point))
    np.testing.assert_array_equal(stored.astype(int), photos.astype(int) - (128 if dtype == "int8" else 0))


def test_one_channel_is_grey(tmp_path: Path) -> None:
    file = tflite_classifier(shape=(1, 8, 8, 1), dtype="int8", zero_point=-128)
    fixed = pixels_of_input(read_contents(file.write(tmp_path / "net.tflite")))
    assert fixed is not None
    assert fixed.pixels.channels is Channels.GRAY


def test_another_scale_determines_nothing(tmp_path: Path) -> None:
    file = tflite_classifier(dtype="uint8", scale=0.0187, zero_point=114)
    assert pixels_of_input(read_contents(file.write(tmp_path / "net.tflite"))) is None


def test_uint8_without_quantisation(tmp_path: Path) -> None:
    file = tflite_classifier()
    photo, (network,) = file.tensor("pixels", (1, 8, 8, 3), "uint8"), file.inputs
    file.operator("CAST", [photo], [network])
    file.inputs = [photo]
    fixed = pixels_of_input(read_contents(file.write(tmp_path / "net.tflite")))
    assert fixed is not None
    assert fixed.pixels == RAW


IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("MUL", 1 / 255)], RAW),
        ([("MUL", 1 / 127.5), ("ADD", -1.0)], RAW),
        ([("SUB", 127.5), ("DIV", 127.5)], RAW),
        ([("SUB", [123.68, 116.779, 103.939])], RAW),
        ([("SUB", 128.0)], RAW),
        ([("SUB", IMAGENET_MEAN), ("DIV", IMAGENET_STD)], UNIT),
        ([("SUB", 255 * IMAGENET_MEAN), ("DIV", 255 * IMAGENET_STD)], RAW),
        ([("MUL", 2.0), ("SUB", 1.0)], UNIT),
        ([("SUB", 0.5)], UNIT),
        ([("MUL", 255.0)], None),
        ([("MUL", 1 / 128)], None),
        ([("ADD", 3.0)], None),
        ([("MUL", -1.0)], None),
        ([], None),
    ],
)
def test_first_operators(tmp_path: Path, steps: list[tuple[str, float]], expected: Pixels | None) -> None:
    file = _after(tflite_classifier(), steps)
    fixed = pixels_of_input(read_contents(file.write(tmp_path / "net.tflite")))
    assert (fixed and fixed.pixels) == expected


def _after(file: TfliteFile, steps: list[tuple[str, float]]) -> TfliteFile:
    """The same network with the steps before it."""
    (network,) = file.inputs
    file.inputs = [current] = [file.tensor("values", (1, 8, 8, 3))]
    for number, (kind, value) in enumerate(steps):
        last = number == len(steps) - 1
        result = network if last else file.tensor(f"step {number}", (1, 8, 8, 3))
        file.operator(kind, [current, file.constant(np.asarray(value, np.float32))], [result], f"{kind.title()}Options")
        current = result
    if not steps:
        file.inputs = [network]
    return file


def test_a_float_input_that_is_quantised_at_once(tmp_path: Path) -> None:
    file = tflite_classifier(dtype="int8", scale=1 / 127.5, zero_point=-1)
    photo, (network,) = file.tensor("values", (1, 8, 8, 3)), file.inputs
    file.operator("QUANTIZE", [photo], [network])
    file.inputs = [photo]
    fixed = pixels_of_input(read_contents(file.write(tmp_path / "net.tflite")))
    assert fixed is not None
    assert fixed.pixels == SIGNED


def float_model(path: Path, classes: int = 4, size: int = 8) -> ForeignModel:
    return ForeignModel(
        path,
        Format.KERAS,
        "",
        size,
        size,
        3,
        OriginalInput("input", "float32", Layout.NHWC),
        OriginalOutput("output", "float32", classes, Answers.PROBABILITIES),
    )


def test_an_integer_sibling(tmp_path: Path) -> None:
    tflite_classifier(dtype="int8", scale=1.0, zero_point=-128).write(tmp_path / "flowers_int8.tflite")
    fixed = sibling_pixels(float_model(tmp_path / "flowers.h5"))
    assert fixed is not None
    assert fixed.pixels == RAW
    assert fixed.evidence.source is Source.SIBLING
    assert "flowers_int8.tflite" in fixed.evidence.text
    assert sibling_pixels(float_model(tmp_path / "flowers_float.tflite")) == fixed
    for other in (
        float_model(tmp_path / "fruit.h5"),
        float_model(tmp_path / "flowers.h5", classes=5),
        float_model(tmp_path / "flowers.h5", size=16),
    ):
        assert sibling_pixels(other) is None


def test_siblings_that_disagree(tmp_path: Path) -> None:
    tflite_classifier(dtype="int8", scale=1.0, zero_point=-128).write(tmp_path / "flowers_int8.tflite")
    tflite_classifier(dtype="uint8").write(tmp_path / "flowers_quant.tflite")
    assert sibling_pixels(float_model(tmp_path / "flowers.h5")) is None


def test_files_that_are_no_siblings(tmp_path: Path) -> None:
    (tmp_path / "flowers_int8.tflite").write_bytes(b"damaged")
    tflite_classifier(dtype="int8", scale=0.02, zero_point=3).write(tmp_path / "flowers_quant.tflite")
    tflite_classifier().write(tmp_path / "flowers.tflite")
    assert sibling_pixels(float_model(tmp_path / "flowers.h5")) is None
    model = float_model(tmp_path / "flowers_int8.tflite")
    assert sibling_pixels(replace(model, format=Format.TFLITE)) is None
