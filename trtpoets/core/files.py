"""Writing that survives being killed: temporary name, fsync, rename. Content hashes. Locks between processes."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, Iterator

from trtpoets.core.errors import BadArtefact, Busy, MissingArtefact, StorageFailed
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.paths import cache_root, temporary_root
from trtpoets.core.reading import LARGEST_JSON, blocks_of, read_text

_PART = ".part-"


_chosen: ContextVar[tuple[tuple[Path, str], ...]] = ContextVar("chosen", default=())


@contextmanager
def chosen_by(path: Path, setting: str) -> Iterator[None]:
    """Inside, an error of writing at or below `path` names `setting` as what chooses another place.

    Elsewhere the cache is chosen by TRTPOETS_CACHE, and all else by --engines.
    """
    token = _chosen.set(((path.absolute(), setting), *_chosen.get()))
    try:
        yield
    finally:
        _chosen.reset(token)


def _setting_of(path: Path) -> str:
    above = (path.absolute(), *path.absolute().parents)
    for place, setting in _chosen.get():
        if place in above:
            return setting
    return "set TRTPOETS_CACHE" if cache_root().absolute() in above else "--engines DIR"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give an empty folder that is gone afterwards. Raises StorageFailed, which names TMPDIR."""
    root = temporary_root()
    with chosen_by(root, "set TMPDIR"):
        with storage_errors(root):
            folder = Path(tempfile.mkdtemp(prefix="trtpoets-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_file() -> IO[bytes]:
    """A file without a name, that is gone when it is closed. Raises StorageFailed, which names TMPDIR."""
    root = temporary_root()
    with chosen_by(root, "set TMPDIR"), storage_errors(root):
        return tempfile.TemporaryFile()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of writing at `path` into StorageFailed with something to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"free some space, or choose another disk: {_setting_of(path)}; {_free_mib(path)} MiB are free there"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = f"choose a folder that you may write to: {_setting_of(path)}"
        elif error.errno == errno.ENAMETOOLONG:
            hint = "choose a shorter name"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            hint = f"something else is in the way: move it, or choose another folder: {_setting_of(path)}"
        else:
            raise
        raise StorageFailed(f"can't write {path}: {os.strerror(error.errno)}", hint) from error


def _free_mib(path: Path) -> int:
    folder = next((p for p in [path, *path.parents] if p.is_dir()), Path("/"))
    return shutil.disk_usage(folder).free >> 20


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it becomes `path`, on disk for good.

    Raises StorageFailed when the disk is full or may not be written; `path` is then as it was.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}{_PART}", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            _umask_mode(part)
            sync(part)
            part.replace(path)
            sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; on leaving without an error it takes `path`'s place.

    The old folder is moved aside first, so for an instant `path` may be absent: write the card that vouches for it
    afterwards, outside it.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}{_PART}", dir=path.parent))
        old = part.with_name(part.name + ".old")
        try:
            part.chmod(0o777 & ~_umask())
            yield part
            for file in sorted(part.rglob("*")):
                if file.is_file():
                    sync(file)
            if path.exists():
                path.replace(old)
            part.replace(path)
            sync(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8. File names that are not UTF-8 survive."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, for people to read too."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, most: int = LARGEST_JSON) -> Any:
    """Read a JSON file of at most `most` bytes. Raises MissingArtefact, NotReadable, BadArtefact for no JSON."""
    try:
        text = read_text(path, most, errors="surrogateescape")
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError as error:
        raise MissingArtefact(
            f"{path} is not there", hint="run the earlier stages: trtpoets run PHOTOS --name NAME"
        ) from error
    except (ValueError, RecursionError) as error:
        require_kind(path, "json", "text", "empty", expected="JSON")
        raise BadArtefact(f"{path} is not JSON: {error}", hint="delete it and run the stage that writes it") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


def sha256_of_file(path: Path) -> str:
    """sha256 (hex) of a regular file's bytes. Raises NotReadable, OSError."""
    digest = hashlib.sha256()
    for block in blocks_of(path):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_folder(path: Path) -> str:
    """sha256 (hex) over the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(
            f"{file.relative_to(path).as_posix()}\0{sha256_of_file(file)}\0".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


@contextmanager
def locked(path: Path, what: str, hint: str = "wait until it has finished, or choose another --name") -> Iterator[None]:
    """Hold the lock file at `path` while inside. Raises Busy, with `hint`, at once when another process holds it.

    Raises StorageFailed when it can't be written.
    The system drops the lock when its holder dies, however it dies.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read(20).strip() or "unknown"
            raise Busy(
                f"another trtpoets (process {holder}) is working on {what}",
                hint=hint,
            ) from None
        with storage_errors(path):  # past the stream's buffer, which would be written again when it is closed
            os.ftruncate(stream.fileno(), 0)
            os.write(stream.fileno(), str(os.getpid()).encode())
        yield


def sweep_parts(folder: Path, name: str = "") -> None:
    """Delete what killed writers left in `folder`, of `name` or of anything. Call it while holding its lock."""
    for part in folder.glob(f".{glob.escape(name[:60]) or '*'}{_PART}*"):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on disk for good."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _umask_mode(path: Path) -> None:
    path.chmod(0o666 & ~_umask())
