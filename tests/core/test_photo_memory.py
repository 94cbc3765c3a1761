"""The memory for decoding is estimated before it is allocated, and shared by all threads."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.errors import raises
from tests.support.photos import make_photo
from trtpoets.core import images, photo_memory
from trtpoets.core.errors import BadPhoto
from trtpoets.core.images import bytes_to_array, check_photo, photo_batches
from trtpoets.core.photo_memory import MemoryBudget, bytes_to_decode, pixels_before_opening
from trtpoets.core.photo_open import open_photo
from trtpoets.core.types import Preprocess

SMALL = Preprocess(16, 16, (1.0,) * 3, (0.0,) * 3)


def png(width: int, height: int, depth: int, colour: int, rows: bytes = b"") -> bytes:
    """A PNG of zeros with any size in its header."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_a_16_bit_png_of_100_megapixels_is_refused_by_its_bytes() -> None:
    content = png(10_000, 10_000, 16, 2)
    for use in (lambda: check_photo(content, "it"), lambda: bytes_to_array(content, SMALL, "it")):
        with raises(BadPhoto, "TP1059", "1,600 MB", "1,250 MB") as caught:
            use()
        assert caught.value.hint


_OTHER_KINDS = ("rgba16", "grey16", "rgba", "palette", "tiff", "webp", "progressive")


@pytest.mark.parametrize("kind", ["rgb16", *(pytest.param(kind, marks=pytest.mark.slow) for kind in _OTHER_KINDS)])
def test_the_estimate_matches_the_memory_used(kind: str) -> None:
    """In a child process, whose memory is measured: 12 megapixels of each kind."""
    code = """
import io, resource, sys
import numpy as np
from PIL import Image
from tests.core.test_photo_memory import SMALL, encoded, png
from trtpoets.core import photo_memory
from trtpoets.core.images import bytes_to_array, check_photo
import zlib
side, kind = 3464, sys.argv[1]
image = Image.new("RGB", (side, side))
content = {
    "rgb16": lambda: png(side, side, 16, 2, zlib.compress(bytes((6 * side + 1) * side))),
    "rgba16": lambda: png(side, side, 16, 6, zlib.compress(bytes((8 * side + 1) * side))),
    "grey16": lambda: png(side, side, 16, 0, zlib.compress(bytes((2 * side + 1) * side))),
    "rgba": lambda: encoded(image.convert("RGBA"), "PNG"),
    "palette": lambda: encoded(image.convert("P"), "PNG", transparency=0),
    "tiff": lambda: encoded(image, "TIFF", compression="tiff_deflate"),
    "webp": lambda: encoded(image, "WEBP", lossless=True),
    "progressive": lambda: encoded(image, "JPEG", progressive=True, quality=90),
}[kind]()
tiny = png(8, 8, 16, 2, zlib.compress(bytes(49 * 8)))
bytes_to_array(tiny, SMALL, "it")
del image
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = peak()
check_photo(content, "it")
bytes_to_array(content, SMALL, "it")
print(peak() - before, photo_memory.DECODING.most)
"""
    done = subprocess.run([sys.executable, "-c", code, kind], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken, claimed = map(int, done.stdout.split())
    assert taken < claimed + (70 << 20), (taken, claimed)  # and what one block of pixels takes


def test_threads_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = bytes_to_decode(open_photo(encoded(make_photo(0, 0), "PNG"), "it"), b"", False, 0)
    room, files = MemoryBudget(2 * one), MemoryBudget(1 << 20)
    monkeypatch.setattr(images, "DECODING", room)
    monkeypatch.setattr(images, "FILES", files)
    paths = [tmp_path / f"{number}.png" for number in range(24)]
    for number, path in enumerate(paths):
        make_photo(number % 3, number).save(path)
    batches = list(photo_batches(paths, SMALL, 8, workers=8))
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert one <= room.most <= 2 * one
    assert 0 < files.most <= 1 << 20
    with room.reserve(1 << 60):  # nothing is held, whatever was raised
        pass


def test_a_budget_is_fair_and_admits_a_large_request_alone() -> None:
    room, entered, order = MemoryBudget(10), threading.Event(), []

    def take(name: str, count: int) -> None:
        with room.reserve(count):
            order.append(name)

    with room.reserve(6):
        large = threading.Thread(target=take, args=("large", 100))
        large.start()
        while len(room._waiting) < 1:
            entered.wait(0.001)
        small = threading.Thread(target=take, args=("small", 1))
        small.start()
        while len(room._waiting) < 2:
            entered.wait(0.001)
        assert order == []
    large.join()
    small.join()
    assert order == ["large", "small"]
    with pytest.raises(ZeroDivisionError), room.reserve(10):
        raise ZeroDivisionError
    with room.reserve(10):
        pass


def test_sizes_that_hide_behind_a_smaller_header() -> None:
    icon = bytearray(encoded(Image.new("RGBA", (16, 16)), "ICO", sizes=[(16, 16)]))
    at = icon.index(b"IHDR")
    icon[at + 4 : at + 12] = struct.pack(">II", 20_000, 20_000)
    assert pixels_before_opening(bytes(icon)) == 400_000_000
    with raises(BadPhoto, "TP1059", "9,600 MB", "1,250 MB"):
        check_photo(bytes(icon), "it")
    codestream = b"\xff\x4f\xff\x51" + bytes(4) + struct.pack(">II", 30_000, 30_000)
    assert pixels_before_opening(b"\0\0\0\x0cjP  " + bytes(50) + codestream) == 900_000_000


def test_a_row_of_many_pixels_is_converted_in_blocks() -> None:
    width = 600_000
    content = png(width, 1, 16, 2, zlib.compress(b"\0" + bytes(range(6)) * width))
    assert check_photo(content, "it").levels == 0x0405
    expected = bytes_to_array(png(60, 1, 16, 2, zlib.compress(b"\0" + bytes(range(6)) * 60)), SMALL, "it")
    np.testing.assert_array_equal(bytes_to_array(content, SMALL, "it"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_wide_photos_are_turned_as_others_are(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    eight = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    grey = encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG", exif=exif)
    expected = bytes_to_array(eight, SMALL, "it")[..., 0]
    assert np.abs(bytes_to_array(grey, SMALL, "it")[..., 0].astype(int) - expected).max() <= 1


def test_the_budget_is_of_bytes_not_pixels() -> None:
    assert photo_memory.DECODING.total >= photo_memory.LARGEST_DECODING
