"""How much memory decoding a photo takes, told before it is taken; and one budget of it for all threads."""

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
"""Bytes that decoding one photo may take: 78 megapixels of 16-bit RGB, more than 100 of 8-bit RGB."""

_ON_OPENING = 24
"""Bytes a pixel of WebP: the decoder's two canvases, its answer, Pillow's image, and RGB. Icons take fewer."""

_MANY_SCANS = 8
"""Bytes a stored pixel of a progressive JPEG: its coefficients, 2 bytes each of up to 4 components."""

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes a pixel of Pillow's images; 4 in all other modes."""

_FORMATS = {
    **dict.fromkeys(("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TGA", "ICO", "WEBP"), 0),
    "TIFF": 8,  # a strip or tile, which may be the whole photo
    "JPEG2000": 32,  # 4 bytes a sample, and the tile
    "ICNS": 32,
}
"""Bytes a pixel that decoders take beside the image; others take `_OTHER_FORMATS`: some are written in Python."""

_OTHER_FORMATS = 12

_SIZE_OF_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)
_SIZE_OF_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)


class Room:
    """A number of bytes that threads share. Who wants more than is left waits, in the order of coming."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.most = 0
        """The most that was held at once."""
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Hold `count` bytes while inside. What is larger than the whole room is let in alone.

        To be entered once a thread: a second claim of the same thread could wait for the first without end.
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


FILES = Room(1 << 30)
"""For the bytes of photo files that are being decoded. Claimed before `DECODING`, never after it."""

DECODING = Room(1_500_000_000)
"""For what decoding takes."""


def pixels_before_opening(content: bytes) -> int:
    """The most pixels that opening a file may decode, or that hide behind a smaller size in its header; 0 for most."""
    if content[:4] in (b"\0\0\1\0", b"icns"):
        return max(_sizes(_SIZE_OF_PNG, content) + _sizes(_SIZE_OF_CODESTREAM, content), default=0)
    if content[4:8] == b"jP  " or content[:4] == b"\xff\x4f\xff\x51":
        return max(_sizes(_SIZE_OF_CODESTREAM, content), default=0)
    return webp_pixels(content)


def bytes_before_opening(content: bytes) -> int:
    """About how many bytes decoding takes at most of a file that opening decodes already; 0 for all other files."""
    return pixels_before_opening(content) * _ON_OPENING if content[:4] in (b"RIFF", b"\0\0\1\0") else 0


def bytes_to_decode(image: ImageFile, content: bytes, wide: bool, stored: int) -> int:
    """About how many bytes decoding an opened image takes at most, until it is 8-bit RGB and upright.

    `wide` is whether its samples are read as they are stored. `stored` is how many pixels the file has: an image of
    JPEG has the size of the scale that it is decoded at.
    """
    each = _STORED.get(image.mode, 4)
    beside = _FORMATS.get(image.format or "", _OTHER_FORMATS)
    if image.format == "PPM":
        beside = 0 if image.tile and image.tile[0][0] == "raw" else 24
    if wide:
        beside += 2 * each + 8
    elif image.mode == "F":
        beside += 24
    else:
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        beside += 2 * each + (0 if image.mode in ("RGB", "RGBA") else 4) + (5 if transparent else 0)
    total = beside * max(image.width * image.height, pixels_before_opening(content))
    if image.format in ("JPEG", "MPO") and jpeg_has_many_scans(content):
        total += _MANY_SCANS * stored
    return total


def require_decodable(needed: int, source: str) -> None:
    """Raise BadPhoto where decoding takes more than LARGEST_DECODING bytes."""
    if needed > LARGEST_DECODING:
        raise BadPhoto(
            f"{source} would take {needed / 1e6:,.0f} MB of memory to decode",
            hint=f"at most {LARGEST_DECODING / 1e6:,.0f} MB: save it smaller, or with 8 bits a sample",
            code="TP1059",
        )


def _sizes(pattern: re.Pattern[bytes], content: bytes) -> list[int]:
    found = pattern.findall(content)
    return [int.from_bytes(width, "big") * int.from_bytes(height, "big") for width, height in found]
