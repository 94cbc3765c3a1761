"""Describes a classifier file that another program wrote: what it takes, what it returns, and how that is known.

model.json stores it as `original`. Its functions turn photos into the values that such a file takes, and what it
returns into scores, with numpy alone. The graphs that trtpoets writes contain the same computations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trtpoets.core.types import Preprocess

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey value (ITU-R BT.601), as Pillow, OpenCV and TensorFlow use them."""


class Format(str, Enum):
    """The format of a classifier file."""

    ONNX = "onnx"
    TFLITE = "tflite"
    KERAS = "keras"
    SAVED_MODEL = "saved-model"
    GRAPH_DEF = "graph-def"

    @property
    def is_tensorflow(self) -> bool:
        """Whether TensorFlow runs it; the classifier then has a SavedModel, as a trained one has."""
        return self in (Format.KERAS, Format.SAVED_MODEL, Format.GRAPH_DEF)


class Channels(str, Enum):
    """The channels that a network takes, in their order. Grey values are LUMA of the RGB values."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"
    INVERTED_GRAY = "inverted-gray"

    @property
    def number(self) -> int:
        """3 or 1."""
        return 3 if self in (Channels.RGB, Channels.BGR) else 1

    @property
    def text(self) -> str:
        """As sentences and tables name them: "RGB", "INVERTED GRAY"."""
        return self.value.replace("-", " ").upper()


class Layout(str, Enum):
    """The order of the axes of a network's input."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Answers(str, Enum):
    """What a network returns for each class, and so what makes scores of it (`scores_from_output`).

    SIGMOID are independent probabilities: one per class, or a single one, that of the second class. A single one of
    LOGITS is that of the second class too, before its sigmoid.
    """

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    LOG_PROBABILITIES = "log-probabilities"
    SIGMOID = "sigmoid"


@dataclass(frozen=True)
class OriginalInput:
    """The input of the file. `dtype` is numpy's name.

    For integers, a value v is stored as `round(v / scale) + zero_point`. `batch` is the number of photos that the file
    takes, 0 for any number.
    """

    name: str
    dtype: str
    layout: Layout
    scale: float = 1.0
    zero_point: int = 0
    batch: int = 0


@dataclass(frozen=True)
class OriginalOutput:
    """The output of the file. For integers, `(q - zero_point) * scale` is the value of q. `size` is its length."""

    name: str
    dtype: str
    size: int
    answers: Answers
    scale: float = 1.0
    zero_point: int = 0


class Source(str, Enum):
    """Where a fact about a file comes from, the most reliable source first."""

    OPTION = "option"
    GRAPH = "graph"
    METADATA = "metadata"
    SIBLING = "sibling"
    PRODUCER = "producer"
    TRIAL = "trial"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Evidence:
    """A fact about a file: `about` is "pixels", "resize" or "labels", `text` a sentence."""

    about: str
    source: Source
    text: str


@dataclass(frozen=True)
class Original:
    """The original file of a classifier. It is `original/FILE` in the classifier's folder; a SavedModel is a folder.

    `producer` is the program that wrote it, "" if unknown. The network takes `photo * scale + offset` of the
    Preprocess, channel by channel in the order RGB, as `channels`.
    """

    format: Format
    file: str
    sha256: str
    producer: str
    input: OriginalInput
    output: OriginalOutput
    channels: Channels
    evidence: tuple[Evidence, ...] = ()


def values_from_photos(photos: np.ndarray, preprocess: Preprocess, channels: Channels) -> np.ndarray:
    """Return what the network takes for photos, uint8 (N, H, W, 3) in RGB: float32 (N, H, W, C) with C = 3 or 1."""
    pixels = photos.astype(np.float32)
    if channels.number == 1:
        grey = (pixels @ np.asarray(LUMA, np.float32))[..., None]
        pixels = 255 - grey if channels is Channels.INVERTED_GRAY else grey
    number = channels.number
    values = pixels * np.asarray(preprocess.scale[:number], np.float32)
    values += np.asarray(preprocess.offset[:number], np.float32)
    return values[..., ::-1] if channels is Channels.BGR else values


def stored_values(values: np.ndarray, input_: OriginalInput) -> np.ndarray:
    """Return float32 (N, H, W, C) as the file's input stores it: its layout, its type, quantised if it is integer."""
    if input_.layout is Layout.NCHW:
        values = values.transpose(0, 3, 1, 2)
    kind = np.dtype(input_.dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.clip(np.rint(values / input_.scale) + input_.zero_point, limits.min, limits.max)
    return np.ascontiguousarray(values, kind)


def scores_from_output(output: np.ndarray, facts: OriginalOutput) -> np.ndarray:
    """Return scores, float32 (N, C), rows summing to 1, from what the file returns: (N, size) or (N, size, 1, 1)."""
    values = output.reshape(len(output), facts.size).astype(np.float32)
    if np.dtype(facts.dtype).kind in "iu":
        values = (values - facts.zero_point) * np.float32(facts.scale)
    if facts.answers is Answers.LOGITS and facts.size == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    if facts.answers is Answers.LOGITS:
        values = np.exp(values - values.max(axis=1, keepdims=True))
    elif facts.answers is Answers.LOG_PROBABILITIES:
        values = np.exp(values)
    elif facts.answers is Answers.SIGMOID and facts.size == 1:
        return np.concatenate([1 - values, values], axis=1)
    total = values.sum(axis=1, keepdims=True)
    # Rounded probabilities may all be 0: then no class is preferred.
    uniform = np.float32(1 / values.shape[1])
    return np.where(total > 0, values / np.where(total > 0, total, 1), uniform).astype(np.float32)


def classes_of(output: OriginalOutput) -> int:
    """Return the number of classes: two for a single probability or logit."""
    return 2 if output.size == 1 else output.size
