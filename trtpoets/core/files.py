"""Writing that survives being killed: temporary name, fsync, rename. Content hashes.

What may be a symbolic link and what may not is told in `own_files`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Iterator

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.locks import locked
from trtpoets.core.own_files import PART, open_own, remove_folder, require_no_link, sweep_parts, write_all
from trtpoets.core.paths import temporary_root
from trtpoets.core.reading import LARGEST_JSON, blocks_of, read_text
from trtpoets.core.storage import TMPDIR, UNSUPPORTED, chosen_by, storage_errors
from trtpoets.core.verified_files import once

__all__ = [
    "atomic_file",
    "atomic_folder",
    "chosen_by",
    "locked",
    "read_json",
    "sha256_of_file",
    "sha256_of_folder",
    "storage_errors",
    "sweep_parts",
    "sync",
    "temporary_file",
    "temporary_folder",
    "write_bytes",
    "write_json",
    "write_text",
]

_log = logging.getLogger(__name__)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give an empty folder that is gone afterwards. Raises StorageFailed, which names TMPDIR; also for what is written.

    An OSError inside that names a file elsewhere is raised as it is.
    """
    root = temporary_root()
    with chosen_by(root, TMPDIR):
        with storage_errors(root):
            folder = Path(tempfile.mkdtemp(prefix="trtpoets-"))
        try:
            yield folder
        except OSError as error:
            named = error.filename
            if not isinstance(named, (str, bytes)) or folder in (
                Path(os.fsdecode(named)),
                *Path(os.fsdecode(named)).parents,
            ):
                with storage_errors(folder):
                    raise
            raise
        finally:
            remove_folder(folder)


def temporary_file() -> IO[bytes]:
    """A file without a name, that is gone when it is closed. Raises StorageFailed, which names TMPDIR."""
    root = temporary_root()
    with chosen_by(root, TMPDIR), storage_errors(root):
        return tempfile.TemporaryFile()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it becomes `path`, on disk for good.

    Where `path` is a symbolic link, the link is replaced; what it leads to is left alone. Raises StorageFailed when the
    disk is full, fails or may not be written; `path` is then as it was.
    """
    with storage_errors(path):
        part, handle = _new_part(path)
        os.close(handle)
        with _dropped_at_the_end(part):
            yield part
            with _checked(part) as handle:
                _publish(handle, part, path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises StorageFailed, as `atomic_file` does."""
    with storage_errors(path):
        part, handle = _new_part(path)
        with _dropped_at_the_end(part), _closing(handle):
            write_all(handle, content)
            _publish(handle, part, path)


def _new_part(path: Path) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}{PART}", dir=path.parent)
    return Path(name), handle


def _publish(handle: int, part: Path, path: Path) -> None:
    with _where_supported("change the mode of", path, errno.EPERM, errno.EACCES):  # SMB and FAT keep no modes
        os.fchmod(handle, 0o666 & ~_umask())
    _flush(handle, path)
    part.replace(path)
    sync(path.parent)


@contextmanager
def _checked(part: Path) -> Iterator[int]:
    """The descriptor of a temporary file that others wrote by its name: it must still be a file of ours."""
    handle = open_own(part, os.O_RDWR)
    with _closing(handle):
        yield handle


@contextmanager
def _closing(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _dropped_at_the_end(part: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):  # what stays is swept by the next writer
            part.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; on leaving without an error it takes `path`'s place.

    The old folder is moved aside first, so for an instant `path` may be absent: write the card that vouches for it
    afterwards, outside it. Raises StorageFailed, where `path` is a symbolic link too; `path` is then as it was.
    """
    with storage_errors(path):
        require_no_link(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}{PART}", dir=path.parent))
        old = part.with_name(part.name + ".old")
        try:
            with _where_supported("change the mode of", path, errno.EPERM, errno.EACCES):
                part.chmod(0o777 & ~_umask())
            yield part
            for file in sorted(part.rglob("*")):
                if stat.S_ISREG(file.lstat().st_mode):
                    sync(file)
            _take_place(part, path, old)
            sync(path.parent)
        finally:
            remove_folder(part)
        remove_folder(old)


def _take_place(part: Path, path: Path, old: Path) -> None:
    there = os.path.lexists(path)
    if there:
        path.replace(old)
    try:
        part.replace(path)
    except BaseException:
        if there:
            try:
                old.replace(path)
            except OSError:
                _log.warning("what was at %s is now in %s", path, old)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8. File names that are not UTF-8 survive."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


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
            f"{path} is not there", hint="run the earlier stages: trtpoets run PHOTOS --name NAME", code="TP1012"
        ) from error
    except OSError as error:
        with storage_errors(path, "read"):
            raise error
    except (ValueError, RecursionError) as error:
        require_kind(path, "json", "text", "empty", expected="JSON")
        raise BadArtefact(
            f"{path} is not JSON: {error}", hint="delete it and run the stage that writes it", code="TP1013"
        ) from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


def sha256_of_file(path: Path) -> str:
    """sha256 (hex) of a regular file. Raises FileNotFoundError, NotReadable; StorageFailed where its disk fails."""

    def read() -> str:
        digest = hashlib.sha256()
        try:
            for block in blocks_of(path):
                digest.update(block)
        except FileNotFoundError:
            raise
        except OSError as error:
            with storage_errors(path, "read"):
                raise error
        return digest.hexdigest()

    return once("sha256", path, read)


def sha256_of_folder(path: Path) -> str:
    """sha256 (hex) over the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(
            f"{file.relative_to(path).as_posix()}\0{sha256_of_file(file)}\0".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on disk for good; where the disk can't promise that, go on.

    Raises OSError where the disk fails, or has no room after all.
    """
    is_folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if is_folder else os.O_NOFOLLOW))
    except PermissionError:
        if is_folder:  # names may be made in a folder that may not be read
            return
        raise
    with _closing(handle):
        _flush(handle, path)


def _flush(handle: int, path: Path) -> None:
    with _where_supported("sync", path, errno.EBADF, errno.EROFS):
        os.fsync(handle)


@contextmanager
def _where_supported(doing: str, path: Path, *more: int) -> Iterator[None]:
    """Go on where a disk lacks what is done inside: it makes writing safer, or files readable by others."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED and error.errno not in more:
            raise
        _log.debug("can't %s %s: %s", doing, path, os.strerror(error.errno))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
