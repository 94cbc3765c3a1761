"""Classifiers of other programs for tests: descriptions of files, and small networks that depend on their contract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from trtpoets.adopt.contract import Pixels
from trtpoets.adopt.foreign import Clues, ForeignModel
from trtpoets.core.original import Answers, Channels, Format, Layout, OriginalInput, OriginalOutput, values_from_photos
from trtpoets.core.types import Photo, Preprocess, Split

COLOURS = ((210, 60, 50), (60, 170, 80), (60, 80, 200), (200, 190, 60), (140, 60, 160))


def foreign_model(
    path: Path = Path("models/flowers.onnx"),
    *,
    format_: Format = Format.ONNX,
    input_name: str = "photo",
    output_name: str = "class",
    side: int = 16,
    channels: int = 3,
    classes: int = 5,
    dtype: str = "float32",
    scale: float = 1.0,
    zero_point: int = 0,
    **clues: Any,
) -> ForeignModel:
    """A file with an image input and an output of logits."""
    return ForeignModel(
        path,
        format_,
        "0" * 64,
        side,
        side,
        channels,
        OriginalInput(input_name, dtype, Layout.NHWC, scale, zero_point),
        OriginalOutput(output_name, "float32", classes, Answers.LOGITS),
        Clues(**clues),
    )


class ColourNetwork:
    """Answers with the class whose colour, in the values of `pixels`, is nearest to the mean of the photo's middle.

    Before, values are clipped to the range that `pixels` have, as a network saturates on values that are too large.
    """

    def __init__(self, pixels: Pixels, middle: float = 1.0) -> None:
        self.photos = 0
        self._middle = middle
        number = pixels.channels.number
        colours = np.asarray(COLOURS, np.uint8)[:, None, None]
        preprocess = Preprocess(1, 1, pixels.scale, pixels.offset)
        self._centres = values_from_photos(colours, preprocess, pixels.channels).reshape(len(COLOURS), number)
        black = values_from_photos(np.zeros((1, 1, 1, 3), np.uint8), preprocess, pixels.channels).reshape(number)
        white = values_from_photos(np.full((1, 1, 1, 3), 255, np.uint8), preprocess, pixels.channels).reshape(number)
        self._low, self._high = np.minimum(black, white), np.maximum(black, white)

    def __enter__(self) -> ColourNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def infer(self, values: np.ndarray) -> np.ndarray:
        self.photos += len(values)
        height, width = values.shape[1:3]
        top, left = (int(side * (1 - self._middle) / 2) for side in (height, width))
        mean = values[:, top : height - top, left : width - left].clip(self._low, self._high).mean(axis=(1, 2))
        distance = ((mean[:, None] - self._centres) / (self._high - self._low)) ** 2
        return -distance.sum(axis=2)


def colour_photos(
    folder: Path, count: int, *, size: tuple[int, int] = (24, 16), noise: float = 60, classes: Sequence[int] = range(5)
) -> tuple[list[Photo], list[int]]:
    """Photos (width, height) of the colours, each with its own shift, and their classes."""
    random = np.random.default_rng(count)
    photos, truth = [], []
    for number in range(count):
        label = list(classes)[number % len(classes)]
        shift = random.normal(0, noise, 3)
        pixels = np.asarray(COLOURS[label]) + shift + random.normal(0, 8, (size[1], size[0], 3))
        path = folder / f"{number:04}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        photos.append(Photo(path, str(label), Split.TEST, hashlib.sha256(path.read_bytes()).hexdigest()))
        truth.append(label)
    return photos, truth


def bgr(pixels: Pixels) -> Pixels:
    return replace(pixels, channels=Channels.BGR)
