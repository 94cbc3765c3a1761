"""Opens photos in any format that Pillow and its plugins decode, within limits, or reports why a file is not one."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Tuple

from trtpoets.core.errors import BadPhoto
from trtpoets.core.file_kinds import START, kind_of_content
from trtpoets.core.photo_memory import pixels_before_opening
from trtpoets.core.photo_metadata import jpeg_has_many_scans

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

EXCLUDED = {
    "EPS": "decoding it needs the program Ghostscript",
    "WMF": "it is a vector drawing, which is decoded only on Windows",
    "MPEG": "it is a video",
    "BUFR": "it contains measurements, and Pillow has no decoder",
    "GRIB": "it contains measurements, and Pillow has no decoder",
    "HDF5": "it contains arrays, and Pillow has no decoder",
    "FITS": "it contains measurements without a defined white level",
    "MCIDAS": "it contains measurements without a defined white level",
    "SPIDER": "it contains measurements without a defined white level",
    "IPTC": "it contains text about a photo",
}
"""Formats that Pillow opens but that are not accepted as photos, by Pillow's names, with the reason."""

MAX_PIXELS = 100_000_000
"""Most pixels of a decoded photo. A larger JPEG is decoded at a smaller scale; other formats are refused."""

_MAX_MANY_SCANS = 2 * MAX_PIXELS
"""Most stored pixels of a progressive JPEG: at any scale, its decoder needs 6 bytes of memory for each."""

_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
_AVIF_BRANDS = {b"avif", b"avis"}
_EXPORT = "export it as JPEG, TIFF or PNG with the camera maker's program, darktable or RawTherapee"
_RAW_STARTS = (
    (b"FUJIFILMCCD-RAW", "Fujifilm"),
    (b"IIRO", "Olympus"),
    (b"IIRS", "Olympus"),
    (b"MMOR", "Olympus"),
    (b"IIU\0", "Panasonic"),
    (b"FOVb", "Sigma"),
    (b"\0MRM", "Minolta"),
)
"""The first bytes of raw files that are not TIFF, and the maker of the camera."""

_JXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

_ORIENTATION = 274
"""EXIF tag of the orientation."""

_MAKE, _SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 271, 254, 330, 50706
"""TIFF tags: the maker of the camera, the kind of the image (1: a smaller version), other images, the DNG version."""

_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Value of Pillow's Transpose for each orientation; the same in all its versions."""

Opener = Tuple[str, Callable[..., Any], Any]
"""Pillow's name of a format, the function that opens it, and the one that checks the first bytes or None."""


def open_photo(content: bytes, source: str) -> ImageFile:
    """Open the first image of a photo file without decoding it, after checking the limits. Raises BadPhoto.

    The formats are tried here instead of by `PIL.Image.open`, which hides the decoders' messages and whose pixel limit
    refuses large JPEGs that are decoded at a smaller scale.
    """
    if not content:
        raise BadPhoto("is empty", hint="replace or delete the file", code="TP1060", subject=source)
    _check_pixels(pixels_before_opening(content), source)
    reasons: list[str] = []
    for name, factory, accept in _openers():
        accepted = accept(content[:16]) if accept else True
        if not accepted:
            continue
        if isinstance(accepted, str):  # the plugin exists, but a library that it needs is missing
            reasons.append(accepted)
            continue
        try:
            image: ImageFile = factory(io.BytesIO(content), "")
        except Exception as error:  # noqa: BLE001 - decoders raise exceptions of any class for damaged files
            if accept:
                reasons.append(f"{name}: {_message_of(error)}")
            continue
        _check_raw(image, content, source)
        if name not in ("JPEG", "MPO"):
            _check_pixels(image.width * image.height, source)
        return image
    raise _unreadable(content, source, reasons)


