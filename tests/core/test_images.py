"""Photo files of every kind become RGB uint8 arrays, or an error with the reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.errors import raises
from tests.support.photos import make_photo
from trtpoets.core import images, photo_open
from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import (
    bytes_to_array,
    check_photo,
    photo_batches,
    photo_to_array,
    pixels_to_array,
    read_photo,
)
from trtpoets.core.types import Preprocess, Resize

SMALL = Preprocess(24, 32, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
RED, GREEN = (220, 30, 20), (20, 200, 40)


def two_colours(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red on the left, green on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (size[0] // 2, 0, *size))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def assert_two_colours(array: np.ndarray, tolerance: int = 12) -> None:
    assert array.dtype == np.uint8 and array.shape == (24, 32, 3)
    assert np.abs(array[12, 4].astype(int) - RED).max() <= tolerance
    assert np.abs(array[12, 27].astype(int) - GREEN).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.txt", "photo"])
def test_the_content_decides_not_the_name(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(two_colours(), kind))
    assert_two_colours(photo_to_array(path, SMALL), 16)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("CMYK", "JPEG"), ("RGB", "JPEG"), ("P", "BMP")],
)
def test_every_mode_keeps_its_colours(mode: str, kind: str) -> None:
    assert_two_colours(bytes_to_array(encoded(two_colours(mode), kind), SMALL, "it"), 25)


@pytest.mark.parametrize(("mode", "level"), [("1", 255), ("L", 200), ("LA", 200), ("I;16", 200)])
def test_grey_photos_become_three_equal_channels(mode: str, level: int) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 30), 200 * 256 + 77, dtype=np.uint16))
    else:
        image = Image.new("L", (30, 20), level).convert(mode)
    array = bytes_to_array(encoded(image, "PNG"), SMALL, "it")
    assert np.array_equal(array, np.full((24, 32, 3), level, np.uint8))


def test_sixteen_bits_a_channel_in_colour() -> None:
    rows = b"".join(b"\0" + struct.pack(">3H", 0xDC00, 0x1E00, 0x1400) * 8 for _ in range(8))
    array = bytes_to_array(png(8, 8, rows, depth=16), SMALL, "it")
    assert np.array_equal(array, np.full((24, 32, 3), RED, np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(mode: str) -> None:
    array = bytes_to_array(encoded(Image.new(mode, (30, 20), 0), "PNG"), SMALL, "it")
    assert array.min() == 255


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = two_colours().quantize(2)
    transparent = image.getpixel((0, 0))
    array = bytes_to_array(encoded(image, "PNG", transparency=transparent), SMALL, "it")
    assert array[12, 4].min() == 255
    assert np.abs(array[12, 27].astype(int) - GREEN).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photos_stand_upright(orientation: int, kind: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = two_colours()
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_two_colours(bytes_to_array(encoded(stored, kind, exif=exif), SMALL, "it"))


def test_a_damaged_exif_block_is_passed_over() -> None:
    content = encoded(two_colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    with warnings.catch_warnings(record=True) as seen:
        photo_open._openers.cache_clear()
        assert_two_colours(bytes_to_array(content, SMALL, "it"))
    photo_open._openers.cache_clear()
    assert not seen


def test_mpo_files_of_phones() -> None:
    content = encoded(two_colours(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    assert_two_colours(bytes_to_array(content, SMALL, "it"))


def test_the_first_frame_of_an_animation() -> None:
    frames = [two_colours().quantize(4), Image.new("RGB", (64, 48), (0, 0, 255)).quantize(4)]
    assert_two_colours(bytes_to_array(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), SMALL, "it"))


def test_a_large_jpeg_decoded_small_looks_the_same() -> None:
    smooth = make_photo(1, 0, (40, 30)).resize((1600, 1200), Image.Resampling.BICUBIC)
    jpeg, png_bytes = encoded(smooth, "JPEG", quality=95), encoded(smooth, "PNG")
    difference = bytes_to_array(jpeg, SMALL, "it").astype(int) - bytes_to_array(png_bytes, SMALL, "it")
    assert np.abs(difference).mean() < 1.5


def test_draft_never_gives_fewer_pixels_than_the_network_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import JpegImagePlugin

    sizes = []
    load = JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", lambda image: (sizes.append(image.size), load(image))[1])
    content = encoded(Image.new("RGB", (1600, 1200)), "JPEG")
    bytes_to_array(content, SMALL, "it")
    cropped = Preprocess(24, 32, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), Resize.CROP, 0.25)
    bytes_to_array(content, cropped, "it")
    assert list(dict.fromkeys(sizes)) == [(200, 150), (400, 300)]


def test_crop_keeps_the_middle_and_stretch_keeps_all() -> None:
    image = Image.new("RGB", (90, 30), RED)
    image.paste(GREEN, (30, 0, 60, 30))
    square = Preprocess(30, 30, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), Resize.CROP)
    content = encoded(image, "PNG")
    assert np.array_equal(bytes_to_array(content, square, "it"), np.full((30, 30, 3), GREEN, np.uint8))
    stretched = Preprocess(30, 30, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert bytes_to_array(content, stretched, "it")[15, [2, 15, 27]].tolist() == [list(RED), list(GREEN), list(RED)]


def test_the_array_is_new() -> None:
    array = bytes_to_array(encoded(two_colours(), "PNG"), SMALL, "it")
    assert array.flags.owndata and array.flags.writeable and array.flags.c_contiguous


@pytest.mark.parametrize(
    ("kind", "code"),
    [("JPEG", "TP1020"), ("PNG", "TP1020"), ("WEBP", "TP1065"), ("BMP", "TP1020"), ("GIF", "TP1020")],
)
def test_a_truncated_photo_is_refused(kind: str, code: str) -> None:
    content = encoded(make_photo(0, 0, (200, 150)), kind)
    half = content[: len(content) // 2]
    for look in (lambda: check_photo(half, "half.jpg"), lambda: bytes_to_array(half, SMALL, "half.jpg")):
        with raises(BadPhoto, code, "half.jpg") as caught:
            look()
        assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "code", "value"),
    [
        (b"", "TP1060", "x "),
        (b"hello", "TP1064", "text"),
        (b"%PDF-1.4", "TP1064", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "TP1065", "EPS"),
    ],
)
def test_other_files_are_refused(content: bytes, code: str, value: str) -> None:
    with raises(BadPhoto, code, value):
        check_photo(content, "x")
    with raises(BadPhoto, code, value):
        bytes_to_array(content, SMALL, "x")


def png(width: int, height: int, rows: bytes, depth: int = 8) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("side", "megapixels"), [(10_001, "100 megapixels"), (60_000, "3600 megapixels")])
def test_a_bomb_is_refused_before_it_is_decoded(side: int, megapixels: str) -> None:
    with raises(BadPhoto, "TP1061", "bomb.png", megapixels, "at most 100") as caught:
        check_photo(png(side, side, b"\0" * 100), "bomb.png")
    assert caught.value.hint


def test_a_large_photo_below_the_limit_gives_no_warning_of_pillows() -> None:
    photo_open._openers.cache_clear()
    with warnings.catch_warnings(record=True) as seen, raises(BadPhoto, "TP1020"):
        check_photo(png(9_900, 9_900, b"\0" * 100), "large.png")
    assert not seen
    photo_open._openers.cache_clear()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with raises(BadPhoto, "TP1016", "no.jpg", "No such file"):
        read_photo(tmp_path / "no.jpg")


def test_a_file_too_large_to_be_a_photo(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with path.open("wb") as stream:
        stream.truncate(images.MAX_BYTES + 1)
    with raises(BadPhoto, "TP1015", "film.mp4 has 1024 MiB"):
        read_photo(path)


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_an_array_or_bad_photo(content: bytes) -> None:
    try:
        assert bytes_to_array(content, SMALL, "it").shape == (24, 32, 3)
    except BadPhoto as error:
        assert str(error).startswith("it ")


@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF"]), place=st.floats(0, 1), value=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_photo_gives_an_array_or_bad_photo(kind: str, place: float, value: int) -> None:
    content = bytearray(encoded(make_photo(0, 0), kind))
    content[min(int(place * len(content)), len(content) - 1)] = value
    try:
        check_photo(bytes(content), "it")
        assert bytes_to_array(bytes(content), SMALL, "it").shape == (24, 32, 3)
    except BadPhoto as error:
        assert str(error).startswith("it ")


def photos_on_disk(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
        paths.append(path)
    return paths


@pytest.mark.parametrize(("count", "batch"), [(0, 4), (1, 4), (4, 4), (11, 4), (5, 100)])
def test_batches_come_in_order_and_whole(tmp_path: Path, count: int, batch: int) -> None:
    batches = list(photo_batches(photos_on_disk(tmp_path, count), SMALL, batch, workers=3))
    assert [len(item) for item in batches] == [batch] * (count // batch) + [count % batch] * bool(count % batch)
    assert [photo[0, 0, 0] for item in batches for photo in item] == list(range(count))


def test_batches_are_decoded_into_memory_that_is_given(tmp_path: Path) -> None:
    """The buffer is requested with the first photo of a batch, at most one batch ahead of the current one."""
    paths, given = photos_on_disk(tmp_path, 11), []

    def buffer(count: int) -> np.ndarray:
        given.append(np.full((count, 24, 32, 3), 255, np.uint8))
        return given[-1]

    batches = photo_batches(paths, SMALL, 4, workers=2, buffer=buffer)
    for number, expected in enumerate((4, 4, 3)):
        batch = next(batches)
        assert batch is given[number] and len(batch) == expected and len(given) <= number + 2
        np.testing.assert_array_equal(batch, next(photo_batches(paths[4 * number : 4 * number + 4], SMALL, 4)))
    assert not list(batches)


@pytest.mark.parametrize("kind", ["file", "pixels"])
def test_a_photo_is_written_where_it_is_wanted(tmp_path: Path, kind: str) -> None:
    (path,) = photos_on_disk(tmp_path, 1)
    rows = np.full((2, 24, 32, 3), 255, np.uint8)
    if kind == "file":
        expected, written = photo_to_array(path, SMALL), photo_to_array(path, SMALL, rows[1])
    else:
        pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
        expected, written = pixels_to_array(pixels, SMALL), pixels_to_array(pixels, SMALL, rows[1])
    assert np.shares_memory(written, rows) and (rows[0] == 255).all()
    with raises(BadInput, "TP1018", "(24, 32, 3)", "uint8", "(24, 31, 3)"):
        photo_to_array(path, SMALL, np.zeros((24, 31, 3), np.uint8))
    np.testing.assert_array_equal(rows[1], expected)


def test_batches_stop_at_the_first_bad_photo(tmp_path: Path) -> None:
    paths = photos_on_disk(tmp_path, 6)
    paths[3].write_bytes(b"no photo")
    batches = photo_batches(paths, SMALL, 2)
    assert len(next(batches)) == 2
    with raises(BadPhoto, "TP1064", "3.png"):
        next(batches)


def test_a_batch_size_of_zero_is_refused(tmp_path: Path) -> None:
    with raises(BadInput, "TP1019", "0"):
        next(photo_batches(photos_on_disk(tmp_path, 1), SMALL, 0))


@pytest.mark.parametrize("resize", Resize)
def test_pixels_are_treated_as_a_photo_is(resize: Resize) -> None:
    preprocess = Preprocess(24, 32, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), resize, 0.875)
    image = two_colours(size=(101, 67))
    from_file = bytes_to_array(encoded(image, "PNG"), preprocess, "a.png")
    np.testing.assert_array_equal(pixels_to_array(np.asarray(image), preprocess), from_file)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_pixels_that_are_no_photo(pixels: np.ndarray) -> None:
    with raises(BadPhoto, "TP1017"):
        pixels_to_array(pixels, SMALL)
