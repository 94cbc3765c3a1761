"""The sources of `classify`: photo files, folders, video files and cameras, distinguished by name and content."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.paths import user_path
from trtpoets.core.reading import read_start

_STILL_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
"""Brands of the ISO base media format (ISO/IEC 14496-12) that are photos: HEIF and AVIF."""

_VIDEO_HEADS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF: WMV
)

_CSI_SIZE = "width=1280,height=720"

_CSI = (
    f"nvarguscamerasrc sensor-id={{sensor}} ! video/x-raw(memory:NVMM),{_CSI_SIZE},framerate=30/1,format=NV12 ! "
    f"nvvidconv ! video/x-raw,{_CSI_SIZE},format=BGRx ! "
    "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
)
"""GStreamer pipeline for a CSI camera on a Jetson (Jetson Linux guide, "Accelerated GStreamer").

Without a size and a rate, the sensor's first mode is used, which may have 3,840 pixels width or 120 frames per second,
which `videoconvert` would convert on the CPU. nvvidconv scales in hardware.
"""

_STREAM = re.compile(r"(rtsps?|rtmp|https?|udp)://")
_CAMERA = re.compile(r"(camera|csi)(?::(\d+))?")


class Kind(Enum):
    """The kind of a source."""

    PHOTO = "photo"
    FOLDER = "folder"
    VIDEO = "video"
    CAMERA = "camera"


@dataclass(frozen=True)
class Source:
    """A source of photos. `name` is given by the user; `opened` is the argument of OpenCV's VideoCapture.

    `gstreamer` says that `opened` is a pipeline.
    """

    kind: Kind
    name: str
    opened: int | str = ""
    gstreamer: bool = False

    @property
    def path(self) -> Path:
        """The path of a photo, folder or video file."""
        return Path(self.name)


def source_of(word: str) -> Source:
    """The source for a path, "camera", "camera:1", "csi", /dev/video0, the address of a stream, or a pipeline.

    Raises BadInput if `word` is none of them.
    """
    named = _CAMERA.fullmatch(word)
    if named and not Path(word).exists():
        number = int(named.group(2) or 0)
        if named.group(1) == "csi":
            return Source(Kind.CAMERA, word, _CSI.format(sensor=number), gstreamer=True)
        return Source(Kind.CAMERA, word, number)
    if " ! " in word or _STREAM.match(word):
        return Source(Kind.CAMERA, word, word, gstreamer=" ! " in word)
    path = user_path(word)
    return Source(_kind_of(path), str(path), str(path))


def _kind_of(path: Path) -> Kind:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise BadInput(
            f"there is no photo, folder, video or camera {str(path)!r}",
            hint="give a path, camera, camera:1, csi, /dev/video0, rtsp://…, or a GStreamer pipeline",
            code="TP7008",
        ) from error
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    if stat.S_ISCHR(mode):
        return Kind.CAMERA
    if not stat.S_ISREG(mode):
        raise BadInput(
            f"{path} is not a file, folder or camera",
            hint="give a photo, a folder of photos, or a camera",
            code="TP7009",
        )
    return Kind.VIDEO if _is_video(path) else Kind.PHOTO


def _is_video(path: Path) -> bool:
    try:
        head = read_start(path, 16)
    except OSError:
        return False  # as a photo it is reported with the error
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILL_BRANDS
    return head.startswith(_VIDEO_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def photos_in(folder: Path) -> Iterator[tuple[Path, BadPhoto | None]]:
    """Yield the files below a folder in the order of their names, without hidden ones and links to folders.

    A folder that can't be read is yielded with its error.
    """
    try:
        with os.scandir(folder) as entries:
            inside = sorted(
                (entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError as error:
        yield (
            folder,
            BadPhoto(f"{folder} can't be read: {error.strerror}", hint="check who may read it", code="TP7010"),
        )
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            yield from photos_in(folder / entry.name)
        elif not entry.is_dir():
            path = folder / entry.name
            yield path, _file_problem(path)


def _file_problem(path: Path) -> BadPhoto | None:
    """The error for a path that is not a regular file; opening a pipe would block. None for a missing file."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return None
    except OSError:
        return None
    return BadPhoto(f"{path} is not a regular file", hint="delete it", code="TP7011")
