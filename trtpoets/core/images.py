"""Decodes and resizes photo files to uint8 (H, W, 3); with `photo_*`, the only modules that decode.

Training, calibration, every runner and the bundles call these functions, so a photo gives the same pixels everywhere.
The format of a file is detected from its first bytes, not from its name.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Generator, Iterator, Sequence, TypeVar

import numpy as np

from trtpoets.core.decoded_photos import DecodedStore, decoded_store
from trtpoets.core.errors import BadInput, BadPhoto, PhotoChanged
from trtpoets.core.photo_depth import float_photo, is_wide, wide_photo
from trtpoets.core.photo_memory import DECODING, FILES, bytes_before_opening, bytes_to_decode, require_decodable
from trtpoets.core.photo_metadata import lighter_copies
from trtpoets.core.photo_open import open_photo, shrink_jpeg, upright
from trtpoets.core.reading import NotReadable, read_bytes, read_errors
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import FULL_WHITE, Photo, Preprocess, Resize

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_BYTES = 1 << 30
"""Largest photo file in bytes. A larger one is refused before it is read."""

_DRAFT_MARGIN = 2
"""A JPEG is decoded at the smallest scale whose sides are at least this many times those of the network's input."""


_DARK = 8
"""A 16-bit photo whose maximum is below 1/_DARK of white probably has fewer significant bits."""

_warned_dark: list[str] = []


