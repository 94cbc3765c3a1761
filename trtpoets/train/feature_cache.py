"""Where bottlenecks are kept: one append-only store for each extractor, that survives anything done to it.

A store is a folder of two files. `index` begins with a line of JSON (format, key, width), then has 36 bytes a row: the
photo's sha256 and a CRC-32 of it and its features. `features` has the rows themselves, float32, and nothing else.

A row is written before its index entry, both under a lock, so a writer killed at any moment leaves at worst a row
without an entry, or a part of an entry: the next writer writes over it. Readers take no lock: a row whose checksum
fails (half-written, damaged, lost in a power cut) is as good as absent, and is computed and appended again. That is
also why nothing is synced to the disk.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput, StorageFailed
from trtpoets.core.locks import waiting_for
from trtpoets.core.own_files import names_in, open_folder, open_own, read_own
from trtpoets.core.storage import chosen_by, storage_failure
from trtpoets.core.types import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FORMAT = 1
_HEADER = 512
_ENTRY = np.dtype([("photo", "u1", (32,)), ("crc", "<u4")])
_WINDOW = 1024
_NAME = re.compile("[0-9a-f]{32}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreInfo:
    """A store on disk: whose features, how wide, of how many photos, its size and when it was last used (epoch s)."""

    path: Path
    key: str
    width: int
    photos: int
    bytes: int
    used: float


class Store:
    """The features that one extractor gave, by the sha256 of the photo's bytes."""

    def __init__(self, folder: Path, key: str, width: int) -> None:
        self.path = folder / _name(key, width)
        self._header = _header(key, width)
        self._width = width

    def fill(self, wanted: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Copy the features of the photos `wanted` (sha256, hex) that are stored into `rows` (N, width).

        Returns a bool (N,): which rows were found, whole. The file is mapped a window at a time, so that reading adds
        next to nothing to the memory of `rows`.
        """
        found = np.zeros(len(wanted), dtype=bool)
        index = self._index()
        places: dict[bytes, list[int]] = {}
        for place, sha256 in enumerate(wanted):
            places.setdefault(bytes.fromhex(sha256), []).append(place)
        names = index["photo"].tobytes()
        stored = [row for row in range(len(index)) if names[32 * row : 32 * row + 32] in places]
        for start in range(0, len(stored), _WINDOW):
            window = stored[start : start + _WINDOW]
            features = self._features(window[0], window[-1] + 1)
            for row in window:
                values = features[row - window[0]]
                if _crc(names[32 * row : 32 * row + 32], values) == index["crc"][row]:
                    for place in places[names[32 * row : 32 * row + 32]]:
                        rows[place] = values
                        found[place] = True
        if stored:
            self._touch()
        return found

    def append(self, sha256s: Sequence[str], rows: np.ndarray) -> None:
        """Add features, float32 (N, width). Raises StorageFailed; what was stored before stays."""
        names = [bytes.fromhex(sha256) for sha256 in sha256s]
        entries = np.zeros(len(names), dtype=_ENTRY)
        for entry, name, values in zip(entries, names, rows, strict=True):
            entry["photo"] = np.frombuffer(name, dtype=np.uint8)
            entry["crc"] = _crc(name, values)
        with _storing(self.path), _lock(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with (
                _folder(self.path) as folder,
                _opened(self.path / "index", folder) as index,
                _opened(self.path / "features", folder) as features,
            ):
                count = self._count(os.pread(index, _HEADER, 0), os.fstat(index).st_size)
                if count is None:
                    _log.warning("the bottlenecks in %s are damaged: computing them again", self.path)
                if not count:
                    os.ftruncate(index, 0)
                    _write(index, self._header, 0)
                    count = 0
                _write(features, np.ascontiguousarray(rows, dtype="<f4").tobytes(), count * self._width * 4)
                _write(index, entries.tobytes(), _HEADER + count * _ENTRY.itemsize)

    def _index(self) -> np.ndarray:
        """The entries whose rows are there. None is given where the store is absent or its header is damaged."""
        with _storing(self.path):
            try:
                with _folder(self.path) as folder:
                    content = read_own(self.path / "index", folder=folder)
                    with _opened(self.path / "features", folder, os.O_RDONLY) as features:
                        rows = os.fstat(features).st_size // (self._width * 4)
            except FileNotFoundError:
                return np.zeros(0, dtype=_ENTRY)
        count = min(self._count(content[:_HEADER], len(content)) or 0, rows)
        return np.frombuffer(content, dtype=_ENTRY, count=count, offset=_HEADER) if count else np.zeros(0, _ENTRY)

    def _features(self, start: int, stop: int) -> np.ndarray:
        with (
            _storing(self.path),
            _folder(self.path) as folder,
            _opened(self.path / "features", folder, os.O_RDONLY) as features,
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
        """How many whole entries an index of this header and size has; None when the header is not ours."""
        if not size:
            return 0
        return (size - _HEADER) // _ENTRY.itemsize if header == self._header else None

    def _touch(self) -> None:
        try:
            with _folder(self.path) as folder:
                os.utime("index", dir_fd=folder, follow_symlinks=False)
        except OSError:  # a cache that may only be read still serves
            _log.debug("can't mark %s as used", self.path)


def stores_in(folder: Path) -> tuple[StoreInfo, ...]:
    """The stores in a folder of stores, the last used first. What is not a store, whole, is passed over, and links.

    A store is a folder whose name follows from what its index begins with. Raises StorageFailed.
    """
    with _storing(folder):
        try:
            with _folder(folder) as handle:
                names = sorted(names_in(handle))
        except FileNotFoundError:
            return ()
    infos = (_info(folder / name) for name in names if _NAME.fullmatch(name))
    return tuple(sorted((info for info in infos if info), key=lambda info: -info.used))


def prune_stores(folder: Path, older_than_days: float = 0) -> tuple[StoreInfo, ...]:
    """Delete the stores that were last used more than so many days ago, or all at 0; returns what was deleted.

    Of a store its two files are deleted, and its folder where nothing else is in it. A process that is filling one
    goes on undisturbed: it begins the store anew. Raises BadInput, StorageFailed.
    """
    if not older_than_days >= 0:
        raise BadInput(
            f"stores not used for {older_than_days} days", hint="give a number of days of at least 0", code="TP2021"
        )
    limit = time.time() - older_than_days * 86400
    gone = []
    for info in stores_in(folder):
        if not older_than_days or info.used <= limit:
            with _storing(info.path), _lock(info.path):
                if _delete(info):
                    gone.append(info)
    return tuple(gone)


def _info(path: Path) -> StoreInfo | None:
    """The store at `path`; None where there is none, or anything in its place."""
    try:
        with _folder(path) as folder, _opened(path / "index", folder, os.O_RDONLY) as index:
            header, status = os.pread(index, _HEADER, 0), os.fstat(index)
            features = os.stat("features", dir_fd=folder, follow_symlinks=False)
        told = json.loads(header)
        key, width = str(told["key"]), int(told["width"])
    except (OSError, StorageFailed, ValueError, KeyError, TypeError):
        return None
    if header != _header(key, width) or path.name != _name(key, width) or not stat.S_ISREG(features.st_mode):
        return None
    photos = max(0, status.st_size - _HEADER) // _ENTRY.itemsize
    return StoreInfo(path, key, width, photos, status.st_size + features.st_size, status.st_mtime)


def _delete(info: StoreInfo) -> bool:
    """Delete a store; whether it was still there. What else is in its folder stays, with the folder."""
    if _info(info.path) is None:
        return False
    with _folder(info.path) as folder:
        for name in ("features", "index"):
            os.unlink(name, dir_fd=folder)
        left = names_in(folder)
    if left:
        _log.warning("%s is left: %s in it is not of trtpoets", info.path, left[0])
    else:
        info.path.rmdir()
    return True


def _name(key: str, width: int) -> str:
    return hash_of([_FORMAT, key, width])[:32]


def _header(key: str, width: int) -> bytes:
    text = json.dumps({"format": _FORMAT, "key": key, "width": width}).encode()
    if len(text) >= _HEADER:
        raise ValueError(f"an extractor's key of {len(key)} characters")
    return text.ljust(_HEADER - 1) + b"\n"


def _crc(name: bytes, values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values, dtype="<f4").data, zlib.crc32(name))


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        with chosen_by(path, "set TRTPOETS_CACHE"):
            yield
    except OSError as error:
        failure = storage_failure(error, path, "use")
        if failure is None:
            raise
        hint = "free some space (trtpoets cache --prune), or set TRTPOETS_CACHE to a folder elsewhere"
        raise StorageFailed(failure.message, hint=hint, code="TP2022") from error


@contextmanager
def _lock(store: Path) -> Iterator[None]:
    """Wait for the store's lock and hold it. It lies beside the store, so that the store can be deleted under it.

    Where the disk has no locks, writers may spoil each other's rows: then their checksums are wrong.
    """
    with _folder(store.parent, make=True), waiting_for(store.parent / f".{store.name}.lock", "the cache"):
        yield


@contextmanager
def _folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """The descriptor of a folder of the cache, which may not be a link."""
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
