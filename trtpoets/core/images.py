"""From a photo file to uint8 (H, W, 3). The only place that decodes, with `photo_*` beside it.

Training, calibration, every runner and the bundle call these functions, so a photo gives the same pixels everywhere.
What a file is, is read from its first bytes; its name is never trusted.
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

from trtpoets.core.errors import BadInput, BadPhoto, PhotoChanged
from trtpoets.core.photo_depth import float_photo, is_wide, wide_photo
from trtpoets.core.photo_memory import DECODING, FILES, bytes_before_opening, bytes_to_decode, require_decodable
from trtpoets.core.photo_metadata import lighter_copies
from trtpoets.core.photo_open import open_photo, shrink_jpeg, upright
from trtpoets.core.reading import NotReadable, read_bytes
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import FULL_WHITE, Photo, Preprocess, Resize

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_BYTES = 1 << 30
"""A larger file is refused before it is read: no photo needs so much."""

_DRAFT_MARGIN = 2
"""JPEG is decoded at the smallest scale that still has this many times the pixels a side that the network wants."""


_DARK = 8
"""A 16-bit photo whose maximum is below this part of white was made for fewer bits."""

_warned_dark: list[str] = []


def photo_to_array(photo: Path | Photo, preprocess: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
    """Decode, turn upright, make RGB and resize: uint8 (height, width, 3), written into `out` where that is given.

    Otherwise the array is the caller's own. The bytes that are decoded are those that `photo_bytes` verified. Raises
    BadPhoto with the reason when the file can't be used, PhotoChanged when it is not the photo of the dataset any more.
    """
    with photo_bytes(photo) as content:
        return bytes_to_array(content, preprocess, str(_path_of(photo)), out)


@contextmanager
def photo_bytes(photo: Path | Photo) -> Iterator[bytes]:
    """Give the bytes of a photo, as `read_photo` does, while they are used. A path has no sha256 to be held against.

    All threads share the memory of such bytes: a thread waits where others hold too much. Not to be nested. Raises
    PhotoChanged when a dataset's Photo has another sha256 now, BadPhoto when the file can't be read.
    """
    path = _path_of(photo)
    try:
        size = min(path.stat().st_size, MAX_BYTES)
    except OSError:
        size = 0  # read_photo says why
    with FILES.holding(size):
        content = read_photo(path)
        if isinstance(photo, Photo) and hashlib.sha256(content).hexdigest() != photo.sha256:
            raise PhotoChanged(
                f"{path} has changed since the dataset was read", hint="run the same command again", code="TP1014"
            )
        yield content


def changed_photos(photos: Sequence[Photo]) -> list[Photo]:
    """Those photos whose files have another sha256 now, or can't be read. Reads them all."""
    same = map_ahead(_unchanged, photos, usable_cores(), 64)
    return [photo for photo, unchanged in zip(photos, same) if not unchanged]


def _unchanged(photo: Photo) -> bool:
    try:
        with photo_bytes(photo):
            return True
    except BadPhoto:
        return False


def _path_of(photo: Path | Photo) -> Path:
    return photo.path if isinstance(photo, Photo) else photo


def read_photo(path: Path) -> bytes:
    """The bytes of a photo file. Raises BadPhoto for no regular file, or one that can't be read or is too large."""
    try:
        return read_bytes(path, MAX_BYTES)
    except NotReadable as error:
        raise BadPhoto(error.message, hint=error.hint, code="TP1015") from error
    except OSError as error:
        raise BadPhoto(
            f"{path} can't be read: {error.strerror}", hint="check that it is there and readable", code="TP1016"
        ) from error


def bytes_to_array(content: bytes, preprocess: Preprocess, source: str, out: np.ndarray | None = None) -> np.ndarray:
    """`photo_to_array` for a file that is in memory; `source` names it in errors."""
    _check_out(out, preprocess)
    # Square, because the photo may lie on its side until its orientation is applied.
    side = int(_DRAFT_MARGIN * max(preprocess.height, preprocess.width) / preprocess.crop_fraction)

    def array_of(image: ImageFile, copy: bytes, _: tuple[int, int]) -> np.ndarray:
        return _resized(_rgb(image, copy, preprocess.white, source), preprocess, out)

    return _decoded(content, source, side, array_of)


