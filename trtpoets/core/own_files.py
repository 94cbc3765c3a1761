"""Opening, checking and sweeping the files that trtpoets makes for itself, and never what a link leads to.

A folder that a user names may be a symbolic link, as may everything above it: engines -> /big/disk/engines,
TRTPOETS_CACHE, --out, --root, TMPDIR, a device's `root`. What trtpoets makes below such a folder may not be one: run
folders and the folders in them, stores, locks, temporary files, releases. Where one is found there, it is left as it
is, and StorageFailed says so. A link in place of a file that is replaced as a whole (a card, a report) is itself
replaced, and what it leads to is not touched.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from trtpoets.core.errors import StorageFailed
from trtpoets.core.shell_commands import quote
from trtpoets.core.storage import storage_errors

PART = ".part-"
"""In the name of each temporary file and folder, which begins with a dot."""

_LEFT = re.compile(r"\..*\.part-(?:[a-z0-9_]{8}(?:\.old)?|old(?:-\d+)?|\d+)", re.DOTALL)
"""What killed writers leave: names of tempfile's, of processes, and what was moved aside."""


def open_own(path: Path, flags: int, mode: int = 0o666, *, folder: int | None = None) -> int:
    """Open a file that trtpoets wrote, or makes now (O_CREAT), and return its descriptor.

    It must be a regular file of this user, or of who owns its folder; to be written it must have no other name (hard
    link). `folder` is the descriptor of the folder that it lies in; without it `path` is looked up. It is emptied only
    after these checks, where `flags` has O_TRUNC.

    Raises StorageFailed, which names `path`, for everything else; FileNotFoundError without O_CREAT.
    """
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    plain = (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    name = path if folder is None else path.name
    try:
        handle = os.open(name, plain, mode, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise _is_link(path) from error
        if error.errno in (errno.ENXIO, errno.EISDIR) and not path.is_file():
            raise _no_file(path) from error
        with storage_errors(path, "open"):
            raise
    try:
        with storage_errors(path, "open"):
            _check(path, os.fstat(handle), writes, folder)
            if flags & os.O_TRUNC:
                os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check(path: Path, status: os.stat_result, writes: bool, folder: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _no_file(path)
    if not writes:
        return
    if status.st_uid != os.geteuid():
        above = path.parent.stat() if folder is None else os.fstat(folder)
        # Who owns a folder can replace all that is in it. On disks without owners (SMB, FAT, NFS as nobody) all files
        # belong to one user.
        if status.st_uid != above.st_uid:
            raise StorageFailed(
                f"{path} belongs to another user (uid {status.st_uid}), and is left as it is",
                hint=f"see whose it is: ls -l {quote(path)}",
                code="TP1051",
            )
    if status.st_nlink > 1:
        raise StorageFailed(
            f"{path} is also a file elsewhere (a hard link), which would be overwritten: it is left as it is",
            hint=f"remove this name of it: rm {quote(path)}",
            code="TP1052",
        )


def _is_link(path: Path) -> StorageFailed:
    return StorageFailed(
        f"{path} is a symbolic link: trtpoets writes to nothing that a link of its own folders leads to",
        hint=f"remove the link, which leaves what it leads to: rm {quote(path)}",
        code="TP1053",
    )


def _no_file(path: Path) -> StorageFailed:
    return StorageFailed(
        f"{path} is no regular file, and is left as it is", hint=f"move it away: ls -ld {quote(path)}", code="TP1054"
    )


def open_folder(path: Path) -> int:
    """Open a folder that trtpoets made, and return its descriptor. Raises StorageFailed for a link, and what is none.

    FileNotFoundError where nothing is there.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise _is_link(path) from error
        with storage_errors(path, "open"):
            raise


def names_in(folder: int) -> list[str]:
    """The names in the folder of a descriptor. Raises OSError."""
    return os.listdir(folder)


def require_no_link(*paths: Path) -> None:
    """Raise StorageFailed where one of these paths of trtpoets is a symbolic link. What is not there is no fault."""
    for path in paths:
        with storage_errors(path, "open"), suppress(FileNotFoundError):
            if stat.S_ISLNK(path.lstat().st_mode):
                raise _is_link(path)


def read_own(path: Path, *, folder: int | None = None, limit: int = -1) -> bytes:
    """The bytes of a file of trtpoets, at most `limit` of them. Raises as `open_own` does."""
    with os.fdopen(open_own(path, os.O_RDONLY, folder=folder), "rb") as stream, storage_errors(path, "read"):
        return stream.read(limit)


def write_own(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file of trtpoets in place, not atomically: for temporary files. Raises StorageFailed."""
    with storage_errors(path):
        handle = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            write_all(handle, content)
        finally:
            os.close(handle)


def write_all(handle: int, content: bytes) -> None:
    """Write all bytes at the descriptor's position. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def remove_folder(path: Path) -> None:
    """Delete a folder with all in it, as far as that can be done. A link is not followed, and stays."""
    with suppress(OSError):
        shutil.rmtree(path, ignore_errors=True)


def sweep_parts(folder: Path, name: str = "") -> None:
    """Delete what killed writers left in `folder`, of `name` or of anything. Call it while holding its lock.

    Only what has the name of a temporary file of trtpoets, and belongs to this user. Links are removed, and not
    followed; where `folder` itself is one, nothing is done. What can't be deleted stays.
    """
    begin = f".{name[:60]}{PART}" if name else "."
    try:
        handle = open_folder(folder)
    except (FileNotFoundError, StorageFailed):
        return
    try:
        with suppress(OSError):
            for each in names_in(handle):
                if each.startswith(begin) and _LEFT.fullmatch(each):
                    with suppress(OSError):
                        _sweep(folder / each, handle)
    finally:
        os.close(handle)


def _sweep(path: Path, folder: int) -> None:
    status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    if status.st_uid not in (os.geteuid(), os.fstat(folder).st_uid):
        return
    if stat.S_ISDIR(status.st_mode):
        remove_folder(path)
    elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        os.unlink(path.name, dir_fd=folder)
