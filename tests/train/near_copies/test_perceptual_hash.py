"""Perceptual hashes of photos."""

from __future__ import annotations

from PIL import Image

from tests.support.near_copies import jpeg, scene, thumbnails_of
from trtpoets.train.near_copies.perceptual_hash import hashes_of


def test_hashes_of_copies_are_near() -> None:
    image = scene(1)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    bits = hashes_of(thumbnails_of([image, jpeg(image, 40), mirrored, scene(2)]))
    assert (bits[0, 0] == bits[1, 0]).sum() >= 58
    assert (bits[0, 0] == bits[2, 1]).sum() >= 58
    assert (bits[0, 0] == bits[3, 0]).sum() < 50
