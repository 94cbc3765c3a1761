"""Distorted photos: what is drawn depends on the photo, seed and number, and the pixels are those that were drawn."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.errors import raises
from trtpoets.core.errors import BadPhoto
from trtpoets.core.fine_tuning import Distortions
from trtpoets.core.images import photo_to_array
from trtpoets.core.types import Photo, Preprocess, Resize, Split
from trtpoets.train.distortions import Variant

SIZE = Preprocess(32, 32, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    """A photo that is dark at its left and bright at its right."""
    path = tmp_path / "ramp.png"
    ramp = np.broadcast_to(np.linspace(40, 200, 64).astype(np.uint8)[None, :, None], (48, 64, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(path)
    return Photo(path, "ramp", Split.TRAIN, hashlib.sha256(path.read_bytes()).hexdigest())


def test_without_distortions_it_is_the_usual_preprocessing(photo: Photo) -> None:
    pixels = Variant(Distortions(), 0, 3).pixels(photo, SIZE)
    np.testing.assert_array_equal(pixels, photo_to_array(photo, SIZE))


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("number", range(3))
def test_every_rule_gives_the_size_of_the_network(photo: Photo, resize: Resize, number: int) -> None:
    preprocess = Preprocess(32, 24, (1.0,) * 3, (0.0,) * 3, resize)
    everything = Distortions(True, 20, 30, 25, 40)
    pixels = Variant(everything, 1, number).pixels(photo, preprocess)
    assert (pixels.shape, pixels.dtype) == ((32, 24, 3), np.uint8)
    np.testing.assert_array_equal(pixels, Variant(everything, 1, number).pixels(photo, preprocess))


def test_flips_are_mirror_images_of_about_half(photo: Photo) -> None:
    usual = photo_to_array(photo, SIZE)
    flipped = 0
    for number in range(40):
        pixels = Variant(Distortions(flip_left_right=True), 0, number).pixels(photo, SIZE)
        mirrored = not np.array_equal(pixels, usual)
        flipped += mirrored
        np.testing.assert_array_equal(pixels, usual[:, ::-1] if mirrored else usual)
    assert 10 <= flipped <= 30


def test_crops_are_parts_of_the_larger_photo(photo: Photo) -> None:
    larger = photo_to_array(photo, Preprocess(40, 40, SIZE.scale, SIZE.offset))
    lefts = set()
    for number in range(20):
        pixels = Variant(Distortions(random_crop=25), 0, number).pixels(photo, SIZE)
        places = [left for left in range(9) if np.array_equal(pixels, larger[:32, left : left + 32])]
        assert places
        lefts.add(places[0])
    assert len(lefts) > 4


def test_brightness_multiplies(photo: Photo) -> None:
    usual = photo_to_array(photo, SIZE).astype(np.float64)
    factors = [
        float(np.median(Variant(Distortions(random_brightness=20), 0, number).pixels(photo, SIZE) / usual))
        for number in range(30)
    ]
    assert min(factors) < 0.9 < 1.1 < max(factors)
    assert min(factors) > 0.79 and max(factors) < 1.21


def test_a_rotation_fills_the_corners_from_the_photo(photo: Photo) -> None:
    pixels = Variant(Distortions(random_rotation=45), 0, 1).pixels(photo, SIZE)
    assert pixels.min() >= 35
    assert not np.array_equal(pixels, photo_to_array(photo, SIZE))


def test_photos_seeds_and_numbers_differ() -> None:
    everything = Distortions(True, 20, 30, 25, 40)
    drawn = {
        Variant(everything, seed, number).drawn(sha256)
        for seed in range(3)
        for number in range(3)
        for sha256 in ("a" * 64, "b" * 64)
    }
    assert len(drawn) == 18
    assert len({Variant(everything, seed, number).key for seed in range(3) for number in range(3)}) == 9


def test_a_photo_that_disappeared_is_named(photo: Photo) -> None:
    photo.path.unlink()
    with raises(BadPhoto, "TP1125", "ramp.png"):
        Variant(Distortions(), 0, 0).pixels(photo, SIZE)
