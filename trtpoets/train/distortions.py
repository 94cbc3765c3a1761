"""Distorts training photos at random: mirror images, crops, sizes, brightness, rotation.

A photo is read by `core.images` as for the network, only at a larger size, and a box of the network's size is cut out.
So a distorted photo is decoded and resized by the same rule as any other. What is drawn depends on the content of the
photo, the seed and the number of the variant, not on the order of the photos.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trtpoets.core.images import photo_to_array
from trtpoets.core.types import hash_of

if TYPE_CHECKING:
    from trtpoets.core.fine_tuning import Distortions
    from trtpoets.core.types import Photo, Preprocess

_VERSION = 1
"""Increase it when the same distortions may give other pixels than before."""


class Drawn(NamedTuple):
    """What was drawn for a photo. `left` and `top` are the place of the box, 0..1 of the free margin."""

    flip: bool
    zoom: float
    left: float
    top: float
    brightness: float
    degrees: float


@dataclass(frozen=True)
class Variant:
    """The `number`th distorted variant of each photo, drawn with `seed`."""

    distortions: Distortions
    seed: int
    number: int

    @property
    def key(self) -> str:
        """A hash of all that the pixels depend on besides the photo and its preprocessing."""
        return hash_of([_VERSION, asdict(self.distortions), self.seed, self.number])

    def pixels(self, photo: Photo, preprocess: Preprocess) -> np.ndarray:
        """Return the pixels of a distorted photo: uint8 (H, W, 3). Raises BadPhoto and PhotoChanged."""
        drawn = self.drawn(photo.sha256)
        larger = replace(
            preprocess, height=round(preprocess.height * drawn.zoom), width=round(preprocess.width * drawn.zoom)
        )
        pixels = photo_to_array(photo, larger)
        if drawn.degrees:
            pixels = _rotated(pixels, drawn.degrees)
        top = round(drawn.top * (larger.height - preprocess.height))
        left = round(drawn.left * (larger.width - preprocess.width))
        pixels = pixels[top : top + preprocess.height, left : left + preprocess.width]
        if drawn.flip:
            pixels = pixels[:, ::-1]
        if drawn.brightness != 1:
            pixels = np.clip(np.rint(pixels * np.float32(drawn.brightness)), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels)

    def drawn(self, sha256: str) -> Drawn:
        """Return what is drawn for the photo with this sha256."""
        digest = hashlib.sha256(f"{sha256}:{self.seed}:{self.number}".encode()).digest()
        random = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
        flip, scale, left, top, light, turn = random.random(6).tolist()
        own = self.distortions
        return Drawn(
            flip=own.flip_left_right and flip < 0.5,
            zoom=(1 + own.random_crop / 100) * (1 + scale * own.random_scale / 100),
            left=left,
            top=top,
            brightness=1 + (2 * light - 1) * own.random_brightness / 100,
            degrees=(2 * turn - 1) * own.random_rotation,
        )


def _rotated(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Return the photo turned about its centre; what comes from outside is filled by mirroring the photo's edge."""
    from PIL import Image

    height, width = pixels.shape[:2]
    margin = int(np.ceil((np.hypot(height, width) - min(height, width)) / 2)) + 1
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    turned = Image.fromarray(wide).rotate(degrees, resample=Image.Resampling.BILINEAR)
    return np.asarray(turned)[margin : margin + height, margin : margin + width]
