"""Every format that Pillow decodes is accepted as a photo; other files are refused with a reason."""

from __future__ import annotations

import io
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin, features

from tests.core.test_images import SMALL, assert_two_colours, encoded, png, two_colours
from tests.support.errors import raises
from tests.support.photos import make_photo
from trtpoets.core import photo_metadata, photo_open
from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import bytes_to_array, check_photo
from trtpoets.train.dataset import dataset_from_folder

SOI, NOISE = b"\xff\xd8", np.random.default_rng(0).integers(32, 126, 1_500_000, dtype=np.uint8).tobytes()
COMPRESSED_NOISE = zlib.compress(NOISE)

FORMATS = [
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg", "quality": 95}),
    ("TIFF", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
    ("JPEG2000", {}),
    *[(kind, {}) for kind in ("PPM", "TGA", "PCX", "SGI", "DDS", "DIB", "QOI")],
]
MODES = [
    *[("TIFF", mode) for mode in ("P", "CMYK", "YCbCr", "RGBA", "LAB")],
    *[(kind, "RGBA") for kind in ("TGA", "JPEG2000", "SGI", "DDS", "ICNS")],
    ("TGA", "P"),
    ("JPEG2000", "CMYK"),
]


@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_formats_that_pillow_decodes_are_photos(kind: str, options: dict[str, object]) -> None:
    if kind not in Image.SAVE and not Image.init() and kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    content = encoded(two_colours(), kind, **options)
    facts = check_photo(content, "it")
    assert (facts.height, facts.width, facts.levels) == (48, 64, 0)
    assert_two_colours(bytes_to_array(content, SMALL, "it"))


@pytest.mark.parametrize(("kind", "mode"), MODES)
def test_every_mode_of_these_formats_keeps_its_colours(kind: str, mode: str) -> None:
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(two_colours(), *profiles, outputMode="LAB")
        assert image is not None
    else:
        image = two_colours(mode)
    assert_two_colours(bytes_to_array(encoded(image, kind), SMALL, "it"), 25)


@pytest.mark.parametrize("compression", [None, "group4", "tiff_lzw"])
def test_black_and_white(compression: str | None) -> None:
    image = Image.new("1", (64, 48), 0)
    image.paste(1, (32, 0, 64, 48))
    array = bytes_to_array(encoded(image, "TIFF", compression=compression), SMALL, "it")
    assert array[:, :14].max() == 0
    assert array[:, 18:].min() == 255


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif() -> None:
    assert_two_colours(bytes_to_array(encoded(two_colours(), "AVIF", quality=95), SMALL, "it"), 16)


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(two_colours()).save(stream, quality=95)
    return stream.getvalue()


def test_heic() -> None:
    assert_two_colours(bytes_to_array(heic(), SMALL, "it"), 16)


def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.init()
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    photo_open._openers.cache_clear()
    try:
        with raises(BadPhoto, "TP1068", "a.jpg") as caught:
            check_photo(content, "a.jpg")
    finally:
        photo_open._openers.cache_clear()
    assert caught.value.hint == "pip install 'trtpoets[heif]'"


def tiff(*tags: tuple[int, int, int]) -> bytes:
    """A TIFF of one grey pixel, with these tags (number, kind, value) besides."""
    usual = [(256, 3, 1), (257, 3, 1), (258, 3, 8), (262, 3, 1), (273, 3, 8), (279, 3, 1)]
    rows = sorted([*usual, *tags])
    entries = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in rows)
    return b"II*\0\x0a\0\0\0\x80\x80" + struct.pack("<H", len(rows)) + entries + bytes(4)


def test_a_tiff_of_one_pixel() -> None:
    assert check_photo(tiff(), "it").width == 1
    assert bytes_to_array(tiff(), SMALL, "it").max() == 0x80


@pytest.mark.parametrize(
    "content",
    [
        tiff((50706, 1, 0x00000401)),  # DNG
        tiff((254, 4, 1), (330, 4, 8)),  # NEF, ARW: a thumbnail first, the photo elsewhere
        b"II*\0\x0c\0\0\0CR\x02\0" + tiff()[10:],
        b"FUJIFILMCCD-RAW 0201" + bytes(100),
        b"IIU\0\x18\0\0\0" + bytes(100),
        b"IIRO\x08\0\0\0" + bytes(100),
        b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(100),
    ],
)
def test_raw_files_are_not_their_thumbnails(content: bytes) -> None:
    for look in (check_photo, lambda content, source: bytes_to_array(content, SMALL, source)):
        with raises(BadPhoto, "TP1062", "a.nef") as caught:
            look(content, "a.nef")
        assert caught.value.hint.startswith("export it as JPEG")


