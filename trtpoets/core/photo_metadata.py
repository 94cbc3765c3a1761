"""Reads and removes the metadata of PNG, JPEG and WebP files, so that damaged metadata does not prevent decoding.

Pillow refuses a file whose metadata is damaged or very long. `lighter_copies` removes metadata, so that the pixels can
be decoded without it. Pixel data is copied unchanged, including any damage.
"""

from __future__ import annotations

import struct
import zlib
from typing import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")

_ORIENTATION_BYTES = 1 << 16
"""Largest metadata block that is kept for its orientation, in bytes."""


def lighter_copies(content: bytes) -> Iterator[bytes]:
    """Yield copies of a PNG, JPEG or WebP file: one with the orientation as its only metadata, then one without any.

    Yields nothing for other formats and for files whose parts can't be parsed.
    """
    if content.startswith(_PNG):
        strip = _lighter_png
    elif content.startswith(b"\xff\xd8\xff"):
        strip = _lighter_jpeg
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        strip = _lighter_webp
    else:
        return
    for keep_orientation in (True, False):
        copy = strip(content, keep_orientation)
        if copy:
            yield copy


def significant_bits(content: bytes) -> int:
    """The number of significant bits of a PNG's colour samples, from its sBIT chunk; 0 without one."""
    if not content.startswith(_PNG):
        return 0
    colour_type = content[25:26]
    for name, start, length in _png_chunks(content):
        if name == b"IDAT":
            break
        if name == b"sBIT":
            bits = content[start : start + length]
            return max(bits[: 1 if colour_type in (b"\0", b"\4") else 3], default=0)
    return 0


def jpeg_has_many_scans(content: bytes) -> bool:
    """Whether a JPEG is progressive or has one scan per component: its decoder keeps all coefficients in memory."""
    components = 0
    for marker, start, end in _jpeg_segments(content):
        if marker in (0xC2, 0xC6, 0xCA, 0xCE):
            return True
        if marker in (0xC0, 0xC1) and end > start + 9:
            components = content[start + 9]
        elif marker == 0xDA and end > start + 4:
            return content[start + 4] < components
    return False


def webp_pixels(content: bytes) -> int:
    """The number of pixels in a WebP file's header, or 0. The decoder allocates their memory on opening."""
    kind, head = content[12:16], content[20:30]
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(head) < 10:
        return 0
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start of the body and its length for each complete chunk."""
    at = len(_PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + length > len(content):
            return
        yield content[at + 4 : at + 8], at + 8, length
        at += 12 + length


def _lighter_png(content: bytes, keep_orientation: bool) -> bytes:
    view, end = memoryview(content), len(_PNG)
    parts = [view[:end]]
    for name, start, length in _png_chunks(content):
        end = start + length + 4
        chunk = view[start - 8 : end]
        if name in _PIXEL_CHUNKS or (keep_orientation and length <= _ORIENTATION_BYTES and _png_orients(name, chunk)):
            parts.append(chunk)
    if end < len(content) and bytes(parts[-1][4:8]) != b"IEND":
        parts.append(view[end:])  # an incomplete chunk: the decoder checks whether the pixels are complete
    return b"".join(parts)


def _png_orients(name: bytes, chunk: memoryview) -> bool:
    """Whether a complete chunk may contain the orientation: EXIF, or XMP or EXIF as text."""
    body = chunk[8:-4]
    if name != b"eXIf" and not (
        name in (b"iTXt", b"tEXt", b"zTXt") and bytes(body[:17]) in (b"XML:com.adobe.xmp", b"Raw profile type ")
    ):
        return False
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start (of the marker) and end of each segment up to the first scan; its data is not included."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if end > len(content):
            return
        yield marker, at, end
        if marker == 0xDA:
            return
        at = end


def _lighter_jpeg(content: bytes, keep_orientation: bool) -> bytes:
    view, end = memoryview(content), 2
    parts = [view[:end]]
    for marker, start, end in _jpeg_segments(content):
        # APP0 (JFIF) and APP14 (Adobe) define how colours are stored.
        metadata = (0xE1 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE
        orients = marker == 0xE1 and content[start + 4 : start + 8] == b"Exif"
        if not metadata or (keep_orientation and orients):
            parts.append(view[start:end])
    parts.append(view[end:])
    return b"".join(parts)


def _lighter_webp(content: bytes, keep_orientation: bool) -> bytes:
    view, at = memoryview(content), 12
    kept: list[bytes | memoryview] = []
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if name == b"VP8X" and length == 10:
            # Flags: animation and alpha are kept, EXIF with the orientation; ICC and XMP are cleared.
            flags = content[at + 8] & (0b0001_1010 if keep_orientation else 0b0001_0010)
            kept.append(content[at : at + 8] + bytes([flags]) + content[at + 9 : end])
        elif name in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF") or (keep_orientation and name == b"EXIF"):
            kept.append(view[at:end])
        at = end
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