def shrink_jpeg(image: ImageFile, content: bytes, side: int, source: str) -> None:
    """Set the scale at which a JPEG is decoded, 1 to 1/8: the smallest at which each side has at least `side` pixels.

    If the photo then has more pixels than the limit, the largest scale within the limit is used; BadPhoto is raised if
    there is none. Photos of other formats are not changed.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    width, height = image.size
    wanted = max(1, min(width // side, height // side))
    scale = max(factor for factor in (1, 2, 4, 8) if factor <= wanted)
    if width * height <= MAX_PIXELS:
        image.draft(None, (side, side))
        return
    while scale < 8 and width * height > MAX_PIXELS * scale**2:
        scale *= 2
    if jpeg_has_many_scans(content):
        _check_pixels(width * height, source, _MAX_MANY_SCANS, " for a progressive JPEG")
    image.draft(None, (max(1, width // scale), max(1, height // scale)))
    _check_pixels(image.width * image.height, source)


def upright(image: Image.Image) -> Image.Image:
    """The decoded image, rotated or mirrored according to its metadata."""
    return turned(image, orientation_of(image))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of a decoded image; 1 if it has none."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a damaged EXIF block has no orientation; the pixels can still be used
        return 1
    return orientation if orientation in _TURNS else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image rotated or mirrored according to an EXIF orientation; the same image for 1."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


@lru_cache(maxsize=None)
def _openers() -> tuple[Opener, ...]:
    """Name, factory and accept function of each format that is read."""
    from PIL import Image

    # BadPhoto reports what is wrong with a photo; Pillow's warnings would repeat it.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    Image.init()
    with suppress(ImportError):  # HEIC needs an optional plugin
        from pillow_heif import register_heif_opener

        register_heif_opener()
    # Formats that check the first bytes come first, before those that accept any file.
    names = sorted((name for name in Image.ID if name not in EXCLUDED), key=lambda name: Image.OPEN[name][1] is None)
    return tuple((name, *Image.OPEN[name]) for name in names)


def _check_pixels(count: int, source: str, most: int | None = None, where: str = "") -> None:
    """Raise BadPhoto for more than `most` pixels, by default MAX_PIXELS; `where` names the photos with this limit."""
    most = MAX_PIXELS if most is None else most
    if count > most:
        raise BadPhoto(
            f"has {count / 1e6:.0f} megapixels, but at most {most // 10**6} are allowed{where}",
            hint="make it smaller",
            code="TP1061",
            subject=source,
        )


def _check_raw(image: Image.Image, content: bytes, source: str) -> None:
    """Raise BadPhoto for a camera's raw file in TIFF format, of which Pillow would decode the thumbnail."""
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.format != "TIFF":
        return
    is_dng, has_others = tags.get(_DNG_VERSION) is not None, tags.get(_SUB_IFDS) is not None
    is_smaller = tags.get(_SUBFILE_TYPE, 0) == 1
    if is_dng or content[8:10] == b"CR" or (is_smaller and has_others):
        maker = str(tags.get(_MAKE) or "").strip("\0 ")
        raise _raw(source, maker)


def _raw(source: str, maker: str) -> BadPhoto:
    return BadPhoto(
        f"is a camera's raw file{f' ({maker})' if maker else ''}, not a developed photo",
        hint=_EXPORT,
        code="TP1062",
        subject=source,
    )


def _unreadable(content: bytes, source: str, reasons: list[str]) -> BadPhoto:
    """The error for a file that no decoder accepted, with its kind by the first bytes, and the decoders' messages."""
    details = f": {'; '.join(reasons)}" if reasons else ""
    for start, maker in _RAW_STARTS:
        if content.startswith(start):
            return _raw(source, maker)
    if content.startswith(_JXL_STARTS):
        what = f"is a JPEG XL photo, which Pillow does not decode{details}"
        return BadPhoto(what, hint="convert it to JPEG or PNG", code="TP1063", subject=source)
    if content[4:8] == b"ftyp":
        return _unreadable_container(content, source, details)
    excluded, kind = _excluded(content), kind_of_content(content[:START])
    if kind and kind.name != "photo" and not excluded and not reasons:
        return BadPhoto(
            f"is not a photo that can be read: it is {kind.words}",
            hint=kind.remedy_for(Path(source)),
            code="TP1064",
            subject=source,
        )
    if excluded:
        details = f": it is {excluded}, and {EXCLUDED[excluded]}"
    return BadPhoto(
        f"is not a photo that can be read{details or f': no known format starts with {content[:12]!r}'}",
        hint="convert it to JPEG or PNG, or delete it",
        code="TP1065",
        subject=source,
    )


def _unreadable_container(content: bytes, source: str, details: str) -> BadPhoto:
    """`_unreadable` for the ISO base media format (ISO/IEC 14496-12), whose brands distinguish photos and videos."""
    size = min(int.from_bytes(content[:4], "big"), 256)
    brands = {content[8:12], *(content[at : at + 4] for at in range(16, size, 4))}
    if b"crx " in brands:
        return _raw(source, "Canon")
    if brands & _AVIF_BRANDS:
        install = (
            "convert it to JPEG, or install a Pillow that decodes AVIF, 11.3 or later: pip install --upgrade pillow"
        )
        return BadPhoto(f"is an AVIF photo that can't be decoded{details}", hint=install, code="TP1066", subject=source)
    if brands & _HEIC_BRANDS:
        if "HEIF" in {name for name, _, _ in _openers()}:
            return BadPhoto(
                f"is a HEIC photo that can't be decoded{details}",
                hint="replace or delete the file",
                code="TP1067",
                subject=source,
            )
        return BadPhoto(
            "is a HEIC photo, which needs pillow-heif",
            hint="pip install 'trtpoets[heif]'",
            code="TP1068",
            subject=source,
        )
    return BadPhoto(
        "is a video, not a photo", hint="save its frames as JPEG, or delete it", code="TP1069", subject=source
    )


def _excluded(content: bytes) -> str:
    """Pillow's name of a format of EXCLUDED that accepts the first bytes; empty if there is none."""
    from PIL import Image

    for name in EXCLUDED:
        accept = Image.OPEN.get(name, (None, None))[1]
        if accept and accept(content[:16]):
            return name
    return ""


def _message_of(error: BaseException) -> str:
    return str(error) or type(error).__name__
