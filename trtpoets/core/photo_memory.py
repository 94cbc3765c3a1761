"""Estimates the memory needed to decode a photo, and shares one memory budget between threads."""

from __future__ import annotations

import re
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

from trtpoets.core.errors import BadPhoto
from trtpoets.core.photo_metadata import jpeg_has_many_scans, webp_pixels

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

LARGEST_DECODING = 1_250_000_000
"""Most bytes for decoding one photo: enough for 78 megapixels of 16-bit RGB, or 100 of 8-bit RGB."""

_ON_OPENING = 24
"""Bytes per pixel for WebP: the decoder's two canvases, its result, Pillow's image, and RGB. Icons need fewer."""

_MANY_SCANS = 8
"""Bytes per stored pixel of a progressive JPEG: coefficients of 2 bytes for up to 4 components."""

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes per pixel of Pillow's image by mode; 4 in all other modes."""

_FORMATS = {
    **dict.fromkeys(("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TGA", "ICO", "WEBP"), 0),
    "TIFF": 8,  # a strip or tile, which may contain the whole photo
    "JPEG2000": 32,  # 4 bytes per sample, and the tile
    "ICNS": 32,
}
"""Bytes per pixel that decoders need in addition to the image, by format; `_OTHER_FORMATS` for all others."""

_OTHER_FORMATS = 12

_SIZE_OF_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)
_SIZE_OF_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)


class MemoryBudget:
    """A number of bytes that threads share. A thread that needs more than is free waits, first come, first served."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.most = 0
        """The largest number of bytes that were reserved at the same time."""
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Reserve `count` bytes inside the block. A request larger than the budget waits until nothing is reserved.

        Do not nest it within a thread: the second request could wait for the first for ever.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._fits(count))
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            self._held += count
            self.most = max(self.most, self._held)
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify_all()

    def _fits(self, count: int) -> bool:
        return not self._held or self._held + count <= self.total


FILES = MemoryBudget(1 << 30)
"""Budget for the bytes of photo files that are being decoded. Reserve it before `DECODING`, never after it."""

DECODING = MemoryBudget(1_500_000_000)
"""Budget for the memory of decoders."""


def pixels_before_opening(content: bytes) -> int:
    """Most pixels that opening a file decodes, or that its parts have whatever its header says; 0 for most files."""
    if content[:4] in (b"\0\0\1\0", b"icns"):
        return max(_sizes(_SIZE_OF_PNG, content) + _sizes(_SIZE_OF_CODESTREAM, content), default=0)
    if content[4:8] == b"jP  " or content[:4] == b"\xff\x4f\xff\x51":
        return max(_sizes(_SIZE_OF_CODESTREAM, content), default=0)
    return webp_pixels(content)


def bytes_before_opening(content: bytes) -> int:
    """Estimated most bytes for decoding a file whose decoder runs on opening (WebP, icons); 0 for all other files."""
    return pixels_before_opening(content) * _ON_OPENING if content[:4] in (b"RIFF", b"\0\0\1\0") else 0


def bytes_to_decode(image: ImageFile, content: bytes, wide: bool, stored: int) -> int:
    """Estimated most bytes for decoding an opened image and converting it to upright 8-bit RGB.

    `wide` is whether its 16-bit samples are decoded unchanged. `stored` is the number of pixels in the file; a JPEG
    opened at a smaller scale has fewer.
    """
    pixel_bytes = _STORED.get(image.mode, 4)
    bytes_per_pixel = _FORMATS.get(image.format or "", _OTHER_FORMATS)
    if image.format == "PPM":
        bytes_per_pixel = 0 if image.tile and image.tile[0][0] == "raw" else 24
    if wide:
        bytes_per_pixel += 2 * pixel_bytes + 8
    elif image.mode == "F":
        bytes_per_pixel += 24
    else:
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        bytes_per_pixel += 2 * pixel_bytes + (0 if image.mode in ("RGB", "RGBA") else 4) + (5 if transparent else 0)
    total = bytes_per_pixel * max(image.width * image.height, pixels_before_opening(content))
    if image.format in ("JPEG", "MPO") and jpeg_has_many_scans(content):
        total += _MANY_SCANS * stored
    return total


def require_decodable(needed: int, source: str) -> None:
    """Raise BadPhoto if decoding needs more than LARGEST_DECODING bytes."""
    if needed > LARGEST_DECODING:
        raise BadPhoto(
            f"needs {needed / 1e6:,.0f} MB of memory to be decoded, more than {LARGEST_DECODING / 1e6:,.0f} MB",
            hint="save it with fewer pixels or with 8 bits a sample",
            code="TP1059",
            subject=source,
        )


def _sizes(pattern: re.Pattern[bytes], content: bytes) -> list[int]:
    sides = pattern.findall(content)
    return [int.from_bytes(width, "big") * int.from_bytes(height, "big") for width, height in sides]
