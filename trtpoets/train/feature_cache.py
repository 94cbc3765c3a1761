"""Stores bottlenecks on disk: one append-only feature cache per extractor, which tolerates damage and interruption.

A cache is a folder of segments, each of two files. `index` begins with a line of JSON (format, key, width), followed by
36 bytes per row: the sha256 of the photo, and a CRC-32 of the sha256 and the features. `features` contains the rows,
float32. Readers read all segments side by side.

Many processes, also on several machines that share the folder, may write at the same time: each writes to a segment of
its own. A writer takes the first segment that no other process has locked (`index`, `index.1`, `index.2`, ...), so that
there are as many segments as there were writers at once. On a disk without locks, or after `_LOCKED_SEGMENTS`, each
writer starts a segment with a random name.

A row is written before its index entry. A writer that is killed leaves at worst a row without an entry or an incomplete
entry, which the next writer of the segment overwrites. Readers take no lock: a row with a wrong checksum (half-written,
damaged, lost in a power failure) counts as missing, and is computed and appended again. For the same reason nothing is
synced to the disk.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import stat
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput, StorageFailed
from trtpoets.core.locks import trying, waiting_for
from trtpoets.core.own_files import names_in, open_folder, open_own, read_own
from trtpoets.core.storage import chosen_by, storage_failure
from trtpoets.core.types import hash_of
from trtpoets.train.row_file import release

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FORMAT = 1
_HEADER = 512
_ENTRY = np.dtype([("photo", "u1", (32,)), ("crc", "<u4")])
_WINDOW = 1024
_LOCKED_SEGMENTS = 100
"""Number of segments that are protected by locks; each has a lock file."""

_NAME = re.compile("[0-9a-f]{32}")
_FILE = re.compile(r"(index|features)((?:\.[0-9a-z]+)?)")
"""Names of the files of a segment; the second group identifies it, and is empty for the first segment."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureCacheInfo:
    """A feature cache on disk: its key, row width, number of photos, size in bytes and time of last use (epoch s)."""

    path: Path
    key: str
    width: int
    photos: int
    bytes: int
    used: float


