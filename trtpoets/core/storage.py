"""Converts errors of local and network disks to StorageFailed with the path, the system's message and a hint."""

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
"""Error numbers for operations that a file system does not support: FUSE, SMB, FAT and some NFS servers."""

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Error numbers of a full disk and of an exceeded quota."""

_NOT_ALLOWED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_IN_THE_WAY = frozenset((errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY))
_TOO_MANY = frozenset((errno.EMFILE, errno.ENFILE))
_ONLY_NETWORK = frozenset((errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNABORTED))
_LOST = _ONLY_NETWORK | {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.EUCLEAN}

_BUGS = frozenset((errno.ENOENT, errno.EBADF, errno.EINVAL, errno.ECHILD, errno.ESRCH)) | _IN_THE_WAY | _ONLY_NETWORK
"""Error numbers that, if not handled elsewhere, indicate a bug in trtpoets or do not come from a disk."""

_PROCESSES = (BrokenPipeError, ChildProcessError, ProcessLookupError, InterruptedError)
"""OSErrors that do not come from files."""

_IN_TEXT = re.compile(r"errno = (\d+)")
"""The system's error number in messages of HDF5, for which h5py sets no errno."""

TMPDIR = "set TMPDIR: export TMPDIR=FOLDER"
"""Setting of the temporary folder, for hints."""

_chosen: ContextVar[tuple[tuple[Path, str], ...]] = ContextVar("chosen", default=())


@contextmanager
def chosen_by(path: Path, setting: str) -> Iterator[None]:
    """Within the context, hints of write errors at or below `path` name `setting` as the way to choose another place.

    Elsewhere the hint names TRTPOETS_CACHE for the cache and --engines for everything else.
    """
    token = _chosen.set(((path.absolute(), setting), *_chosen.get()))
    try:
        yield
    finally:
        _chosen.reset(token)


@contextmanager
def storage_errors(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError about `path` into StorageFailed with a hint.

    `doing` is the verb of the message. An OSError that does not come from a disk is raised unchanged.
    """
    try:
        yield
    except OSError as error:
        failure = storage_failure(error, path, doing)
        if failure is None:
            raise
        raise failure from error


def storage_failure(error: OSError, path: Path, doing: str = "write") -> StorageFailed | None:
    """The StorageFailed for an error that occurred while `path` was used; None if it does not come from a disk.

    If the error is about a file that is neither `path` nor beside or below it, the message names that file instead.
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
    """The StorageFailed for an OSError that was not handled elsewhere; None if it is a bug or not from a disk."""
    number = _number_of(error)
    if number is None or number in _BUGS or isinstance(error, (*_PROCESSES, ConnectionError)):
        return None
    if not isinstance(error.filename, (str, bytes)):
        return StorageFailed(
            f"a file can't be read or written: {os.strerror(number)}",
            _general(number) or "check that all disks are mounted and working: df",
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
    """The disk error that a message of a native library contains, as an OSError; None if there is none."""
    for number in sorted(FULL | _NOT_ALLOWED | _TOO_MANY | _LOST):
        if os.strerror(number) in text:
            return OSError(number, os.strerror(number))
    return None


def _number_of(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    match = _IN_TEXT.search(str(error))
    return int(match.group(1)) if match and int(match.group(1)) in errno.errorcode else None


def _reading_hint(number: int, path: Path, doing: str) -> str:
    """The hint for a file that is only read; empty if it is written or the same hint applies."""
    if doing not in ("read", "use") or number in FULL | _TOO_MANY | {errno.EROFS}:
        return ""
    check = "who may read it: ls -ld" if number in _NOT_ALLOWED else "that its disk is mounted and working: df"
    return f"check {check} {quote(path)}"


def _hint(number: int, path: Path) -> str:
    if number in FULL:
        return f"free some space, or choose another disk{_by_setting_of(path)}{_free(path)}"
    if number in _NOT_ALLOWED:
        return f"choose a folder that you may write to{_by_setting_of(path)}"
    if number == errno.ENAMETOOLONG:
        return "choose a shorter name"
    if number in _IN_THE_WAY:
        return f"something else is in the way: move it, or choose another folder{_by_setting_of(path)}"
    if number in _LOST or number == errno.ENOENT:
        return f"check that its disk is mounted and working (df), or choose another disk{_by_setting_of(path)}"
    return _general(number) or f"its disk does not support this operation; choose another one{_by_setting_of(path)}"


def _general(number: int) -> str:
    """The hint that does not depend on the path."""
    if number in FULL:
        return "check which disk is full: df -h"
    if number in _TOO_MANY:
        return "raise the limit of open files: ulimit -n 4096"
    if number in _LOST:
        return "check that all disks are mounted and working: df"
    return ""


def _by_setting_of(path: Path) -> str:
    """The end of an instruction: the option, environment variable or command that sets the place of `path`."""
    setting = _setting_of(path)
    return f" with {setting}" if setting.startswith("--") else f": {setting}"


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