@pytest.mark.parametrize(
    ("content", "code", "value"),
    [
        (b"\xff\x0a" + bytes(50), "TP1063", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "TP1063", "JPEG XL"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(50), "TP1069", "video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "TP1065", "Ghostscript"),
        (b"SIMPLE  =                    T" + bytes(50), "TP1065", "FITS"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "TP1064", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "TP1064", "HTML"),
        (b"\x1f\x8b\x08\0" + bytes(50), "TP1064", "gzip"),
        (bytes(500), "TP1064", "zero bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "TP1065", "PNG: "),
        (SOI + b"\xff\xe0\0\x04xy\xff\xd9", "TP1065", "JPEG: "),
    ],
)
def test_the_reason_is_shown(content: bytes, code: str, value: str) -> None:
    with raises(BadPhoto, code, value) as caught:
        check_photo(content, "some/x.jpg")
    assert caught.value.message.startswith("some/x.jpg ")
    assert caught.value.hint


# Metadata


def with_chunk(name: bytes, body: bytes, *, at: int = 33, damaged: bool = False) -> bytes:
    content = encoded(two_colours(), "PNG")
    check = zlib.crc32(name + body) ^ damaged
    return content[:at] + struct.pack(">I", len(body)) + name + body + struct.pack(">I", check) + content[at:]


PNGS = {
    "a long compressed text": with_chunk(b"zTXt", b"Comment\0\0" + COMPRESSED_NOISE),
    "a long international text": with_chunk(b"iTXt", b"Comment\0\x01\0\0\0" + COMPRESSED_NOISE),
    "a text bomb": with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 1)),
    "a large profile": with_chunk(b"iCCP", b"icc\0\0" + COMPRESSED_NOISE),
    "a damaged profile": with_chunk(b"iCCP", b"icc\0\0garbage"),
    "a profile of an unknown kind": with_chunk(b"iCCP", b"icc\0\x09garbage"),
    "a text that was edited": with_chunk(b"tEXt", b"Comment\0hello", damaged=True),
    "a damaged text after the pixels": with_chunk(b"zTXt", b"Comment\0\0" + COMPRESSED_NOISE, at=-12),
    "a short physical size": with_chunk(b"pHYs", b"12"),
    "damaged EXIF": with_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "a short animation header": with_chunk(b"acTL", b"1"),
}


@pytest.mark.parametrize("content", PNGS.values(), ids=PNGS.keys())
def test_metadata_of_a_png_does_not_matter(content: bytes) -> None:
    check_photo(content, "it")
    assert_two_colours(bytes_to_array(content, SMALL, "it"))


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    "extra",
    [
        b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 20]) + NOISE[:60_000]) for n in range(1, 21)),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
        segment(0xE2, b"MPF\0MM"),
        segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\xff12"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03"),
        segment(0xFE, NOISE[:60_000]) * 30,
    ],
)
def test_metadata_of_a_jpeg_does_not_matter(extra: bytes) -> None:
    content = encoded(two_colours(), "JPEG")
    content = SOI + extra + content[2:]
    check_photo(content, "it")
    assert_two_colours(bytes_to_array(content, SMALL, "it"), 16)


