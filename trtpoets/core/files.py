"""Atomic writing of files and folders (temporary name, fsync, rename), and content hashes.

`own_files` documents which paths may be symbolic links.
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
from itertools import chain
from pathlib import Path
from typing import IO, Any, Iterable, Iterator

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.locks import locked
from trtpoets.core.long_lists import document_from_blocks, indented_chunks
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
    "read_long_json",
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

_LONG_JSON = 1 << 20
"""Larger files are not parsed as a whole by `read_long_json`; in bytes."""

_log = logging.getLogger(__name__)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty temporary folder, which is deleted at the end.

    Raises StorageFailed, which names TMPDIR, if it can't be created or written. An OSError inside the block about a
    file outside the folder is raised unchanged.
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
    """An unnamed temporary file, deleted when it is closed. Raises StorageFailed, which names TMPDIR."""
    root = temporary_root()
    with chosen_by(root, TMPDIR), storage_errors(root):
        return tempfile.TemporaryFile()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; if the block succeeds, it is synced to disk and renamed to `path`.

    If `path` is a symbolic link, the link is replaced and its target is unchanged. Raises StorageFailed if the disk is
    full, fails or is not writable; `path` is then unchanged.
    """
    with storage_errors(path):
        part, handle = _new_part(path)
        os.close(handle)
        with _deleted_at_end(part):
            yield part
            with _checked(part) as handle:
                _publish(handle, part, path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises StorageFailed, as `atomic_file` does."""
    _write_blocks(path, [content])


def _write_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    with storage_errors(path):
        part, handle = _new_part(path)
        with _deleted_at_end(part), _closing(handle):
            for block in blocks:
                write_all(handle, block)
            _publish(handle, part, path)


def _new_part(path: Path) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}{PART}", dir=path.parent)
    return Path(name), handle


def _publish(handle: int, part: Path, path: Path) -> None:
    with _if_supported("change the mode of", path, errno.EPERM, errno.EACCES):  # SMB and FAT keep no modes
        os.fchmod(handle, 0o666 & ~_umask())
    _flush(handle, path)
    part.replace(path)
    sync(path.parent)


@contextmanager
def _checked(part: Path) -> Iterator[int]:
    """Yield a descriptor of a temporary file that was written through its path, after checking that it is our file."""
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
def _deleted_at_end(part: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):  # the next writer deletes what remains
            part.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; if the block succeeds, it replaces `path`.

    The old folder is moved aside first, so `path` is absent for a moment: write its card afterwards, outside the
    folder. Raises StorageFailed, also if `path` is a symbolic link; `path` is then unchanged.
    """
    with storage_errors(path):
        require_no_link(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}{PART}", dir=path.parent))
        old = part.with_name(part.name + ".old")
        try:
            with _if_supported("change the mode of", path, errno.EPERM, errno.EACCES):
                part.chmod(0o777 & ~_umask())
            yield part
            for file in sorted(part.rglob("*")):
                if stat.S_ISREG(file.lstat().st_mode):
                    sync(file)
            _replace_folder(part, path, old)
            sync(path.parent)
        finally:
            remove_folder(part)
        remove_folder(old)


def _replace_folder(part: Path, path: Path, old: Path) -> None:
    existed = os.path.lexists(path)
    if existed:
        path.replace(old)
    try:
        part.replace(path)
    except BaseException:
        if existed:
            try:
                old.replace(path)
            except OSError:
                _log.warning("the previous content of %s is now in %s", path, old)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8. Surrogate escapes are written as the bytes that they stand for."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically. Objects may contain LongLists, which are written item by item."""
    chunks = chain(indented_chunks(value), ["\n"])
    _write_blocks(path, (chunk.encode("utf-8", "surrogateescape") for chunk in chunks))


_REDO_HINT = "delete it and run the stage that writes it"


def read_json(path: Path, most: int = LARGEST_JSON, *, hint: str = _REDO_HINT) -> Any:
    """Read a JSON file of at most `most` bytes. Raises MissingArtefact, NotReadable, BadArtefact if it is not JSON.

    `hint` is that of BadArtefact.
    """
    with _json_errors(path, hint):
        text = read_text(path, most, errors="surrogateescape")
        return json.loads(text, parse_constant=_finite, parse_float=_finite)


def read_long_json(path: Path, most: int, *, hint: str = _REDO_HINT) -> Any:
    """Read a JSON file as `read_json` does, but keep long lists in its two outer levels of objects as LongLists."""
    with _json_errors(path, hint):
        if path.stat().st_size <= _LONG_JSON:
            return read_json(path, hint=hint)
        return document_from_blocks(
            blocks_of(path, most), json.JSONDecoder(parse_constant=_finite, parse_float=_finite)
        )


@contextmanager
def _json_errors(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingArtefact(
            f"{path} does not exist", hint="run the earlier stages: trtpoets run PHOTOS --name NAME", code="TP1012"
        ) from error
    except OSError as error:
        with storage_errors(path, "read"):
            raise error
    except (ValueError, RecursionError) as error:
        require_kind(path, "json", "text", "empty", expected="JSON")
        raise BadArtefact(f"{path} is not JSON: {error}", hint=hint, code="TP1013") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a valid JSON number")
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


def size_of_folder(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def sync(path: Path) -> None:
    """fsync a file or a folder; file systems without fsync are accepted.

    Raises OSError if the disk fails or is full.
    """
    is_folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if is_folder else os.O_NOFOLLOW))
    except PermissionError:
        if is_folder:  # a folder may be writable but not readable
            return
        raise
    with _closing(handle):
        _flush(handle, path)


def _flush(handle: int, path: Path) -> None:
    with _if_supported("sync", path, errno.EBADF, errno.EROFS):
        os.fsync(handle)


@contextmanager
def _if_supported(doing: str, path: Path, *more: int) -> Iterator[None]:
    """Ignore that the file system does not support the operation inside: a sync or a change of mode."""
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
