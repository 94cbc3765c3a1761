"""Recognises files and folders that systems, tools and trtpoets leave beside photos; they are ignored."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.files import storage_errors
from trtpoets.core.manifest import MANIFEST
from trtpoets.core.paths import cache_root
from trtpoets.core.reading import read_start

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

_NAMES = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r", "iconcache.db"),
        *("__macosx", "lost+found", "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
        *("$recycle.bin", "recycler", "system volume information", "found.000", "__pycache__", "node_modules"),
        *("network trash folder", "temporary items", "thumbs.db:encryptable", "zbthumbnail.info", "pspbrwse.jbf"),
        *("cvs", "nohup.out", "index.html", "classes.txt", "labels.txt", "data.yaml", "checksums.txt", "md5sums"),
    }
)
"""Names, in lower case, that file systems, operating systems and tools write. Hidden files are ignored too."""

_NAME_PATTERN = re.compile(
    r"(readme|license|licence|copying|notice|citation|changelog|attribution)([_. -][^.]*)?"
    r"(\.(txt|md|rst|html?|pdf|docx?|cff))?"
    r"|.*\.(tmp|temp|part|partial|crdownload|download|lnk|url|webloc|lock|swp|bak|pyc)|.*~"
    r"|sync-conflict-.*|sha(1|256|512)sums?(\.txt)?",
    re.IGNORECASE,
)

PHOTO_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".heic"),
        *(".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".mpo", ".tga"),
    }
)
"""Suffixes of photos. They are only used to decide whether a folder seems to contain photos."""

_SIDECARS = frozenset(
    {".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".xmp", ".aae", ".thm", ".pp3", ".dop", ".md5"}
)
"""Suffixes of files that describe the photo of the same name."""

_CARD = re.compile(rb'\{\s*"key":\s*"[0-9a-f]{16,64}",\s*"files":\s*\{')
_START = 400


class Entries:
    """Lists folders without ignored files, and counts the ignored ones by name."""

    def __init__(self, logger: logging.Logger = _log) -> None:
        self._logger = logger
        self._listed: dict[Path, tuple[list[Path], list[Path]]] = {}
        self._empty: set[Path] = set()
        self.ignored: Counter[str] = Counter()

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in `folder`, sorted by name; [] if it cannot be read, with a warning."""
        return self._list(folder)[0]

    def files(self, folder: Path) -> list[Path]:
        """Return everything else in `folder`, sorted by name; [] if it cannot be read, with a warning."""
        return self._list(folder)[1]

    def warn_empty(self, folder: Path) -> None:
        """Log a warning, once per folder, that a folder contains no possible photo."""
        if folder not in self._empty:
            self._empty.add(folder)
            self._logger.warning("%s is empty, so it is not used as a class", folder)

    def report(self) -> None:
        """Log how many files and folders were ignored, by name."""
        if self.ignored:
            most = ", ".join(f"{count} {name}" for name, count in self.ignored.most_common(5))
            more = f" and {len(self.ignored) - 5} other names" if len(self.ignored) > 5 else ""
            self._logger.info("ignored, because they are not photos: %s%s", most, more)

    def _list(self, folder: Path) -> tuple[list[Path], list[Path]]:
        if folder not in self._listed:
            self._listed[folder] = self._read(folder)
        return self._listed[folder]

    def _read(self, folder: Path) -> tuple[list[Path], list[Path]]:
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names, as bytes sort
        except OSError as error:
            if not isinstance(error, PermissionError):  # otherwise photos would be missing without notice
                with storage_errors(folder, "read"):
                    raise
            self._logger.warning("%s can't be read (%s) and is ignored", folder, error.strerror)
            return [], []
        photos = {name for name in names if Path(name).suffix.lower() in PHOTO_SUFFIXES}
        stems = {stem_of(name) for name in photos} | photos
        folders, files = [], []
        for name in names:
            path = folder / name
            is_folder = path.is_dir()
            if name.startswith(".") and not name.startswith("._"):
                continue
            if is_ignored_name(name, is_folder=is_folder):
                self.ignored[name if len(name) < 30 and not name.startswith("._") else "._*"] += 1
            elif is_folder and (origin := written_by_program(path)):
                self.ignored[f"{origin} {name!r}"] += 1
            elif is_folder:
                folders.append(path)
            elif _is_sidecar(name) and stem_of(name) in stems:
                self.ignored[f"*{Path(name).suffix.lower()} beside photos"] += 1
            else:
                files.append(path)
        return folders, files


def is_ignored_name(name: str, *, is_folder: bool = False) -> bool:
    """Return whether operating systems or tools write files (or folders) of this name."""
    return name.startswith("._") or name.lower() in _NAMES or (not is_folder and bool(_NAME_PATTERN.fullmatch(name)))


def stem_of(name: str) -> str:
    """Return a file name without its last suffix."""
    return Path(name).stem


def written_by_program(folder: Path) -> str:
    """Return what wrote a folder, judging by its content: "run of trtpoets", ...; empty if unknown."""
    names = _names(folder)
    if "pyvenv.cfg" in names or "conda-meta" in names:
        return "Python environment"
    if is_run(folder, names):
        return "run of trtpoets"
    if MANIFEST in names and _is_bundle(folder / MANIFEST):
        return "bundle of trtpoets"
    if _is_cache(folder):
        return "cache of trtpoets"
    locks = {name[1:-5] for name in names if name.startswith(".") and name.endswith(".lock")}
    inside = [folder / name for name in names if not name.startswith(".") and (folder / name).is_dir()]
    if inside and all(path.name in locks or is_run(path, _names(path)) for path in inside):
        return "folder with runs of trtpoets"
    return ""


def is_run(folder: Path, names: Sequence[str]) -> bool:
    """Return whether one of the JSON files in `folder` is a card of trtpoets."""
    if "classifier" in names and "classifier.json" not in names and (folder / "classifier" / "model.json").is_file():
        return True
    return any(_CARD.match(_start(folder / name)) for name in names if name.endswith(".json"))


def _is_bundle(manifest: Path) -> bool:
    start = _start(manifest)
    return b'"format"' in start and b'"target"' in start


def _is_cache(folder: Path) -> bool:
    try:
        return folder.samefile(cache_root())
    except (OSError, RuntimeError):
        return False


def _is_sidecar(name: str) -> bool:
    return Path(name).suffix.lower() in _SIDECARS


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names only
    except OSError:
        return []


def _start(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        return read_start(path, _START)
    except OSError:
        return b""
