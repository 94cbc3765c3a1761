"""The values of pixels and the geometry that a network expects."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.adoption.contract import CAFFE, IMAGENET, PRESETS, RAW, UNIT, Contract, Geometry, pixels_from_mean_and_std
from trtpoets.core.original import Channels
from trtpoets.core.types import Resize


def test_mean_and_standard_deviation() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    pixels = pixels_from_mean_and_std(mean, std, 1 / 255, Channels.BGR, "own")
    x = np.array([10.0, 20.0, 30.0])
    np.testing.assert_allclose(x * pixels.scale + pixels.offset, (x / 255 - mean) / std)
    assert pixels.text == f"own, {Channels.BGR.text}"


def test_equal_values_have_equal_channels() -> None:
    assert pixels_from_mean_and_std((0, 0, 0), (1, 1, 1), 1 / 255, Channels.RGB, "other name").same_as(UNIT)
    assert not UNIT.same_as(RAW)
    assert not pixels_from_mean_and_std((0, 0, 0), (1, 1, 1), 1 / 255, Channels.BGR, "0..1").same_as(UNIT)
    grey = pixels_from_mean_and_std((0, 9, 9), (1, 9, 9), 1.0, Channels.GRAY, "grey")
    assert grey.same_as(pixels_from_mean_and_std((0, 1, 1), (1, 1, 1), 1.0, Channels.GRAY, "grey"))


def test_the_preprocessing_of_a_contract() -> None:
    contract = Contract(IMAGENET, Geometry(Resize.CROP, 0.875))
    preprocess = contract.preprocess(224, 192)
    assert (preprocess.height, preprocess.width, preprocess.crop_fraction) == (224, 192, 0.875)
    assert (preprocess.scale, preprocess.offset) == (IMAGENET.scale, IMAGENET.offset)
    assert contract.text.endswith("crop 0.875")
    assert Geometry().text == "stretch"


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_differs_from_the_others(name: str) -> None:
    assert [other for other, pixels in PRESETS.items() if pixels.same_as(PRESETS[name])] == [name]
    assert (PRESETS[name].channels is Channels.BGR) == (PRESETS[name] is CAFFE)
