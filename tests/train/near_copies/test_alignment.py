"""Alignment of pairs of thumbnails."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.near_copies import scene, thumbnails_of
from trtpoets.train.near_copies.alignment import (
    SIDE,
    Alignment,
    align,
    centres,
    normalise_contrast,
    window_positions,
    windows,
)

CROP = (20, 15, 180, 135)  # 0.8 of each side, in the middle


@pytest.fixture(scope="module")
def greys() -> np.ndarray:
    """Four scenes, then the middle of each."""
    scenes = [scene(seed) for seed in range(4)]
    return thumbnails_of([*scenes, *(image.crop(CROP) for image in scenes)])


def aligned(greys: np.ndarray, first: list[int], second: list[int], start: tuple[float, float, float]) -> Alignment:
    images = normalise_contrast(greys)
    pair = greys[first].astype(np.float32), greys[second].astype(np.float32)
    positions = np.array([start] * len(first), np.float32)
    return align(images[first], images[second], pair, positions, np.zeros_like)


def test_contrast_is_normalised_whatever_the_exposure(greys: np.ndarray) -> None:
    images = normalise_contrast(greys[:1])
    assert (images.shape, images.dtype) == ((1, SIDE, SIDE), np.float32)
    assert abs(float(images.mean())) < 0.1
    darker = normalise_contrast(greys[:1] * 0.5 + 20)
    assert np.corrcoef(images.ravel(), darker.ravel())[0, 1] > 0.99
    np.testing.assert_allclose(normalise_contrast(np.full((1, SIDE, SIDE), 77, np.uint8)), 0, atol=1e-4)


def test_hidden_pixels_have_no_influence(greys: np.ndarray) -> None:
    shown = np.ones((1, SIDE, SIDE), np.float32)
    shown[:, :, 40:] = 0
    other = greys[:1].copy()
    other[:, :, 40:] = 255 - other[:, :, 40:]
    one, two = normalise_contrast(greys[:1], shown), normalise_contrast(other, shown)
    np.testing.assert_allclose(one[:, :, :40], two[:, :, :40], atol=1e-4)


def test_windows_and_centres_are_unit_vectors_without_mean(greys: np.ndarray) -> None:
    images = normalise_contrast(greys)
    of_windows, of_centres, positions = windows(images), centres(images), window_positions()
    assert of_windows.shape == (8, len(positions), of_centres.shape[1])
    for vectors in (of_windows, of_centres):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-3)
        np.testing.assert_allclose(vectors.mean(axis=-1), 0, atol=1e-5)
    assert positions.shape[1] == 3 and positions.dtype == np.float32


def test_the_centre_of_a_crop_is_most_like_the_window_at_its_place(greys: np.ndarray) -> None:
    images = normalise_contrast(greys)
    alike = windows(images[:4]) @ centres(images[4:]).T  # (originals, windows, crops)
    assert (alike.max(axis=1).argmax(axis=0) == np.arange(4)).all()
    scale, down, right = window_positions()[alike[0, :, 0].argmax()]
    assert scale == pytest.approx(0.8, abs=0.06)
    assert abs(down) < 0.06 and abs(right) < 0.06


def test_crops_are_aligned_with_their_originals(greys: np.ndarray) -> None:
    result = aligned(greys, [0, 1], [4, 5], (0.85, 0.02, -0.02))
    assert (result.correlation > 0.9).all() and (result.detail > 0.8).all()
    assert (result.overlap > 0.9).all()
    assert (result.shared < 0.5).all()


def test_different_scenes_are_not_alike(greys: np.ndarray) -> None:
    result = aligned(greys, [0, 1], [5, 4], (0.8, 0.0, 0.0))
    assert (result.correlation < 0.6).all()
    for values in result:
        assert (values.shape, values.dtype) == ((2,), np.float32)


def test_equal_images_differ_by_nothing(greys: np.ndarray) -> None:
    result = aligned(greys, [2], [2], (1.0, 0.0, 0.0))
    assert result.correlation[0] == pytest.approx(1, abs=1e-3)
    assert result.difference[0] == pytest.approx(0, abs=0.02)
    assert result.overlap[0] == pytest.approx(1, abs=0.05)
