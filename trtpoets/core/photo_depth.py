"""Decodes photos with more than 8 bits a sample, and scales them to 8 bits.

Pillow opens 16-bit colour with the high bytes only. Of 12-bit values in 16-bit samples, which cameras write, 16 levels
would remain. So the low bytes are also decoded, by passing the other byte order to Pillow's decoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from trtpoets.core.photo_metadata import significant_bits
from trtpoets.core.photo_open import orientation_of, turned
from trtpoets.core.types import FULL_WHITE

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

_LOW_BYTES = {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "RGBX", "RGBa")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B"))
}
"""For each raw mode of Pillow that decodes the high bytes, the one that decodes the low bytes (little-endian hosts)."""

_GREY_ALPHA = "LA;16B"
_BLOCK = 1 << 18
"""Pixels that are converted at once, to limit the memory for conversion."""


@dataclass(frozen=True)
class WidePhoto:
    """A decoded photo with 16-bit samples (32-bit in mode "I").

    `high` has the high bytes, or the whole samples of a grey image; `low` the low bytes. `bits` is the number of
    significant bits that the file declares, 0 if none. `declared` is the value of white that the file declares, 0 if
    none. `top` is the value of black in an inverted image, 0 if it is not inverted; `key` the transparent colour.
    `orientation` is EXIF's; it is applied to the 8-bit photo, which needs less memory.
    """

    high: Image.Image
    low: Image.Image | None
    bits: int = 0
    declared: int = 0
    top: int = 0
    packed: bool = False
    premultiplied: bool = False
    key: tuple[int, ...] | None = None
    orientation: int = 1

    def level(self) -> int:
        """The value that this photo suggests for white: the largest value of its significant bits, else its maximum.

        PNG writers scale samples with fewer significant bits to 16 bits; then white is 65535. 0 if the file declares
        the value of white.
        """
        if self.declared:
            return 0
        peak = 1
        for _, colour, alpha in self._blocks():
            visible = colour if alpha is None else colour * (alpha > 0)
            peak = max(peak, int(visible.max()))
        if not 0 < self.bits < 16:
            return peak
        declared = (1 << self.bits) - 1
        return declared if peak <= declared else FULL_WHITE

    def eight_bits(self, white: int) -> Image.Image:
        """RGB with 8 bits a sample: `white` and larger values become 255, transparent pixels are blended with white."""
        from PIL import Image

        white = self.declared or white
        out = Image.new("RGB", self.high.size)
        for corner, colour, alpha in self._blocks():
            # Rounded down, so that 8-bit values that were shifted to 16 bits give the original values.
            scaled = (colour << 8) // (white + 1) if white >= 255 else (colour * 255 + white // 2) // white
            small = np.minimum(scaled, 255)
            if alpha is not None:
                opaque = white if int(alpha.max()) <= white else FULL_WHITE
                share = np.minimum(alpha / opaque, 1.0)
                small = np.minimum((small if self.premultiplied else small * share) + 255 * (1 - share) + 0.5, 255)
            pixels = np.broadcast_to(small, (*small.shape[:2], 3)).astype(np.uint8)
            out.paste(Image.fromarray(pixels), corner)
        return turned(out, self.orientation)

    def _blocks(self) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray | None]]:
        """Yield for each block: (left, top), colours int64 (h, w, 1 or 3), alpha int64 (h, w, 1) or None."""
        for box in _boxes(*self.high.size):
            values = np.asarray(self.high.crop(box)).astype(np.int64)
            if self.packed:
                values = values[..., 0::2] << 8 | values[..., 1::2]
            elif self.low is not None:
                values = values << 8 | np.asarray(self.low.crop(box))
            else:
                values = np.maximum(values.reshape(*values.shape[:2], -1), 0)
            if self.top:
                values = np.maximum(self.top - values, 0)
            colours = 3 if values.shape[2] >= 3 else 1
            alpha = values[..., colours:] if values.shape[2] > colours else None
            if self.key is not None and alpha is None:
                alpha = np.where((values == self.key).all(axis=2, keepdims=True), 0, FULL_WHITE)
            yield box[:2], values[..., :colours], alpha


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield left, top, right and bottom of blocks that cover an image, each of at most _BLOCK pixels."""
    across = min(width, _BLOCK)
    down = max(1, _BLOCK // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def is_wide(image: ImageFile) -> bool:
    """Whether an opened, not yet decoded image has integer samples that Pillow would change when decoding."""
    raw = _raw_mode(image)
    return image.mode.startswith("I") or raw == _GREY_ALPHA or raw in _LOW_BYTES or _netpbm_maximum(image) > 0


def wide_photo(image: ImageFile, again: ImageFile, content: bytes) -> WidePhoto:
    """Decode an image for which `is_wide` is true. `again` is the same file, opened a second time."""
    bits, raw, maximum = significant_bits(content), _raw_mode(image), _netpbm_maximum(image)
    if maximum:
        return _netpbm_photo(image, maximum, content)
    if raw in _LOW_BYTES:
        premultiplied = raw.startswith("RGBa")
        plain = raw.replace("RGBa", "RGBA")  # Pillow would divide each byte by alpha
        _read_as(image, plain)
        _read_as(again, _LOW_BYTES[plain])
        image.load()
        again.load()
        return WidePhoto(
            image, again, bits, premultiplied=premultiplied, key=_key(image), orientation=orientation_of(image)
        )
    if raw == _GREY_ALPHA:
        _read_as(image, "RGBA")
        image.load()
        return WidePhoto(image, None, bits, packed=True, orientation=orientation_of(image))
    inverted = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0
    declared = 4095 if raw == "I;12" else 0
    tile: Any = image.tile[0] if image.tile else ("", (), 0, ())
    if tile[0] == "ppm_plain" and tile[3][-1] < FULL_WHITE:
        declared = FULL_WHITE  # Pillow scales these samples
    image.load()
    return WidePhoto(
        image,
        None,
        bits,
        declared,
        FULL_WHITE if inverted else 0,
        key=_key(image),
        orientation=orientation_of(image),
    )


def float_photo(image: Image.Image) -> Image.Image:
    """A decoded image of float samples as 8-bit grey: 1.0 is white, NaN is black. Raises ValueError above 1.0."""
    from PIL import Image

    values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=np.inf, neginf=0.0)
    peak = float(values.max())
    if peak > 1.001:
        raise ValueError(f"its float samples reach {peak:.6g}, but 1.0 is white; save it with 16-bit integers")
    return Image.fromarray(np.clip(values * 256, 0, 255).astype(np.uint8))


