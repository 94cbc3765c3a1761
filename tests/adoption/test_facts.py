"""Values of pixels that results cannot distinguish are nearly the same."""

from __future__ import annotations

import pytest

from tests.support.foreign import bgr, foreign_model
from trtpoets.adoption.contract import PRESETS, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.facts import (
    for_channels,
    has_usual_range,
    is_integer,
    nearly_same,
    nearly_same_geometry,
    raw_feed,
)
from trtpoets.core.original import Channels
from trtpoets.core.types import Resize


def test_nearly_same_values() -> None:
    inception = Pixels((1 / 128,) * 3, (-1.0,) * 3)
    assert nearly_same(inception, SIGNED)
    assert not nearly_same(bgr(SIGNED), SIGNED)
    for first in PRESETS.values():
        assert [name for name, other in PRESETS.items() if nearly_same(first, other)] == [
            name for name, other in PRESETS.items() if other is first
        ]


def test_integer_inputs_that_store_photos_unchanged() -> None:
    int8 = foreign_model(dtype="int8", scale=1 / 255, zero_point=-128)
    assert raw_feed(int8.input).same_as(UNIT)
    assert raw_feed(int8.input).name == "0..1"
    assert is_integer(int8) and has_usual_range(int8)
    odd = foreign_model(dtype="uint8", scale=0.0186, zero_point=114)
    assert not has_usual_range(odd)
    assert raw_feed(odd.input).name == "-2.12..2.62"
    assert not is_integer(foreign_model())


def test_pixels_of_another_number_of_channels() -> None:
    grey = for_channels(UNIT, 1)
    assert (grey.channels, grey.scale) == (Channels.GRAY, UNIT.scale)
    assert for_channels(UNIT, 3) is UNIT
    assert for_channels(grey, 3).channels is Channels.RGB


@pytest.mark.parametrize(("fraction", "same"), [(0.875, True), (0.89, True), (0.9, False)])
def test_nearly_same_crops(fraction: float, same: bool) -> None:
    crop = Geometry(Resize.CROP, 0.875)
    assert nearly_same_geometry(crop, Geometry(Resize.CROP, fraction)) is same
    assert not nearly_same_geometry(crop, Geometry(Resize.STRETCH, fraction))
