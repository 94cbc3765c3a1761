"""The options that state the preprocessing, and their inverse."""

from __future__ import annotations

import shlex

import pytest

from tests.support.errors import raises
from tests.support.foreign import bgr, foreign_model
from trtpoets.adoption.contract import CAFFE, IMAGENET, PRESETS, RAW, SIGNED, UNIT, Contract, Geometry, Pixels
from trtpoets.adoption.contract_options import (
    ContractOptions,
    contract_options,
    fitted,
    geometry_from_options,
    options_for,
    options_of,
    pixels_from_options,
    sides_from_option,
    size_option_of,
)
from trtpoets.adoption.facts import raw_feed
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Channels, Format
from trtpoets.core.types import Resize


def parsed(text: str) -> ContractOptions:
    words = shlex.split(text)
    values = {option.removeprefix("--"): value for option, value in zip(words[::2], words[1::2], strict=True)}
    crop = values.pop("crop", None)
    return contract_options(**values, crop=None if crop is None else float(crop))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", list(Channels))
@pytest.mark.parametrize("geometry", [Geometry(), Geometry(Resize.CROP, 0.875), Geometry(Resize.LETTERBOX)])
def test_options_of_a_contract_state_the_contract(name: str, channels: Channels, geometry: Geometry) -> None:
    preset = PRESETS[name]
    pixels = Pixels(preset.scale, preset.offset, channels, preset.name)
    options = parsed(options_of(Contract(pixels, geometry)))
    assert options.pixels is not None
    stated: Pixels | None = options.pixels
    if channels.number == 1 and "--channels" not in options_of(Contract(pixels, geometry)):
        stated = fitted(options, foreign_model(channels=1)).pixels
    assert stated is not None
    assert stated.same_as(pixels)
    assert options.geometry == geometry


def test_options_of_other_values() -> None:
    odd = Pixels((0.01, 0.02, 0.03), (-0.5, 0.25, -2.0), Channels.BGR)
    even = Pixels((1.0,) * 3, (-124.0, -117.0, -104.0), Channels.RGB)
    for pixels in (odd, even):
        stated = parsed(options_of(Contract(pixels, Geometry()))).pixels
        assert stated is not None
        assert stated.same_as(pixels)
    assert "--mean 124,117,104 --std 1 --scale 1 " in options_of(Contract(even, Geometry()))


def test_numbers() -> None:
    for mean, std, scale, expected in (
        ("0.485,0.456,0.406", "0.229,0.224,0.225", None, IMAGENET),
        ("123.675, 116.28, 103.53", "58.395, 57.12, 57.375", None, IMAGENET),
        ("127.5", "127.5", None, SIGNED),
        ("0.5", "0.5", None, SIGNED),
        (None, "255", None, UNIT),
        (None, None, "1/255", UNIT),
        (None, None, "1", RAW),
    ):
        pixels = pixels_from_options(None, mean, std, scale, None)
        assert pixels is not None
        assert pixels.same_as(expected), (mean, std, scale)
        assert pixels.name == expected.name


def test_channels() -> None:
    assert pixels_from_options("caffe", None, None, None, None) == CAFFE
    swapped = pixels_from_options("caffe", None, None, None, "rgb")
    assert swapped is not None
    assert swapped.channels is Channels.RGB
    assert pixels_from_options(None, None, None, None, "bgr") is None
    assert contract_options(channels="BGR") == ContractOptions(channels=Channels.BGR)
    assert contract_options(channels="inverted-grey").channels is Channels.INVERTED_GRAY
    with raises(BadInput, "TP9408", "3", "1"):
        fitted(contract_options(channels="bgr"), foreign_model(channels=1))
    grey = fitted(contract_options(preprocess="caffe"), foreign_model(channels=1)).pixels
    assert grey is not None
    assert grey.channels is Channels.GRAY


def test_raw_means_unchanged_photos_for_an_integer_input() -> None:
    foreign = foreign_model(format_=Format.TFLITE, dtype="uint8", scale=0.00787, zero_point=128)
    raw = raw_feed(foreign.input)
    assert raw.name == "-1..1"
    for options in (contract_options(preprocess="raw"), contract_options(preprocess="tf")):
        assert fitted(options, foreign).pixels == raw
    assert options_for(Contract(raw, Geometry()), foreign) == "--preprocess raw --resize stretch"
    assert options_for(Contract(bgr(raw), Geometry()), foreign) == "--preprocess raw --channels bgr --resize stretch"


@pytest.mark.parametrize(
    ("options", "code", "values"),
    [
        ({"preprocess": "pytorch"}, "TP9401", ("--preprocess", "'pytorch'", "raw, 0-1, tf")),
        ({"preprocess": "tf", "mean": "0.5"}, "TP9400", ("--preprocess", "--mean")),
        ({"mean": "1,2"}, "TP9409", ("--mean", "2 numbers")),
        ({"mean": "a"}, "TP9410", ("--mean", "'a'")),
        ({"mean": "nan"}, "TP9410", ("--mean", "'nan'")),
        ({"mean": "1e300"}, "TP9410", ("--mean", "'1e300'")),
        ({"std": "0"}, "TP9402", ("--std", "0")),
        ({"mean": "0", "std": "1"}, "TP9403", ("--mean 0 and --std 1 without --scale",)),
        ({"mean": "0"}, "TP9403", ("--mean 0 without --scale",)),
        ({"scale": "0"}, "TP9411", ("--scale", "'0'")),
        ({"scale": "1/0"}, "TP9411", ("--scale", "'1/0'")),
        ({"scale": "1/2/3"}, "TP9411", ("--scale", "'1/2/3'")),
        ({"channels": "cmyk"}, "TP9407", ("--channels", "'cmyk'", "rgb, bgr")),
        ({"resize": "fit"}, "TP9404", ("--resize", "'fit'", "stretch, crop, letterbox")),
        ({"resize": "stretch", "crop": 0.9}, "TP9405", ("--crop", "--resize is stretch")),
        ({"crop": 1.5}, "TP9406", ("--crop", "1.5", "0.01 to 1")),
        ({"crop": float("nan")}, "TP9406", ("--crop", "nan", "0.01 to 1")),
    ],
)
def test_invalid_options(options: dict[str, str], code: str, values: tuple[str, ...]) -> None:
    with raises(BadInput, code, *values) as caught:
        contract_options(**options)  # type: ignore[arg-type]
    assert caught.value.hint


def test_geometry() -> None:
    assert geometry_from_options(None, None) is None
    assert geometry_from_options("crop", None) == Geometry(Resize.CROP)
    assert geometry_from_options(None, 0.875) == Geometry(Resize.CROP, 0.875)


@pytest.mark.parametrize(
    ("text", "sides"), [("224", (224, 224)), ("48x192", (48, 192)), ("48 X 192", (48, 192)), ("48×192", (48, 192))]
)
def test_sides_of_an_input_of_any_size(text: str, sides: tuple[int, int]) -> None:
    assert sides_from_option(text) == sides
    assert sides_from_option(size_option_of(sides)) == sides


@pytest.mark.parametrize("text", ["", "0", "-3", "48x", "3x48x192", "99999", "1e2", "a"])
def test_sides_that_are_none(text: str) -> None:
    assert sides_from_option(None) is None
    with raises(BadInput, "TP9461", "--size", repr(text)):
        sides_from_option(text)
