"""Makes random scenes, JPEG copies of them and their thumbnails."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from trtpoets.train.dataset import DatasetConfig
from trtpoets.train.near_copies.thumbnails import thumbnail_of

CONFIG = DatasetConfig()


def scene(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """Return a random picture with structure at every scale, as photos have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for side, weight in ((4, 60), (9, 40), (20, 25), (45, 15)):
        grid = rng.normal(0, 1, (side, side, 3)).clip(-2, 2)
        part = [
            np.asarray(Image.fromarray(grid[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        total += weight * np.stack(part, axis=2)
    return Image.fromarray(np.clip(128 + total, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return the image after it was compressed as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def thumbnails_of(images: list[Image.Image]) -> np.ndarray:
    """Return the thumbnails of images, each stretched to the input of a network first."""
    return np.stack([thumbnail_of(np.asarray(image.resize((224, 224)))) for image in images])
