"""Photos with 16 bits a sample give the pixels of their 8-bit counterparts, whatever part of the range they use."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.errors import raises
from tests.support.photos import make_photo
from trtpoets.core import images
from trtpoets.core.errors import BadPhoto
from trtpoets.core.images import bytes_to_array, check_photo, photo_to_array
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.types import FULL_WHITE, Preprocess, Split, check_preprocess
from trtpoets.train.dataset import dataset_from_folder, dataset_from_json
from trtpoets.train.photo_table import table_of

SIZE = Preprocess(40, 48, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
CHANNELS = {1: 0, 2: 4, 3: 2, 4: 6}


def png16(samples: np.ndarray, significant: int = 0, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of uint16 samples (H, W, C), with every filter type in turn, and an sBIT or tRNS chunk if asked."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, channels = samples.shape
    rows, pixel = samples.astype(">u2").tobytes(), 2 * channels
    lines = np.frombuffer(rows, np.uint8).reshape(height, width * pixel).astype(int)
    left, above = np.zeros_like(lines), np.zeros_like(lines)
    left[:, pixel:], above[1:] = lines[:, :-pixel], lines[:-1]
    body = b""
    for y in range(height):
        taken = (0, left[y], above[y], (left[y] + above[y]) // 2)[y % 4]
        body += bytes([y % 4]) + (lines[y] - taken).astype(np.uint8).tobytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, CHANNELS[channels], 0, 0, 0))
    bits = chunk(b"sBIT", bytes([significant] * channels)) if significant else b""
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + bits + key + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def tiff16(samples: np.ndarray, order: str, compression: int = 1, photometric: int | None = None) -> bytes:
    """A TIFF of uint16 samples (H, W, C) in one strip; compression 8 is Deflate."""
    height, width, channels = samples.shape
    body = samples.astype(f"{order}u2").tobytes()
    body = zlib.compress(body) if compression == 8 else body
    colour = photometric if photometric is not None else (2 if channels >= 3 else 1)
    tags = [(256, width), (257, height), (259, compression), (262, colour), (277, channels), (278, height)]
    tags += [(279, len(body)), (284, 1)] + ([(338, 2)] if channels == 4 else [])
    count, after = len(tags) + 2, 8 + 2 + (len(tags) + 2) * 12 + 4
    entries = [(tag, struct.pack(f"{order}HHII", tag, 4, 1, value)) for tag, value in tags]
    pair = struct.pack(f"{order}{channels}H", *[16] * channels)
    bits = pair.ljust(4, b"\0") if channels <= 2 else struct.pack(f"{order}I", after)
    entries.append((258, struct.pack(f"{order}HHI", 258, 3, channels) + bits))
    entries.append((273, struct.pack(f"{order}HHII", 273, 4, 1, after + len(pair))))
    ifd = struct.pack(f"{order}H", count) + b"".join(entry for _, entry in sorted(entries)) + bytes(4)
    return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + ifd + pair + body


def ppm16(samples: np.ndarray, maximum: int = FULL_WHITE) -> bytes:
    height, width, channels = samples.shape
    return f"P{6 if channels == 3 else 5} {width} {height} {maximum}\n".encode() + samples.astype(">u2").tobytes()


def eight_bits(channels: int) -> np.ndarray:
    """A photo, uint8 (40, 48, channels), in which white occurs; alpha, if any, has all values."""
    pixels = np.asarray(make_photo(1, 1).convert("L" if channels < 3 else "RGB")).reshape(40, 48, -1).copy()
    pixels[0, 0] = 255
    if channels in (2, 4):
        alpha = np.linspace(0, 255, 40 * 48).astype(np.uint8).reshape(40, 48, 1)[::-1]
        pixels = np.concatenate([pixels, alpha], axis=2)
    return pixels


def expected(pixels: np.ndarray) -> np.ndarray:
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze()).convert(mode).save(stream, "PNG")
    return bytes_to_array(stream.getvalue(), SIZE, "it").astype(int)


WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "PNG": png16,
    "TIFF little-endian": lambda samples: tiff16(samples, "<"),
    "TIFF big-endian": lambda samples: tiff16(samples, ">"),
    "TIFF Deflate little-endian": lambda samples: tiff16(samples, "<", 8),
    "TIFF Deflate big-endian": lambda samples: tiff16(samples, ">", 8),
    "PPM": ppm16,
}
CASES = [(name, channels) for name in WRITERS for channels in (1, 3)] + [
    ("PNG", 2),
    ("PNG", 4),
    ("TIFF little-endian", 4),
    ("TIFF Deflate big-endian", 4),
]


@pytest.mark.parametrize(("name", "channels"), CASES)
@pytest.mark.parametrize(("factor", "white"), [(16, 4080), (1, 255), (4, 1020), (256, 65280), (257, 65535)])
def test_sixteen_bits_give_the_pixels_of_eight(name: str, channels: int, factor: int, white: int) -> None:
    pixels = eight_bits(channels)
    samples = pixels.astype(np.uint16) * factor
    if channels in (2, 4):
        samples[..., -1] = pixels[..., -1].astype(np.uint16) * 257
    content = WRITERS[name](samples)
    seen = 255 * factor
    if channels in (2, 4):
        seen = int(np.max(samples[..., :-1][samples[..., -1] > 0]))
    assert check_photo(content, "it").levels == seen
    array = bytes_to_array(content, replace(SIZE, white=white), "it").astype(int)
    assert np.abs(array - expected(pixels)).max() <= 1


def test_orientation_holds_for_sixteen_bits() -> None:
    pixels = eight_bits(3)
    content = png16(pixels.astype(np.uint16) * 16)
    exif = Image.Exif()
    exif[0x0112] = 3
    body = exif.tobytes()[6:]
    part = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    turned = content[:33] + part + content[33:]
    array = bytes_to_array(turned, replace(SIZE, white=4080), "it").astype(int)
    assert np.abs(array - expected(pixels[::-1, ::-1])).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_is_white(channels: int) -> None:
    samples = np.full((40, 48, channels), 1000, np.uint16)
    samples[:, 24:] = 1001
    content = png16(samples, transparent=(1000,) * channels)
    array = bytes_to_array(content, replace(SIZE, white=4000), "it")
    assert array[:, :20].min() == 255
    assert array[:, 28:].max() < 70


def test_an_inverted_tiff_of_sixteen_bits() -> None:
    pixels = eight_bits(1)
    content = tiff16(FULL_WHITE - pixels.astype(np.uint16) * 16, "<", photometric=0)
    assert check_photo(content, "it").levels == 4080
    assert np.abs(bytes_to_array(content, replace(SIZE, white=4080), "it").astype(int) - expected(pixels)).max() <= 1


@pytest.mark.parametrize(
    ("significant", "peak", "levels"), [(12, 3000, 4095), (12, 4095, 4095), (12, 65520, 65535), (10, 700, 1023)]
)
def test_significant_bits_decide_before_the_maximum(significant: int, peak: int, levels: int) -> None:
    samples = np.full((4, 4, 1), peak, np.uint16)
    assert check_photo(png16(samples, significant), "it").levels == levels
    assert check_photo(png16(samples, 16), "it").levels == peak


@pytest.mark.parametrize("channels", [1, 3])
def test_a_maximum_that_is_declared_needs_no_other_white(channels: int) -> None:
    pixels = eight_bits(channels)
    content = ppm16(pixels.astype(np.uint16) * 4, 1020)
    assert check_photo(content, "it").levels == 0
    assert np.abs(bytes_to_array(content, replace(SIZE, white=77), "it").astype(int) - expected(pixels)).max() <= 1


def test_eight_bits_do_not_depend_on_white() -> None:
    stream = io.BytesIO()
    make_photo(0, 0).save(stream, "PNG")
    assert check_photo(stream.getvalue(), "it").levels == 0
    one, other = (bytes_to_array(stream.getvalue(), replace(SIZE, white=white), "it") for white in (100, FULL_WHITE))
    np.testing.assert_array_equal(one, other)


def test_float_samples_between_0_and_1() -> None:
    pixels = eight_bits(1)

    def tiff(values: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(values.astype(np.float32)).save(stream, "TIFF")
        return stream.getvalue()

    array = bytes_to_array(tiff(pixels[..., 0] / 255), SIZE, "it").astype(int)
    assert np.abs(array - expected(pixels)).max() <= 1
    for look in (lambda content: check_photo(content, "it"), lambda content: bytes_to_array(content, SIZE, "it")):
        with raises(BadPhoto, "TP1020", "float samples reach 255"):
            look(tiff(pixels[..., 0]))


def test_the_white_level_is_part_of_the_contract() -> None:
    other = replace(SIZE, white=4080)
    assert other.hash != SIZE.hash
    assert parsed(Preprocess, to_json(other)) == other
    older = {key: value for key, value in vars(SIZE).items() if key != "white"}
    assert parsed(Preprocess, to_json(older)) == SIZE
    # The hash of files that were written before there was a white level.
    assert SIZE.hash == "d2579f09c957df883033729931c8e3adcb7bb0bc11c913fb0fe70d49506fca4d"
    with pytest.raises(ValueError, match="white is 0"):
        check_preprocess(replace(SIZE, white=0))


def mixed_folder(folder: Path) -> Path:
    """Two classes: one of 16-bit PNGs up to 4080, one of JPEGs."""
    for label in range(2):
        place = folder / "ab"[label]
        place.mkdir(parents=True)
        for number in range(40):
            photo = make_photo(label, number)
            if label:
                photo.save(place / f"{number}.jpg")
            else:
                pixels = np.asarray(photo.convert("L")).astype(np.uint16)[..., None] * 16
                pixels[0, 0] = 4080
                (place / f"{number}.png").write_bytes(png16(pixels))
    return folder


def test_a_dataset_knows_its_white(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = dataset_from_folder(mixed_folder(tmp_path / "photos"))
    assert dataset.white == 4080
    assert "40 of 80 photos have 16 bits" in caplog.text
    assert "the largest value in training photos is 4080, so 4080 becomes white (255)" in caplog.text
    written = to_json(dataset.document)
    assert [photo.get("levels") for photo in written["photos"]] == [4080] * 40 + [None] * 40
    assert dataset_from_json(written) == dataset


def test_only_training_photos_decide_the_white(tmp_path: Path) -> None:
    dataset = dataset_from_folder(mixed_folder(tmp_path / "photos"))
    changed = tuple(replace(photo, levels=0 if photo.split is Split.TRAIN else 9999) for photo in dataset.photos)
    assert replace(dataset, photos=table_of(changed, dataset.folder)).white == FULL_WHITE


def test_a_photo_of_fewer_bits_than_the_classifier_expects_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_warned_dark", [])
    for name, top in (("dark.png", 4080), ("darker.png", 255), ("full.png", FULL_WHITE)):
        pixels = np.full((8, 8, 1), top, np.uint16)
        (tmp_path / name).write_bytes(png16(pixels))
    photo_to_array(tmp_path / "full.png", SIZE)
    photo_to_array(tmp_path / "dark.png", replace(SIZE, white=4080))
    assert caplog.text == ""
    for name in ("dark.png", "darker.png"):
        photo_to_array(tmp_path / name, SIZE)
    (message,) = caplog.messages
    assert "dark.png has 16-bit samples with a maximum of 4080" in message
