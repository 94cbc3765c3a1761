"""Metadata of PNG, JPEG and WebP files: read and removed without changes of pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.photos import make_photo
from trtpoets.core.photo_metadata import jpeg_has_many_scans, lighter_copies, significant_bits, webp_pixels


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or make_photo(0, 0, (20, 12))).save(stream, kind, **options)
    return stream.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    exif[0x010E] = "a description " * 20
    return exif


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_copies_have_the_same_pixels_and_less_metadata(kind: str) -> None:
    content = encoded(kind, exif=orientation(6), icc_profile=b"profile" * 50)
    first, second = lighter_copies(content)
    assert len(second) < len(first) < len(content)
    for copy in (first, second):
        np.testing.assert_array_equal(np.asarray(opened(copy)), np.asarray(opened(content)))
        assert "icc_profile" not in opened(copy).info
    assert opened(first).getexif()[0x0112] == 6
    assert 0x0112 not in opened(second).getexif()


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(20), b"\x00" * 40, b"RIFF\x10\0\0\0AVI LIST"])
def test_other_formats_have_no_copies(content: bytes) -> None:
    assert list(lighter_copies(content)) == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_files_are_copied_without_their_end(kind: str) -> None:
    content = encoded(kind)
    for copy in lighter_copies(content[: len(content) // 2]):
        assert len(copy) <= len(content)


@pytest.mark.parametrize(
    ("mode", "bits", "expected"),
    [("RGB", b"\x05\x06\x05", 6), ("L", b"\x03", 3), ("LA", b"\x04\x08", 4), ("RGB", b"", 0)],
)
def test_significant_bits_are_those_of_colour_samples(mode: str, bits: bytes, expected: int) -> None:
    content = encoded("PNG", make_photo(0, 0, (4, 4)).convert(mode))
    chunk = struct.pack(">I", len(bits)) + b"sBIT" + bits + struct.pack(">I", zlib.crc32(b"sBIT" + bits))
    assert significant_bits(content[:33] + (chunk if bits else b"") + content[33:]) == expected
    assert significant_bits(encoded("JPEG")) == 0


def test_progressive_jpegs_have_many_scans() -> None:
    assert jpeg_has_many_scans(encoded("JPEG", progressive=True))
    assert not jpeg_has_many_scans(encoded("JPEG"))
    assert not jpeg_has_many_scans(encoded("JPEG", make_photo(0, 0).convert("L")))
    baseline = bytearray(encoded("JPEG"))
    baseline[baseline.index(b"\xff\xda") + 4] = 1  # the first scan has one of three components
    assert jpeg_has_many_scans(bytes(baseline))


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": orientation(3)}], ids=["lossy", "lossless", "extended"]
)
def test_pixels_of_a_webp_are_those_of_its_header(options: dict[str, Any]) -> None:
    content = encoded("WEBP", **options)
    assert webp_pixels(content) == 20 * 12
    assert webp_pixels(content[:25]) == webp_pixels(encoded("PNG")) == 0