def photo_to_array(photo: Path | Photo, preprocess: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
    """Decode a photo, rotate it upright, convert it to RGB and resize it: uint8 (height, width, 3).

    The result is written into `out` if it is given, else into a new array. The decoded bytes are those that
    `photo_bytes` verified. Raises BadPhoto with the reason if the file can't be used, PhotoChanged if a dataset's photo
    was modified.
    """
    with photo_bytes(photo) as content:
        return bytes_to_array(content, preprocess, str(_path_of(photo)), out)


def decode_once(
    photo: Path | Photo, preprocess: Preprocess, store: DecodedStore | None, out: np.ndarray, keep: bool = True
) -> None:
    """Write the pixels of a photo into `out`, from `store` if they are there; else decode them, and `keep` them there.

    `store` is `decoded_store()` of the command, which worker threads cannot look up. Raises as `photo_to_array`.
    """
    key = store.key(photo, preprocess) if store else None
    pixels = store.get(key) if store else None
    if pixels is not None:
        _check_out(out, preprocess)
        out[:] = pixels
        return
    photo_to_array(photo, preprocess, out)
    if store and keep:
        store.add(key, out)


@contextmanager
def photo_bytes(photo: Path | Photo) -> Iterator[bytes]:
    """Yield the bytes of a photo, after checking the sha256 of a `Photo`; a path has no sha256 to compare.

    All threads share one memory budget for these bytes: a thread waits until enough is free. Do not nest. Raises
    PhotoChanged if a dataset's Photo has another sha256 now, BadPhoto if the file can't be read.
    """
    path = _path_of(photo)
    try:
        size = min(path.stat().st_size, MAX_BYTES)
    except OSError:
        size = 0  # read_photo raises the error
    with FILES.reserve(size):
        content = read_photo(path) if isinstance(photo, Path) else _known_photo(path)
        if isinstance(photo, Photo) and hashlib.sha256(content).hexdigest() != photo.sha256:
            raise PhotoChanged(
                "has changed since the dataset was read", hint="run the same command again", code="TP1014", subject=path
            )
        yield content


def changed_photos(photos: Sequence[Photo]) -> list[Photo]:
    """The photos whose files have another sha256 now or can't be read. Reads all files."""
    unchanged_flags = map_ahead(_unchanged, photos, usable_cores(), 64)
    return [photo for photo, unchanged in zip(photos, unchanged_flags) if not unchanged]


def _unchanged(photo: Photo) -> bool:
    try:
        with photo_bytes(photo):
            return True
    except BadPhoto:
        return False


def _path_of(photo: Path | Photo) -> Path:
    return photo.path if isinstance(photo, Photo) else photo


def _known_photo(path: Path) -> bytes:
    """The bytes of a photo of a dataset. Raises BadPhoto like `read_photo`, with another hint if the file is gone."""
    try:
        return read_photo(path)
    except BadPhoto as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise BadPhoto(
            "has disappeared since the dataset was read",
            hint="put it back, or go on without it: run the same command again",
            code="TP1125",
            subject=path,
        ) from error


def read_photo(path: Path) -> bytes:
    """The bytes of a photo file. Raises BadPhoto if it is not a regular file, can't be read or is too large."""
    with read_errors(BadPhoto, path, hint="check that it exists and is readable", code="TP1016"):
        try:
            return read_bytes(path, MAX_BYTES)
        except NotReadable as error:
            raise BadPhoto(error.reason, hint=error.hint, code="TP1015", subject=path) from error


def bytes_to_array(content: bytes, preprocess: Preprocess, source: str, out: np.ndarray | None = None) -> np.ndarray:
    """`photo_to_array` for a file in memory; `source` names it in errors."""
    _check_out(out, preprocess)
    # One length for both sides, because EXIF's orientation, which is applied later, may swap them.
    side = int(_DRAFT_MARGIN * max(preprocess.height, preprocess.width) / preprocess.crop_fraction)

    def array_of(image: ImageFile, copy: bytes, _: tuple[int, int]) -> np.ndarray:
        return _resized(_rgb(image, copy, preprocess.white, source), preprocess, out)

    return _decode_with(content, source, side, array_of)


def pixels_to_array(pixels: np.ndarray, preprocess: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
    """`photo_to_array` for a decoded image, such as a camera frame: uint8 (h, w, 3), RGB, upright.

    Raises BadPhoto for an array of another shape or type.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise BadPhoto(
            f"pixels must be uint8 (height, width, 3), not {pixels.dtype} {pixels.shape}",
            hint="convert the frame to RGB with 8 bits a channel",
            code="TP1017",
        )
    _check_out(out, preprocess)
    return _resized(Image.fromarray(pixels), preprocess, out)


def _check_out(out: np.ndarray | None, preprocess: Preprocess) -> None:
    shape = (preprocess.height, preprocess.width, 3)
    if out is not None and (out.dtype != np.uint8 or out.shape != shape):
        raise BadInput(
            f"the array for a photo must be uint8 {shape}, not {out.dtype} {out.shape}",
            hint="pass an array of that shape and type",
            code="TP1018",
        )


def _resized(rgb: Image.Image, preprocess: Preprocess, out: np.ndarray | None) -> np.ndarray:
    if preprocess.resize is Resize.LETTERBOX:
        image = _letterboxed(rgb, preprocess)
    else:
        size, box = (preprocess.width, preprocess.height), _box(rgb.width, rgb.height, preprocess)
        image = rgb.resize(size, resample=2, box=box)  # 2: bilinear, antialiased
    if out is None:
        return np.array(image, dtype=np.uint8)
    out[...] = np.asarray(image)
    return out


def _letterboxed(rgb: Image.Image, preprocess: Preprocess) -> Image.Image:
    from PIL import Image

    unit = min(preprocess.width / rgb.width, preprocess.height / rgb.height)
    width, height = max(1, round(rgb.width * unit)), max(1, round(rgb.height * unit))
    image = Image.new("RGB", (preprocess.width, preprocess.height))
    place = ((preprocess.width - width) // 2, (preprocess.height - height) // 2)
    image.paste(rgb.resize((width, height), resample=2), place)
    return image


@dataclass(frozen=True)
class PhotoFacts:
    """A completely decoded photo: height and width as stored, and the value that it suggests for `Preprocess.white`.

    `levels` is 0 if samples have at most 8 bits, or if the file declares how they are scaled to 8 bits.
    """

    height: int
    width: int
    levels: int = 0


def check_photo(content: bytes, source: str) -> PhotoFacts:
    """Decode a photo completely (a JPEG at a small scale) to check that it is intact. Raises BadPhoto."""

    def facts_of(image: ImageFile, copy: bytes, stored: tuple[int, int]) -> PhotoFacts:
        width, height = stored
        if is_wide(image):
            return PhotoFacts(height, width, wide_photo(image, open_photo(copy, source), copy).level())
        image.load()
        if image.mode == "F":
            float_photo(image)
        return PhotoFacts(height, width)

    return _decode_with(content, source, 1, facts_of)


def photo_batches(
    photos: Sequence[Path | Photo],
    preprocess: Preprocess,
    batch_size: int,
    workers: int = 0,
    buffer: Callable[[int], np.ndarray] | None = None,
) -> Generator[np.ndarray, None, None]:
    """Yield the photos in order as uint8 (n, height, width, 3); n is `batch_size` except for the last batch.

    `buffer(n)` returns the array to decode a batch into, such as a runner's `input_buffer`; without it, each batch is a
    new array. Worker threads (0: one per core) decode at most two batches ahead (one with `buffer`) while the caller
    uses the last one; closing the generator waits for them. Within one command, photos of a dataset that were decoded
    before are copied (`decoded_photos.py`).
    Raises BadPhoto at the first photo that can't be used, PhotoChanged at a dataset's photo that was modified.
    """
    if batch_size < 1:
        raise BadInput(
            f"the batch size must be at least 1, not {batch_size}",
            hint="give a batch size of at least 1",
            code="TP1019",
        )
    threads = workers or usable_cores()
    ahead = 2 * batch_size + threads if buffer is None else batch_size
    store = decoded_store()
    new_buffer = buffer or (lambda count: np.empty((count, preprocess.height, preprocess.width, 3), np.uint8))

    def row_places() -> Iterator[tuple[Path | Photo, np.ndarray, int]]:
        for start in range(0, len(photos), batch_size):
            batch = photos[start : start + batch_size]
            rows = new_buffer(len(batch))
            yield from ((photo, rows, row) for row, photo in enumerate(batch))

    def decode(place: tuple[Path | Photo, np.ndarray, int]) -> np.ndarray:
        photo, rows, row = place
        decode_once(photo, preprocess, store, rows[row])
        return rows

    decoded = map_ahead(decode, row_places(), threads, ahead)
    try:
        for batch in iter(lambda: list(islice(decoded, batch_size)), []):
            yield batch[0]
            batch.clear()  # frees the batch before the next one is awaited
    finally:
        decoded.close()


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _decode_with(content: bytes, source: str, side: int, use: Callable[[ImageFile, bytes, tuple[int, int]], _T]) -> _T:
    """The result of `use(image, content, (width, height) as stored)` for an opened photo.

    A JPEG is opened at the smallest scale at which each side keeps `side` pixels. Memory is reserved in the budget
    shared by all threads before it is allocated. If decoding fails, it is tried again without the file's metadata.
    Raises BadPhoto with the decoder's reason.
    """
    failure: Exception | None = None
    for copy in chain((content,), lighter_copies(content)):
        try:
            return _decode_copy(copy, source, side, use)
        except Exception as error:  # noqa: BLE001 - decoders raise exceptions of any class for damaged files
            failure = failure or error
    if isinstance(failure, BadPhoto):
        raise failure
    raise BadPhoto(
        f"can't be decoded: {failure}", hint="replace or delete the file", code="TP1020", subject=source
    ) from failure


def _decode_copy(content: bytes, source: str, side: int, use: Callable[[ImageFile, bytes, tuple[int, int]], _T]) -> _T:
    with ExitStack() as stack:
        early = bytes_before_opening(content)
        if early:
            require_decodable(early, source)
            stack.enter_context(DECODING.reserve(early))
        image = open_photo(content, source)
        stored = image.size
        shrink_jpeg(image, content, side, source)
        if not early:
            needed = bytes_to_decode(image, content, is_wide(image), stored[0] * stored[1])
            require_decodable(needed, source)
            stack.enter_context(DECODING.reserve(needed))
        return use(image, content, stored)


def _rgb(image: ImageFile, content: bytes, white: int, source: str) -> Image.Image:
    """Decode an opened image: upright, RGB with 8 bits a channel, transparent pixels blended with white."""
    from PIL import Image

    if is_wide(image):
        wide = wide_photo(image, open_photo(content, source), content)
        if white == FULL_WHITE and 0 < (level := wide.level()) * _DARK <= FULL_WHITE:
            _warn_dark(level, source)
        return wide.eight_bits(white)
    image.load()
    turned = upright(image)
    if turned.mode == "F":
        turned = float_photo(turned)
    if turned.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in turned.info:
        straight = turned if turned.mode == "RGBA" else turned.convert("RGBA")
        background = Image.new("RGB", straight.size, (255, 255, 255))
        background.paste(straight, mask=straight.getchannel("A"))
        return background
    return turned if turned.mode == "RGB" else turned.convert("RGB")


def _warn_dark(level: int, source: str) -> None:
    if not _warned_dark:
        _warned_dark.append(source)
        _log.warning(
            "%s has 16-bit samples with a maximum of %d; this classifier takes %d for white and sees the photo nearly "
            "black. Add photos of this kind to the training photos. Further photos of this kind are not reported",
            source,
            level,
            FULL_WHITE,
        )


def _box(width: int, height: int, preprocess: Preprocess) -> tuple[float, float, float, float]:
    """The part of the photo that is kept, in pixels of the photo: left, top, right, bottom."""
    if preprocess.resize is Resize.STRETCH:
        return 0.0, 0.0, float(width), float(height)
    unit = min(width / preprocess.width, height / preprocess.height) * preprocess.crop_fraction
    kept_width, kept_height = unit * preprocess.width, unit * preprocess.height
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return left, top, left + kept_width, top + kept_height