def pixels_to_array(pixels: np.ndarray, preprocess: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
    """`photo_to_array` for what is decoded already, as a camera's frame: uint8 (h, w, 3), RGB, upright.

    Raises BadPhoto for any other array.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise BadPhoto(
            f"pixels of {pixels.dtype} {pixels.shape}", hint="give uint8 (height, width, 3), RGB", code="TP1017"
        )
    _check_out(out, preprocess)
    return _resized(Image.fromarray(pixels), preprocess, out)


def _check_out(out: np.ndarray | None, preprocess: Preprocess) -> None:
    shape = (preprocess.height, preprocess.width, 3)
    if out is not None and (out.dtype != np.uint8 or out.shape != shape):
        raise BadInput(
            f"a photo goes into uint8 {shape}, not {out.dtype} {out.shape}",
            hint="give memory of that shape",
            code="TP1018",
        )


def _resized(rgb: Image.Image, preprocess: Preprocess, out: np.ndarray | None) -> np.ndarray:
    size, box = (preprocess.width, preprocess.height), _box(rgb.width, rgb.height, preprocess)
    image = rgb.resize(size, resample=2, box=box)  # 2: bilinear, antialiased
    if out is None:
        return np.array(image, dtype=np.uint8)
    out[...] = np.asarray(image)
    return out


@dataclass(frozen=True)
class PhotoFacts:
    """A photo that was decoded whole: its height and width as stored, and what it suggests for `Preprocess.white`.

    `levels` is 0 where samples have 8 bits or fewer, or are scaled to 8 by what the file declares.
    """

    height: int
    width: int
    levels: int = 0


def check_photo(content: bytes, source: str) -> PhotoFacts:
    """Decode a photo to its end, a JPEG small, to see that it is whole. Raises BadPhoto."""

    def facts_of(image: ImageFile, copy: bytes, stored: tuple[int, int]) -> PhotoFacts:
        width, height = stored
        if is_wide(image):
            return PhotoFacts(height, width, wide_photo(image, open_photo(copy, source), copy).level())
        image.load()
        if image.mode == "F":
            float_photo(image)
        return PhotoFacts(height, width)

    return _decoded(content, source, 1, facts_of)


def photo_batches(
    photos: Sequence[Path | Photo],
    preprocess: Preprocess,
    batch_size: int,
    workers: int = 0,
    buffer: Callable[[int], np.ndarray] | None = None,
) -> Generator[np.ndarray, None, None]:
    """Yield the photos in order as uint8 (n, height, width, 3), n = batch_size but for the last.

    `buffer(n)` gives the memory of each batch to decode into, as a runner's `input_buffer`; without it, a batch is the
    caller's own. Worker threads (0: one a core) decode ahead, at most two batches (with `buffer`, one), while the
    caller works on the last one; closed, it waits for them.
    Raises BadPhoto at the first photo that can't be used, PhotoChanged at one of a dataset that has other bytes now.
    """
    if batch_size < 1:
        raise BadInput(f"a batch of {batch_size} photos", hint="give a batch size of at least 1", code="TP1019")
    threads = workers or usable_cores()
    ahead = 2 * batch_size + threads if buffer is None else batch_size
    new = buffer or (lambda count: np.empty((count, preprocess.height, preprocess.width, 3), np.uint8))

    def places() -> Iterator[tuple[Path | Photo, np.ndarray, int]]:
        for start in range(0, len(photos), batch_size):
            batch = photos[start : start + batch_size]
            rows = new(len(batch))
            yield from ((photo, rows, row) for row, photo in enumerate(batch))

    def decode(place: tuple[Path | Photo, np.ndarray, int]) -> np.ndarray:
        photo, rows, row = place
        photo_to_array(photo, preprocess, rows[row])
        return rows

    decoded = map_ahead(decode, places(), threads, ahead)
    try:
        for batch in iter(lambda: list(islice(decoded, batch_size)), []):
            yield batch[0]
            batch.clear()  # or the memory would be held for as long as the next is waited for
    finally:
        decoded.close()


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _decoded(content: bytes, source: str, side: int, use: Callable[[ImageFile, bytes, tuple[int, int]], _T]) -> _T:
    """What `use` makes of the opened photo, its bytes, and its width and height as stored.

    A JPEG has the scale at which each side keeps `side` pixels. Memory is claimed from what all threads share before
    it is taken. Raises BadPhoto with the decoder's reason. Where that fails, the pixels are tried without the metadata
    that surrounds them.
    """
    failure: Exception | None = None
    for copy in chain((content,), lighter_copies(content)):
        try:
            return _used(copy, source, side, use)
        except Exception as error:  # noqa: BLE001 - decoders raise whatever they like at damaged files
            failure = failure or error
    if isinstance(failure, BadPhoto):
        raise failure
    raise BadPhoto(
        f"{source} can't be decoded: {failure}", hint="replace or delete the file", code="TP1020"
    ) from failure


def _used(content: bytes, source: str, side: int, use: Callable[[ImageFile, bytes, tuple[int, int]], _T]) -> _T:
    with ExitStack() as stack:
        early = bytes_before_opening(content)
        if early:
            require_decodable(early, source)
            stack.enter_context(DECODING.holding(early))
        image = open_photo(content, source)
        stored = image.size
        shrink_jpeg(image, content, side, source)
        if not early:
            needed = bytes_to_decode(image, content, is_wide(image), stored[0] * stored[1])
            require_decodable(needed, source)
            stack.enter_context(DECODING.holding(needed))
        return use(image, content, stored)


def _rgb(image: ImageFile, content: bytes, white: int, source: str) -> Image.Image:
    """Decode an opened image: upright, RGB with 8 bits a channel, transparency over white."""
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
        paper = Image.new("RGB", straight.size, (255, 255, 255))
        paper.paste(straight, mask=straight.getchannel("A"))
        return paper
    return turned if turned.mode == "RGB" else turned.convert("RGB")


def _warn_dark(level: int, source: str) -> None:
    if not _warned_dark:
        _warned_dark.append(source)
        _log.warning(
            "%s has 16-bit samples that end at %d; this classifier takes %d for white, so the photo is nearly black to "
            "it. Photos like it must be among the training photos. Others are not named",
            source,
            level,
            FULL_WHITE,
        )


def _box(width: int, height: int, preprocess: Preprocess) -> tuple[float, float, float, float]:
    """The part of the photo that is kept, in its own pixels: left, top, right, bottom."""
    if preprocess.resize is Resize.STRETCH:
        return 0.0, 0.0, float(width), float(height)
    unit = min(width / preprocess.width, height / preprocess.height) * preprocess.crop_fraction
    kept_width, kept_height = unit * preprocess.width, unit * preprocess.height
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return left, top, left + kept_width, top + kept_height