@pytest.mark.parametrize("kept", ["EXIF", "ICCP", "XMP "])
def test_metadata_of_a_webp_does_not_matter(kept: str) -> None:
    options = {
        "EXIF": {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff"},
        "ICCP": {"icc_profile": NOISE},
        "XMP ": {"xmp": NOISE},
    }
    content = encoded(two_colours(), "WEBP", **options[kept])
    assert kept.encode() in content
    assert_two_colours(bytes_to_array(content, SMALL, "it"), 16)
    copies = list(photo_metadata.lighter_copies(content))
    assert len(copies[-1]) < 2000
    for copy in copies:
        assert_two_colours(bytes_to_array(copy, SMALL, "it"), 16)


def test_the_orientation_outlives_a_long_text() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", NOISE.decode(), zip=True)
    content = encoded(two_colours().transpose(Image.Transpose.ROTATE_180), "PNG", pnginfo=info, exif=exif)
    assert_two_colours(bytes_to_array(content, SMALL, "it"))


@pytest.mark.parametrize("name", PNGS)
def test_truncated_pixels_are_refused_whatever_the_metadata(name: str) -> None:
    content = PNGS[name]
    end = content.index(b"IDAT") + 30
    with pytest.raises(BadPhoto):
        check_photo(content[:end], "it")


# Sizes


def large_jpeg(width: int, height: int, **options: object) -> bytes:
    image = Image.new("L", (width, height), 60)
    image.paste(190, (width // 2, 0, width, height))
    return encoded(image, "JPEG", **options)


@pytest.mark.parametrize("limit", [7_000, 100_000, 1_000_000])
@pytest.mark.parametrize("size", [(700, 700), (2000, 400), (90, 1200), (1999, 57)])
@pytest.mark.parametrize("progressive", [False, True])
def test_large_jpegs_are_decoded_below_the_limit(
    limit: int, size: tuple[int, int], progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import JpegImagePlugin

    decoded, load = [], JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile,
        "load",
        lambda image: (decoded.append(image.width * image.height), load(image))[1],
    )
    monkeypatch.setattr(photo_open, "MAX_PIXELS", limit)
    monkeypatch.setattr(photo_open, "_MAX_MANY_SCANS", 2_000_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    content = large_jpeg(*size, progressive=progressive)
    if size[0] * size[1] / 64 > limit:
        with raises(BadPhoto, "TP1061"):
            check_photo(content, "it")
        return
    check_photo(content, "it")
    array = bytes_to_array(content, SMALL, "it")
    assert max(decoded) <= limit
    assert abs(int(array[12, 3, 0]) - 60) < 3
    assert abs(int(array[12, 28, 0]) - 190) < 3


def test_a_progressive_jpeg_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_open, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(photo_open, "_MAX_MANY_SCANS", 20_000)
    check_photo(large_jpeg(150, 200), "it")
    check_photo(large_jpeg(100, 190, progressive=True), "it")
    with raises(BadPhoto, "TP1061", "progressive JPEG") as caught:
        check_photo(large_jpeg(150, 200, progressive=True), "it")
    assert caught.value.hint == "make it smaller"


def test_a_real_jpeg_above_the_limit() -> None:
    content = large_jpeg(14_000, 13_500)  # above twice Pillow's own limit, too
    facts = check_photo(content, "it")
    assert (facts.height, facts.width) == (13_500, 14_000)
    array = bytes_to_array(content, SMALL, "it")
    assert array[12, 3, 0] in range(58, 63)


def test_the_limits_leave_pillows_own_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK
    content = [PNGS["a long compressed text"], encoded(two_colours(), "JPEG"), b"hello"]

    def look() -> None:
        for item in content:
            try:
                bytes_to_array(item, SMALL, "it")
            except BadPhoto:
                continue

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)


def test_a_webp_bomb_is_refused_before_its_decoder_takes_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"lossless": True}, {"icc_profile": b"x" * 100}):
        content = encoded(Image.new("RGB", (300, 200)), "WEBP", **options)
        assert photo_metadata.webp_pixels(content) == 60_000
    monkeypatch.setattr(photo_open, "MAX_PIXELS", 59_999)
    monkeypatch.setattr(photo_open, "_openers", lambda: pytest.fail("it was opened"))
    with raises(BadPhoto, "TP1061", "0"):
        check_photo(content, "it")


# Hostile bytes

SAMPLES = [
    *[encoded(make_photo(0, 0), kind) for kind in ("TIFF", "JPEG2000", "PPM", "TGA", "PCX", "SGI", "DDS", "WEBP")],
    encoded(make_photo(0, 0), "TIFF", compression="tiff_lzw"),
    encoded(make_photo(0, 0), "JPEG", progressive=True, exif=Image.Exif()),
    encoded(make_photo(0, 0), "PNG", pnginfo=None),
    PNGS["damaged EXIF"],
    tiff((254, 4, 1)),
    png(4, 4, bytes(4 * 25), depth=16),
    b"P6 4 4 4095\n" + bytes(96),
    b"P5 4 4 65535\n" + bytes(32),
]


@given(content=st.sampled_from(SAMPLES), data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_give_an_array_or_bad_photo(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers matter most.
        place = data.draw(st.one_of(st.integers(0, min(200, len(damaged) - 1)), st.integers(0, len(damaged) - 1)))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    for look in (check_photo, lambda content, source: bytes_to_array(content, SMALL, source)):
        try:
            look(bytes(damaged[:cut]), "it")
        except BadPhoto as error:
            assert str(error).startswith("it ")
            assert error.hint


# A class whose photos were left out


def test_the_error_of_a_class_without_photos_has_each_reason_and_remedy(tmp_path: Path) -> None:
    for label in ("good", "bad"):
        (tmp_path / label).mkdir()
    for number in range(3):
        make_photo(0, number).save(tmp_path / "good" / f"{number}.jpg")
        (tmp_path / "bad" / f"{number}.nef").write_bytes(tiff((50706, 1, 0x401)))
    (tmp_path / "bad" / "x.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    reasons = ("0.nef is ", ", like 2 more files (", "JPEG, TIFF or PNG", "x.jpg", "Git LFS pointer", "(cd ")
    with raises(BadInput, "TP2014", "class 'bad'", *reasons):
        dataset_from_folder(tmp_path)


def test_the_error_of_a_class_with_too_few_photos_has_the_reasons(tmp_path: Path) -> None:
    for label in ("good", "poor"):
        (tmp_path / label).mkdir()
    for number in range(40):
        make_photo(0, number).save(tmp_path / "good" / f"{number}.jpg")
    make_photo(1, 0).save(tmp_path / "poor" / "0.jpg")
    (tmp_path / "poor" / "1.jpg").write_bytes(b"\xff\x0a" + bytes(50))
    with raises(BadInput, "TP2077", "class 'poor' has 1 photo", "1.jpg is a JPEG XL photo", "JPEG or PNG"):
        dataset_from_folder(tmp_path)
