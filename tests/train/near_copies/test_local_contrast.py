"""Normalised thumbnails, descriptors of their windows, and the patterns that many photos share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.near_copies import scene, thumbnails_of
from trtpoets.train.near_copies.alignment import SIDE, normalise_contrast, window_positions
from trtpoets.train.near_copies.local_contrast import NormalisedThumbnails


@pytest.fixture(scope="module")
def greys() -> np.ndarray:
    return thumbnails_of([scene(seed) for seed in range(6)])


@pytest.fixture(scope="module")
def thumbnails(greys: np.ndarray) -> NormalisedThumbnails:
    return NormalisedThumbnails(greys)


def test_images_are_those_of_the_rows(thumbnails: NormalisedThumbnails, greys: np.ndarray) -> None:
    rows = np.array([4, 1])
    assert len(thumbnails) == 6
    np.testing.assert_array_equal(thumbnails.grey(rows), greys[rows].astype(np.float32))
    np.testing.assert_array_equal(thumbnails.images(rows), normalise_contrast(greys[rows]))


def test_descriptors_are_unit_vectors_that_do_not_depend_on_earlier_calls(thumbnails: NormalisedThumbnails) -> None:
    rows = np.arange(6)
    first = thumbnails.window_descriptors(rows)
    assert first.shape[:2] == (6, len(window_positions()))
    np.testing.assert_allclose(np.linalg.norm(first, axis=-1), 1, atol=2e-3)
    np.testing.assert_array_equal(thumbnails.window_descriptors(rows[::-1]), first[::-1])
    of_centres = thumbnails.centre_descriptors(rows)
    assert of_centres.shape == (6, 2, first.shape[2])
    np.testing.assert_allclose(np.linalg.norm(of_centres, axis=-1), 1, atol=1e-4)


def test_the_second_centre_is_that_of_the_mirror_image(greys: np.ndarray) -> None:
    both = NormalisedThumbnails(np.concatenate([greys, greys[:, :, ::-1]]))
    of_centres = both.centre_descriptors(np.arange(12))
    np.testing.assert_allclose(of_centres[:6, 1], of_centres[6:, 0], atol=1e-3)


def test_few_photos_share_no_patterns(thumbnails: NormalisedThumbnails) -> None:
    assert not thumbnails.common(thumbnails.images(np.arange(6))).any()


def test_a_frame_of_all_photos_is_a_shared_pattern(greys: np.ndarray) -> None:
    random = np.random.default_rng(0)
    many = random.integers(100, 156, (120, SIDE, SIDE), dtype=np.uint8)
    many[:, 20:24] = many[:, :, 40:44] = 10
    framed = NormalisedThumbnails(many)
    images = framed.images(np.arange(8))
    common = framed.common(images)
    assert (common.shape, common.dtype) == (images.shape, np.float32)
    shares = (common**2).sum((1, 2)) / (images**2).sum((1, 2))
    assert (shares > 0.3).all(), "the frame is most of what each image shows"
    foreign = normalise_contrast(greys)
    assert ((framed.common(foreign) ** 2).sum((1, 2)) < 0.2 * (foreign**2).sum((1, 2))).all()
