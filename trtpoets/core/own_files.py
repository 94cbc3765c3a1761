"""Opens, checks and cleans up the files that trtpoets creates, without following symbolic links.

A folder that the user names, and its parents, may be symbolic links: engines -> /big/disk/engines, TRTPOETS_CACHE,
--out, --root, TMPDIR, a device's `root`. What trtpoets creates below such a folder may not be a link: run folders and
their subfolders, caches, locks, temporary files, releases. A link found there is left unchanged and reported as
StorageFailed. A link in place of a file that is replaced atomically (a card, a report) is itself replaced; its target
is unchanged.
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
"""The text in the name of each temporary file and folder; these names begin with a dot."""

_TEMPORARY_NAME = re.compile(r"\..*\.part-(?:[a-z0-9_]{8}(?:\.old)?|old(?:-\d+)?|\d+)", re.DOTALL)
"""Names of temporary files and folders that a killed process leaves.

They end in the random characters of tempfile, a process number, or "old" for a folder that was being replaced."""


def open_own(path: Path, flags: int, mode: int = 0o666, *, folder: int | None = None) -> int:
    """Open a file that trtpoets wrote, or creates now (O_CREAT), and return its descriptor.

    It must be a regular file that belongs to this user or to the owner of its folder; for writing it must have no other
    hard link. `folder` is an optional descriptor of its folder, in which the name is looked up. With O_TRUNC in
    `flags`, the file is truncated only after these checks.

    Raises StorageFailed, which names `path`; FileNotFoundError without O_CREAT.
    """
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    safe_flags = (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    name = path if folder is None else path.name
    try:
        handle = os.open(name, safe_flags, mode, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise _link_error(path) from error
        if error.errno in (errno.ENXIO, errno.EISDIR) and not path.is_file():
            raise _not_regular_error(path) from error
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
    """Raise StorageFailed unless an open file is regular and, for writing, has an accepted owner and one hard link."""
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular_error(path)
    if not writes:
        return
    if status.st_uid != os.geteuid():
        folder_status = path.parent.stat() if folder is None else os.fstat(folder)
        # The owner of a folder can replace its files. On disks without owners (SMB, FAT, NFS as nobody) all files
        # belong to one user.
        if status.st_uid != folder_status.st_uid:
            raise StorageFailed(
                f"{path} belongs to another user (uid {status.st_uid}) and is left unchanged",
                hint=f"show its owner: ls -l {quote(path)}",
                code="TP1051",
            )
    if status.st_nlink > 1:
        raise StorageFailed(
            f"{path} has another hard link, whose content would be overwritten; it is left unchanged",
            hint=f"remove this link: rm {quote(path)}",
            code="TP1052",
        )


def _link_error(path: Path) -> StorageFailed:
    return StorageFailed(
        f"{path} is a symbolic link: trtpoets does not follow links inside its own folders",
        hint=f"remove the link (its target stays): rm {quote(path)}",
        code="TP1053",
    )


def _not_regular_error(path: Path) -> StorageFailed:
    return StorageFailed(
        f"{path} is not a regular file and is left unchanged",
        hint=f"see what it is, and move it away: ls -ld {quote(path)}",
        code="TP1054",
    )


def open_folder(path: Path) -> int:
    """Open a folder that trtpoets created, and return its descriptor.

    Raises StorageFailed if it is a link or not a folder, FileNotFoundError if it does not exist.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise _link_error(path) from error
        with storage_errors(path, "open"):
            raise


def names_in(folder: int) -> list[str]:
    """The file names in an open folder. Raises OSError."""
    return os.listdir(folder)


def require_no_link(*paths: Path) -> None:
    """Raise StorageFailed if one of these paths is a symbolic link. Paths that do not exist are accepted."""
    for path in paths:
        with storage_errors(path, "open"), suppress(FileNotFoundError):
            if stat.S_ISLNK(path.lstat().st_mode):
                raise _link_error(path)


def read_own(path: Path, *, folder: int | None = None, limit: int = -1) -> bytes:
    """The bytes of a file that trtpoets wrote, at most `limit`; -1 for all. Raises as `open_own` does."""
    with os.fdopen(open_own(path, os.O_RDONLY, folder=folder), "rb") as stream, storage_errors(path, "read"):
        return stream.read(limit)


def write_own(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file in place, not atomically: for temporary files. Raises StorageFailed."""
    with storage_errors(path):
        handle = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            write_all(handle, content)
        finally:
            os.close(handle)


def write_all(handle: int, content: bytes) -> None:
    """Write all bytes at the current position of a descriptor. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def remove_folder(path: Path) -> None:
    """Delete a folder and its content as far as possible. A symbolic link is neither followed nor deleted."""
    with suppress(OSError):
        shutil.rmtree(path, ignore_errors=True)


def sweep_parts(folder: Path, name: str = "") -> None:
    """Delete temporary files that killed processes left in `folder`, those of the file `name` or all.

    The caller must hold the lock of the folder. Only entries are deleted that have the name of a temporary file of
    trtpoets and belong to this user or to the owner of the folder. Links are deleted and not followed; if `folder`
    itself is a link, nothing is done. Entries that can't be deleted are left.
    """
    prefix = f".{name[:60]}{PART}" if name else "."
    try:
        handle = open_folder(folder)
    except (FileNotFoundError, StorageFailed):
        return
    try:
        with suppress(OSError):
            for name_in_folder in names_in(handle):
                if name_in_folder.startswith(prefix) and _TEMPORARY_NAME.fullmatch(name_in_folder):
                    with suppress(OSError):
                        _sweep(folder / name_in_folder, handle)
    finally:
        os.close(handle)


def _sweep(path: Path, folder: int) -> None:
    """Delete an entry of the open `folder` if it has an accepted owner. Raises OSError."""
    status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    if status.st_uid not in (os.geteuid(), os.fstat(folder).st_uid):
        return
    if stat.S_ISDIR(status.st_mode):
        remove_folder(path)
    elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        os.unlink(path.name, dir_fd=folder)
