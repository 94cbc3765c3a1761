"""Generates photos: each label has its own colour and pattern, so that tiny networks can learn them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_photo(label: int, number: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A photo (width, height) of class `label`; another `number` gives another photo of the same class."""
    noise = np.random.default_rng([label, number])
    width, height = size
    base = np.array([[200, 60, 60], [60, 180, 70], [60, 80, 200], [190, 190, 60], [150, 60, 170]][label % 5])
    pixels = base + noise.normal(0, 18, (height, width, 3))
    pixels[:, (label % 3) :: 4] *= 0.6
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def photo_folder(folder: Path, counts: dict[str, int], size: tuple[int, int] = (48, 40)) -> Path:
    """Write `counts[label]` JPEG photos into folder/label for each label; returns the folder."""
    for index, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            make_photo(index, number, size).save(folder / label / f"{number:04}.jpg", quality=90)
    return folder