class FeatureCache:
    """A cache of the features of one extractor. The sha256 of a photo's bytes identifies its row.

    An instance may be used by several threads.
    """

    def __init__(self, folder: Path, key: str, width: int) -> None:
        self.path = folder / _name(key, width)
        self._header = _header(key, width)
        self._width = width
        self._mutex = threading.Lock()
        self._segment = 0
        self._unlocked_segment = ""

    def fill(self, wanted: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Copy the features of the photos `wanted` (sha256, hex) that are in the cache into `rows` (N, width).

        Returns bool (N,): which rows were filled. The files are mapped in windows, so that reading needs hardly any
        memory besides `rows`.
        """
        names, first, photo_of = np.unique(_digests(wanted), return_index=True, return_inverse=True)
        filled = np.zeros(len(names), dtype=bool)
        for segment, index in self._indices():
            stored_names = np.ascontiguousarray(index["photo"]).view("S32").ravel()
            photos = np.minimum(np.searchsorted(names, stored_names), max(len(names) - 1, 0))
            stored = np.flatnonzero(names[photos] == stored_names) if len(names) else photos[:0]
            for start in range(0, len(stored), _WINDOW):
                window = stored[start : start + _WINDOW]
                features = self._features(segment, int(window[0]), int(window[-1]) + 1)
                for row, photo in zip(window.tolist(), photos[window].tolist(), strict=True):
                    values = features[row - window[0]]
                    if not filled[photo] and _crc(index["photo"][row].tobytes(), values) == index["crc"][row]:
                        rows[first[photo]] = values
                        filled[photo] = True
                release(rows)
            if len(stored):
                self._touch(segment)
        photo_of = photo_of.reshape(-1)
        repeated = np.flatnonzero(filled[photo_of] & (first[photo_of] != np.arange(len(photo_of))))
        for place in repeated.tolist():
            rows[place] = rows[first[photo_of[place]]]
        return np.asarray(filled[photo_of])

    def has(self, wanted: Sequence[str]) -> np.ndarray:
        """Return which photos have a row in the cache, bool (N,). Only the index is read: a row may be damaged."""
        names = _digests(wanted)
        found = np.zeros(len(names), dtype=bool)
        for _, index in self._indices():
            found |= np.isin(names, np.ascontiguousarray(index["photo"]).view("S32").ravel())
        return found

    def append(self, sha256s: Sequence[str], rows: np.ndarray) -> None:
        """Add features, float32 (N, width). Raises StorageFailed; the rows stored before remain valid."""
        names = [bytes.fromhex(sha256) for sha256 in sha256s]
        entries = np.zeros(len(names), dtype=_ENTRY)
        for entry, name, values in zip(entries, names, rows, strict=True):
            entry["photo"] = np.frombuffer(name, dtype=np.uint8)
            entry["crc"] = _crc(name, values)
        with _storing(self.path), self._own_segment() as segment:
            self.path.mkdir(parents=True, exist_ok=True)
            with (
                _folder(self.path) as folder,
                _opened(self.path / f"index{segment}", folder) as index,
                _opened(self.path / f"features{segment}", folder) as features,
            ):
                count = self._count(os.pread(index, _HEADER, 0), os.fstat(index).st_size)
                if count is None:
                    _log.warning("the bottlenecks in %s are damaged and will be computed again", self.path)
                if not count:
                    os.ftruncate(index, 0)
                    _write(index, self._header, 0)
                    count = 0
                _write(features, np.ascontiguousarray(rows, dtype="<f4").tobytes(), count * self._width * 4)
                _write(index, entries.tobytes(), _HEADER + count * _ENTRY.itemsize)

    @contextmanager
    def _own_segment(self) -> Iterator[str]:
        """Yield the end of the file names of a segment that no other writer uses inside the block.

        The search starts at the segment that this instance used last, so that its rows stay together.
        """
        with self._mutex, _folder(self.path.parent, make=True):
            if self._unlocked_segment:
                yield self._unlocked_segment
                return
            for number in range(self._segment, _LOCKED_SEGMENTS):
                with trying(_lock_file(self.path, number)) as held:
                    if held:
                        self._segment = number
                        yield f".{number}" if number else ""
                        return
                if held is None:
                    break
            self._unlocked_segment = f".{secrets.token_hex(8)}"
            yield self._unlocked_segment

    def _indices(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each segment and the entries whose rows exist; none if the cache is missing."""
        with _storing(self.path):
            try:
                with _folder(self.path) as folder:
                    segments = _segments(names_in(folder))
            except FileNotFoundError:
                return
        for segment in segments:
            index = self._index(segment)
            if len(index):
                yield segment, index

    def _index(self, segment: str) -> np.ndarray:
        """Return the entries of a segment whose rows exist; none if its header is damaged."""
        with _storing(self.path):
            try:
                with _folder(self.path) as folder:
                    content = read_own(self.path / f"index{segment}", folder=folder)
                    with _opened(self.path / f"features{segment}", folder, os.O_RDONLY) as features:
                        rows = os.fstat(features).st_size // (self._width * 4)
            except FileNotFoundError:
                return np.zeros(0, dtype=_ENTRY)
        count = min(self._count(content[:_HEADER], len(content)) or 0, rows)
        return np.frombuffer(content, dtype=_ENTRY, count=count, offset=_HEADER) if count else np.zeros(0, _ENTRY)

    def _features(self, segment: str, start: int, stop: int) -> np.ndarray:
        with (
            _storing(self.path),
            _folder(self.path) as folder,
            _opened(self.path / f"features{segment}", folder, os.O_RDONLY) as features,
            os.fdopen(os.dup(features), "rb") as stream,
        ):
            return np.memmap(
                stream,
                dtype="<f4",
                mode="r",
                offset=start * self._width * 4,
                shape=(stop - start, self._width),
            )

    def _count(self, header: bytes, size: int) -> int | None:
        """Return the number of complete entries in an index of this size; None if the header is not of this cache."""
        if not size:
            return 0
        return (size - _HEADER) // _ENTRY.itemsize if header == self._header else None

    def _touch(self, segment: str) -> None:
        try:
            with _folder(self.path) as folder:
                os.utime(f"index{segment}", dir_fd=folder, follow_symlinks=False)
        except OSError:  # a read-only cache can still be used
            _log.debug("can't update the time of last use of %s", self.path)


def feature_caches_in(folder: Path) -> tuple[FeatureCacheInfo, ...]:
    """Return the feature caches in a folder, the last used first; links and anything else are ignored.

    The name of a cache's folder follows from the header of its index. Raises StorageFailed.
    """
    with _storing(folder):
        try:
            with _folder(folder) as handle:
                names = sorted(names_in(handle))
        except FileNotFoundError:
            return ()
    infos = (_info(folder / name) for name in names if _NAME.fullmatch(name))
    return tuple(sorted((info for info in infos if info), key=lambda info: -info.used))


def prune_feature_caches(folder: Path, older_than_days: float = 0) -> tuple[FeatureCacheInfo, ...]:
    """Delete the caches last used more than `older_than_days` days ago, or all at 0; return those deleted.

    Only the files of a cache are deleted, and its folder if it is empty then. A process that is writing to a cache
    is not disturbed: it starts the cache again. Raises BadInput, StorageFailed.
    """
    if not older_than_days >= 0:
        raise BadInput(
            f"the number of days must be at least 0, not {older_than_days}", hint="use 0 to delete all", code="TP2021"
        )
    limit = time.time() - older_than_days * 86400
    deleted = []
    for info in feature_caches_in(folder):
        if not older_than_days or info.used <= limit:
            with _storing(info.path), _lock(info.path):
                if _delete(info):
                    deleted.append(info)
    return tuple(deleted)


def _info(path: Path) -> FeatureCacheInfo | None:
    """Return the cache at `path`; None if it has no valid segment."""
    try:
        with _folder(path) as folder:
            parts = [part for name in _segments(names_in(folder)) if (part := _segment_info(path, name, folder))]
    except (OSError, StorageFailed):
        return None
    if not parts:
        return None
    first = parts[0]
    total_photos, total_bytes = (sum(getattr(part, name) for part in parts) for name in ("photos", "bytes"))
    return FeatureCacheInfo(path, first.key, first.width, total_photos, total_bytes, max(part.used for part in parts))


def _segment_info(path: Path, segment: str, folder: int) -> FeatureCacheInfo | None:
    """Return a segment of the cache at `path` as if it were the whole; None if it is damaged."""
    try:
        with _opened(path / f"index{segment}", folder, os.O_RDONLY) as index:
            header, status = os.pread(index, _HEADER, 0), os.fstat(index)
            features = os.stat(f"features{segment}", dir_fd=folder, follow_symlinks=False)
        fields = json.loads(header)
        key, width = str(fields["key"]), int(fields["width"])
    except (OSError, StorageFailed, ValueError, KeyError, TypeError):
        return None
    if header != _header(key, width) or path.name != _name(key, width) or not stat.S_ISREG(features.st_mode):
        return None
    photos = max(0, status.st_size - _HEADER) // _ENTRY.itemsize
    return FeatureCacheInfo(path, key, width, photos, status.st_size + features.st_size, status.st_mtime)


def _segments(names: Sequence[str]) -> list[str]:
    """Return the segments among the file names of a cache, the first one first."""
    found = {match[2] for name in names if (match := _FILE.fullmatch(name)) and match[1] == "index"}
    return sorted(found, key=lambda segment: (len(segment), segment))


def _delete(info: FeatureCacheInfo) -> bool:
    """Delete a cache and return whether it still existed. A folder with other files is kept."""
    if _info(info.path) is None:
        return False
    with _folder(info.path) as folder:
        for name in names_in(folder):
            if _FILE.fullmatch(name):
                os.unlink(name, dir_fd=folder)
        other_files = names_in(folder)
    if other_files:
        _log.warning("%s is kept, because %s in it does not belong to trtpoets", info.path, other_files[0])
    else:
        info.path.rmdir()
    return True


def _digests(sha256s: Sequence[str]) -> np.ndarray:
    """Return hexadecimal digests as bytes, in an array of dtype S32, in which equal digests compare equal."""
    return np.fromiter(map(bytes.fromhex, sha256s), "S32", len(sha256s))


def _name(key: str, width: int) -> str:
    return hash_of([_FORMAT, key, width])[:32]


def _header(key: str, width: int) -> bytes:
    text = json.dumps({"format": _FORMAT, "key": key, "width": width}).encode()
    if len(text) >= _HEADER:
        raise ValueError(f"the key of the extractor is too long: {len(key)} characters")
    return text.ljust(_HEADER - 1) + b"\n"


def _crc(name: bytes, values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values, dtype="<f4").data, zlib.crc32(name))


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Convert errors of the disk to StorageFailed."""
    try:
        with chosen_by(path, "set TRTPOETS_CACHE"):
            yield
    except OSError as error:
        failure = storage_failure(error, path, "use")
        if failure is None:
            raise
        hint = "free some space (trtpoets cache --prune), or set TRTPOETS_CACHE to another folder"
        raise StorageFailed(failure.message, hint=hint, code="TP2022") from error


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Wait for the lock of a cache's first segment and hold it."""
    with _folder(cache.parent, make=True), waiting_for(_lock_file(cache), "the cache"):
        yield


def _lock_file(cache: Path, segment: int = 0) -> Path:
    """Return the lock file of a segment. It is beside the cache, so that the cache can be deleted."""
    return cache.parent / f".{cache.name}{f'.{segment}' if segment else ''}.lock"


@contextmanager
def _folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """Open a folder of the cache, which must not be a link; yield its descriptor."""
    if make:
        path.mkdir(parents=True, exist_ok=True)
    handle = open_folder(path)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _opened(path: Path, folder: int, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    handle = open_own(path, flags, folder=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _write(handle: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
