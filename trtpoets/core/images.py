"""From a photo file to uint8 (H, W, 3). The only place that decodes.

Training, calibration, every runner and the bundle call these functions, so a photo gives the same pixels everywhere.
What a file is, is read from its first bytes; its name is never trusted.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Sequence

import numpy as np

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.spec import Preprocess, Resize
from trtpoets.core.threads import map_ahead

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "HEIF")
"""What a photo may be, in Pillow's words. JPEG includes MPO, as some phones write it; HEIF needs a Pillow for it."""

MAX_PIXELS = 100_000_000
"""A larger photo is refused before it is decoded: it is a mistake, or an attack."""

MAX_BYTES = 1 << 30
"""A larger file is refused before it is read: no photo below MAX_PIXELS needs so much."""

_DRAFT_MARGIN = 2
"""JPEG is decoded at the smallest scale that still has this many times the pixels a side that the network wants."""


def photo_to_array(path: Path, preprocess: Preprocess) -> np.ndarray:
    """Decode, turn upright, make RGB and resize: uint8 (height, width, 3), the caller's own.

    Raises BadPhoto with the reason when the file can't be used.
    """
    return bytes_to_array(read_photo(path), preprocess, str(path))


def read_photo(path: Path) -> bytes:
    """The bytes of a photo file. Raises BadPhoto when it can't be read, or is too large for one."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadPhoto(f"{path} has {size >> 20} MiB", hint=f"a photo has at most {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise BadPhoto(f"{path} can't be read: {error.strerror}", hint="check that it is there and readable") from error


def bytes_to_array(content: bytes, preprocess: Preprocess, source: str) -> np.ndarray:
    """`photo_to_array` for a file that is in memory; `source` names it in errors."""
    image = _open(content, source)
    height, width = preprocess.height, preprocess.width
    try:
        if image.format in ("JPEG", "MPO"):
            # Square, because the photo may lie on its side until its orientation is applied.
            side = int(_DRAFT_MARGIN * max(height, width) / preprocess.crop_fraction)
            image.draft(None, (side, side))
        image.load()
        return _resized(_rgb(_upright(image)), preprocess)
    except Exception as error:
        raise BadPhoto(f"{source} can't be decoded: {error}", hint="replace or delete the file") from error


def pixels_to_array(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """`photo_to_array` for what is decoded already, as a camera's frame: uint8 (h, w, 3), RGB, upright.

    Raises BadPhoto for any other array.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise BadPhoto(f"pixels of {pixels.dtype} {pixels.shape}", hint="give uint8 (height, width, 3), RGB")
    return _resized(Image.fromarray(pixels), preprocess)


def _resized(rgb: Image.Image, preprocess: Preprocess) -> np.ndarray:
    size, box = (preprocess.width, preprocess.height), _box(rgb.width, rgb.height, preprocess)
    return np.array(rgb.resize(size, resample=2, box=box), dtype=np.uint8)  # 2: bilinear, antialiased


def check_photo(content: bytes, source: str) -> tuple[int, int]:
    """Decode a photo to its end, small, to see that it is whole: (height, width) as stored. Raises BadPhoto."""
    image = _open(content, source)
    size = image.height, image.width
    try:
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (1, 1))
        image.load()
    except Exception as error:
        raise BadPhoto(f"{source} can't be decoded: {error}", hint="replace or delete the file") from error
    return size


def photo_batches(
    paths: Sequence[Path], preprocess: Preprocess, batch_size: int, workers: int = 0
) -> Iterator[np.ndarray]:
    """Yield the photos in order as uint8 (n, height, width, 3), n = batch_size but for the last.

    Worker threads (0: one a core) decode ahead, at most two batches, while the caller works on the last one.
    Raises BadPhoto at the first photo that can't be used.
    """
    if batch_size < 1:
        raise BadInput(f"a batch of {batch_size} photos", hint="give a batch size of at least 1")
    threads = workers or usable_cores()
    arrays = map_ahead(lambda path: photo_to_array(path, preprocess), paths, threads, 2 * batch_size + threads)
    try:
        for batch in iter(lambda: list(islice(arrays, batch_size)), []):
            yield np.stack(batch)
    finally:
        arrays.close()


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _open(content: bytes, source: str) -> Image.Image:
    from PIL import Image

    if not content:
        raise BadPhoto(f"{source} is empty", hint="replace or delete the file")
    try:
        image = Image.open(io.BytesIO(content), formats=_readable_formats())
    except Image.DecompressionBombError as error:
        raise BadPhoto(f"{source} is too large: {error}", hint=f"at most {MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:
        raise BadPhoto(
            f"{source} is not a photo that can be read ({', '.join(_readable_formats())})",
            hint="convert it to JPEG or PNG, or delete it",
        ) from error
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height / 1e6
        raise BadPhoto(f"{source} has {megapixels:.0f} megapixels", hint=f"at most {MAX_PIXELS // 10**6} megapixels")
    return image


@lru_cache(maxsize=None)
def _readable_formats() -> tuple[str, ...]:
    from PIL import Image

    # What is wrong with a photo is said once, by our own error: too large (our limit is the tighter one), or broken.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.init()
    with suppress(ImportError):  # phones' HEIC, for who has installed the plugin
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a damaged EXIF block says nothing about orientation; the pixels are fine
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """RGB with 8 bits a channel; transparency over white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel, in the modes that Pillow uses for it
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.clip(wide >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        straight = image.convert("RGBA")
        paper = Image.new("RGB", straight.size, (255, 255, 255))
        paper.paste(straight, mask=straight.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _box(width: int, height: int, preprocess: Preprocess) -> tuple[float, float, float, float]:
    """The part of the photo that is kept, in its own pixels: left, top, right, bottom."""
    if preprocess.resize is Resize.STRETCH:
        return 0.0, 0.0, float(width), float(height)
    unit = min(width / preprocess.width, height / preprocess.height) * preprocess.crop_fraction
    kept_width, kept_height = unit * preprocess.width, unit * preprocess.height
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return left, top, left + kept_width, top + kept_height