def _raw_mode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)
    arguments = tile[0][3] if tile else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _netpbm_maximum(image: ImageFile) -> int:
    """The declared maximum of a binary Netpbm image (grey or RGB) whose samples Pillow would scale; 0 for others."""
    tile: Any = image.tile[0] if image.tile else ("", (), 0, ())
    return int(tile[3][-1]) if tile[0] == "ppm" and image.mode in ("L", "I", "RGB") else 0


def _netpbm_photo(image: ImageFile, maximum: int, content: bytes) -> WidePhoto:
    from PIL import Image

    shape = (image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width)
    kind = np.dtype(np.uint8 if maximum < 256 else ">u2")
    samples = np.frombuffer(content, kind, int(np.prod(shape)), image.tile[0][2]).reshape(shape)
    declared = maximum if maximum < FULL_WHITE else 0
    if image.mode != "RGB":
        return WidePhoto(Image.fromarray(samples.astype(np.uint16)), None, declared=declared)
    high, low = ((samples.astype(np.uint16) >> shift & 0xFF).astype(np.uint8) for shift in (8, 0))
    return WidePhoto(Image.fromarray(high), Image.fromarray(low), declared=declared)


def _read_as(image: ImageFile, raw: str) -> None:
    """Set the raw mode in which the decoder unpacks samples."""
    before: Any = image.tile
    tiles: Any = []
    for tile in before:
        arguments = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
        # Newer versions of Pillow use named tuples.
        tiles.append(tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments))
    image.tile = tiles


def _key(image: Image.Image) -> tuple[int, ...] | None:
    transparency = image.info.get("transparency")
    if isinstance(transparency, int):
        return (transparency,)
    return tuple(transparency) if isinstance(transparency, tuple) else None
