"""Near-copies that are planted among photos, and how many of them are found: recall, precision, seconds, peak memory.

Copies are made of photos drawn at random from folders of class folders, in equal parts of six kinds: cropped (76 to
95 % of each side), mirrored, resized (40 to 150 %), encoded anew (JPEG, quality 30 to 90), brighter or darker with
another contrast, and as a next frame of a video (moved by up to 4 %, zoomed by up to 2 %, noise). With --both, each
copy has two kinds. A copy is saved as JPEG of quality 88 where its kind says nothing else.

    python benchmarks/copies.py [--photos FOLDER ...] [--count 2000] [--copies 1000] [--both]

Without --photos the photos are the demonstration's solar cells, which look alike: the hardest negatives there are.
Recall is the share of copies that are in their original's family, precision the share of pairs (of two photos in one
family) whose photos have the same original. Pairs of originals count as wrong, although a few photos in folders that
people collected are copies of each other: --show N writes pictures of such pairs to look at.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

KINDS = ("crop", "mirror", "resize", "encode", "light", "frame")


def changed(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """A copy of this kind."""
    width, height = image.size
    if kind == "crop":
        share_x, share_y = np.clip(rng.uniform(0.76, 0.95) + rng.uniform(-0.03, 0.03, 2), 0.76, 0.95)
        left, top = rng.uniform(0, 1 - share_x), rng.uniform(0, 1 - share_y)
        box = (left * width, top * height, (left + share_x) * width, (top + share_y) * height)
        return image.crop(tuple(round(x) for x in box))
    if kind == "mirror":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "resize":
        scale = rng.uniform(0.4, 1.5)
        return image.resize((round(scale * width), round(scale * height)))
    if kind == "light":
        lighter = ImageEnhance.Brightness(image).enhance(rng.uniform(0.65, 1.4))
        return ImageEnhance.Contrast(lighter).enhance(rng.uniform(0.7, 1.4))
    if kind == "frame":
        zoom = rng.uniform(0.98, 1)
        left, top = rng.uniform(-0.04, 0.04, 2) + (1 - zoom) / 2
        box = (left * width, top * height, (left + zoom) * width, (top + zoom) * height)
        padded = np.pad(np.asarray(image), ((height, height), (width, width), (0, 0)), mode="symmetric")
        moved = Image.fromarray(padded).resize(
            image.size, box=(box[0] + width, box[1] + height, box[2] + width, box[3] + height), resample=2
        )
        noisy = np.asarray(moved) + rng.normal(0, rng.uniform(2, 8), (height, width, 1))
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return image


def encoded(image: Image.Image, kinds: tuple[str, ...], rng: np.random.Generator) -> bytes:
    """JPEG bytes."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(30, 91)) if "encode" in kinds else 88)
    return stream.getvalue()


def planted(sources: list[Path], copies: int, both: bool, out: Path, seed: int) -> list[tuple[Path, int, str]]:
    """Write copies of photos drawn from `sources` into `out`: (path, index of the original, kinds)."""
    rng = np.random.default_rng(seed)
    originals = rng.choice(len(sources), copies, replace=copies > len(sources))
    made = []
    for number, original in enumerate(originals):
        kinds: tuple[str, ...] = (KINDS[number % len(KINDS)],)
        if both:
            kinds = tuple(rng.choice(KINDS, 2, replace=False))
        image = Image.open(sources[original]).convert("RGB")
        for kind in kinds:
            image = changed(image, kind, rng)
        path = out / f"{number:05}.jpg"
        path.write_bytes(encoded(image, kinds, rng))
        made.append((path, int(original), "+".join(kinds)))
    return made
