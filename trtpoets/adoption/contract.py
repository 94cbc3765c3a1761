"""How a network expects its photos: the values of the pixels, and how photos of other shapes are resized."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.original import Channels
from trtpoets.core.types import Preprocess, Resize

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Pixels:
    """The values of pixels: `x * scale + offset`, x in 0..255, in the order RGB whatever the channels are.

    `name` is their usual name, such as "0..1"; comparisons ignore it. For one channel the first of the three
    numbers counts.
    """

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    channels: Channels = Channels.RGB
    name: str = ""

    @property
    def text(self) -> str:
        """Like "0..1, RGB"."""
        return f"{self.name}, {self.channels.text}"

    def same_as(self, other: Pixels) -> bool:
        """Whether both give the same values."""
        count = self.channels.number
        return self.channels is other.channels and all(
            abs(a - b) <= 1e-6 * max(1.0, abs(a))
            for a, b in zip(
                (*self.scale[:count], *self.offset[:count]), (*other.scale[:count], *other.offset[:count]), strict=True
            )
        )


@dataclass(frozen=True)
class Geometry:
    """How photos are resized to the input. `crop_fraction` is as in Preprocess."""

    resize: Resize = Resize.STRETCH
    crop_fraction: float = 1.0

    @property
    def text(self) -> str:
        """Like "crop 0.875"."""
        fraction = f" {self.crop_fraction:.3g}" if self.crop_fraction != 1 else ""
        return f"{self.resize.value}{fraction}"


@dataclass(frozen=True)
class Contract:
    """Pixels and geometry together."""

    pixels: Pixels
    geometry: Geometry

    @property
    def text(self) -> str:
        """Like "0..1, RGB, crop 0.875"."""
        return f"{self.pixels.text}, {self.geometry.text}"

    def preprocess(self, height: int, width: int) -> Preprocess:
        """Return the preprocessing for an input of height x width pixels."""
        return Preprocess(
            height,
            width,
            self.pixels.scale,
            self.pixels.offset,
            self.geometry.resize,
            self.geometry.crop_fraction,
        )


def pixels_from_mean_and_std(mean: Triple, std: Triple, scale: float, channels: Channels, name: str) -> Pixels:
    """Return `(x * scale - mean) / std`, with `mean` and `std` in the order RGB."""
    return Pixels(
        (scale / std[0], scale / std[1], scale / std[2]),
        (-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]),
        channels,
        name,
    )


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_ONES = (1.0, 1.0, 1.0)
_ZEROS = (0.0, 0.0, 0.0)

RAW = Pixels(_ONES, _ZEROS, name="0..255")
UNIT = Pixels((1 / 255,) * 3, _ZEROS, name="0..1")
SIGNED = Pixels((1 / 127.5,) * 3, (-1.0,) * 3, name="-1..1")
CENTRED = Pixels(_ONES, (-128.0,) * 3, name="-128..127")
IMAGENET = pixels_from_mean_and_std(*_IMAGENET, 1 / 255, Channels.RGB, "ImageNet statistics")
CIFAR10 = pixels_from_mean_and_std(*_CIFAR10, 1 / 255, Channels.RGB, "CIFAR-10 statistics")
CLIP = pixels_from_mean_and_std(*_CLIP, 1 / 255, Channels.RGB, "CLIP statistics")
CAFFE = Pixels(_ONES, (-123.68, -116.779, -103.939), Channels.BGR, "0..255 minus ImageNet means")

PRESETS = {
    "raw": RAW,
    "0-1": UNIT,
    "tf": SIGNED,
    "torch": IMAGENET,
    "caffe": CAFFE,
    "clip": CLIP,
    "cifar": CIFAR10,
    "minus-128": CENTRED,
}
"""The values of `adopt --preprocess`. Keras names tf, torch and caffe (keras.applications.imagenet_utils)."""
