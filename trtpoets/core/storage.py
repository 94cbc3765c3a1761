"""Errors of disks, local and over the network, as StorageFailed: which path, what the system said, what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import StorageFailed
from trtpoets.core.paths import cache_root, temporary_root
from trtpoets.core.shell_commands import quote

UNSUPPORTED = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))
"""What a file system answers to an operation that it does not have: FUSE, SMB, FAT and some NFS servers."""

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""No space, or no more of the user's share of it."""

_NOT_ALLOWED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_IN_THE_WAY = frozenset((errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY))
_TOO_MANY = frozenset((errno.EMFILE, errno.ENFILE))
_ONLY_NETWORK = frozenset((errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNABORTED))
_LOST = _ONLY_NETWORK | {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.EUCLEAN}

_BUGS = frozenset((errno.ENOENT, errno.EBADF, errno.EINVAL, errno.ECHILD, errno.ESRCH)) | _IN_THE_WAY | _ONLY_NETWORK
"""What would be a bug of trtpoets, or is not of a disk, where no place expected an error."""

_PROCESSES = (BrokenPipeError, ChildProcessError, ProcessLookupError, InterruptedError)
"""OSErrors that are not of files."""

_IN_TEXT = re.compile(r"errno = (\d+)")
"""How HDF5 tells the system's error where h5py gives none."""

TMPDIR = "set TMPDIR: export TMPDIR=FOLDER"
"""What chooses another temporary folder, in a hint."""

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


@contextmanager
def storage_errors(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError of writing at `path` into StorageFailed with something to do about it.

    `doing` is the verb of the message. An OSError that is not of a disk is raised as it is.
    """
    try:
        yield
    except OSError as error:
        failure = storage_failure(error, path, doing)
        if failure is None:
            raise
        raise failure from error


def storage_failure(error: OSError, path: Path, doing: str = "write") -> StorageFailed | None:
    """What to tell of an error that came up while a file at `path` was used; None where it is not of a disk.

    Where the error names a file that is neither `path` nor beside or below it, that file is named instead.
    """
    number = _number_of(error)
    if number is None or number == errno.EBADF or isinstance(error, _PROCESSES):
        return None
    if isinstance(error.filename, (str, bytes)) and "/" in os.fsdecode(error.filename):  # else beside a descriptor
        named = Path(os.fsdecode(error.filename)).absolute()
        if path.absolute().parent not in (named, *named.parents) and named not in path.absolute().parents:
            path, doing = named, "use"
    return StorageFailed(
        f"can't {doing} {path}: {os.strerror(number)}",
        _reading_hint(number, path, doing) or _hint(number, path),
        code="TP1085",
    )


def stray_failure(error: OSError) -> StorageFailed | None:
    """What a program tells of an OSError that no place expected; None where it is a bug, or not of a disk."""
    number = _number_of(error)
    if number is None or number in _BUGS or isinstance(error, (*_PROCESSES, ConnectionError)):
        return None
    if not isinstance(error.filename, (str, bytes)):
        return StorageFailed(
            f"a file can't be read or written: {os.strerror(number)}",
            _general(number) or "see whether all disks are there and whole: df",
            code="TP1086",
        )
    path = Path(os.fsdecode(error.filename))
    with suppress(StorageFailed):
        root = temporary_root()
        inside = path.absolute().parts[len(root.absolute().parts) :]
        if root.absolute() in path.absolute().parents and inside[0].startswith("tmp"):  # as Python names them
            with chosen_by(root, TMPDIR):
                return storage_failure(error, path, "use")
    return storage_failure(error, path, "use")


def error_in_text(text: str) -> OSError | None:
    """The error of a disk that a text of native code names: libraries have exceptions of their own for them."""
    for number in sorted(FULL | _NOT_ALLOWED | _TOO_MANY | _LOST):
        if os.strerror(number) in text:
            return OSError(number, os.strerror(number))
    return None


def _number_of(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    found = _IN_TEXT.search(str(error))
    return int(found.group(1)) if found and int(found.group(1)) in errno.errorcode else None


def _reading_hint(number: int, path: Path, doing: str) -> str:
    """What to do where a file is only read; empty where it is written, or that makes no difference."""
    if doing not in ("read", "use") or number in FULL | _TOO_MANY | {errno.EROFS}:
        return ""
    see = "who may read it: ls -ld" if number in _NOT_ALLOWED else "whether its disk is there and whole: df"
    return f"see {see} {quote(path)}"


def _hint(number: int, path: Path) -> str:
    if number in FULL:
        return f"free some space, or choose another disk: {_setting_of(path)}{_free(path)}"
    if number in _NOT_ALLOWED:
        return f"choose a folder that you may write to: {_setting_of(path)}"
    if number == errno.ENAMETOOLONG:
        return "choose a shorter name"
    if number in _IN_THE_WAY:
        return f"something else is in the way: move it, or choose another folder: {_setting_of(path)}"
    if number in _LOST or number == errno.ENOENT:
        return f"see whether its disk is there and whole (df), or choose another disk: {_setting_of(path)}"
    return _general(number) or f"its disk does not do what is needed: choose another one: {_setting_of(path)}"


def _general(number: int) -> str:
    """What to do wherever it was."""
    if number in FULL:
        return "see which disk is full: df -h"
    if number in _TOO_MANY:
        return "let this program open more files: ulimit -n 4096"
    if number in _LOST:
        return "see whether all disks are there and whole: df"
    return ""


def _setting_of(path: Path) -> str:
    above = (path.absolute(), *path.absolute().parents)
    for place, setting in _chosen.get():
        if place in above:
            return setting
    try:
        cached = cache_root().absolute() in above
    except StorageFailed:
        cached = False
    return "set TRTPOETS_CACHE" if cached else "--engines DIR"


def _free(path: Path) -> str:
    for folder in (path, *path.parents):
        with suppress(OSError):
            return f"; {shutil.disk_usage(folder).free >> 20} MiB are free there"
    return ""
