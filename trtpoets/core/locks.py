"""Locks between processes: a file beside what is worked on, held by the system for as long as its holder lives."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import Busy, StorageFailed
from trtpoets.core.own_files import open_own, write_all
from trtpoets.core.storage import UNSUPPORTED, storage_errors

_log = logging.getLogger(__name__)

_NO_LOCKS = UNSUPPORTED | {errno.ENOLCK}
"""What file systems without locks answer. NFS without its lock service: ENOLCK."""

_told: set[Path] = set()


@contextmanager
def locked(path: Path, what: str, hint: str = "wait until it has finished, or choose another --name") -> Iterator[bool]:
    """Hold the lock file at `path` while inside. Raises Busy, with `hint`, at once when another process holds it.

    The system drops the lock when its holder dies, however it dies. Gives False where the disk has no locks, after a
    warning: every file is replaced as a whole and vouched for by its card, so that two processes would spoil each
    other's work and no result; but nothing may be swept that the other one may be writing.

    Raises StorageFailed when it can't be written, or is no lock of trtpoets.
    """
    handle = _opened(path)
    try:
        with storage_errors(path):
            try:
                held = _take(handle, path, what, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # EACCES is what SMB says of a lock that another one holds
                holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise Busy(
                    f"another trtpoets (process {holder}) is working on {what}", hint=hint, code="TP1023"
                ) from None
            os.ftruncate(handle, 0)
            write_all(handle, str(os.getpid()).encode())
        yield held
    finally:
        with suppress(OSError):  # of the number that NFS writes only now
            os.close(handle)


@contextmanager
def waiting_for(path: Path, what: str) -> Iterator[None]:
    """Wait for the lock file at `path` and hold it while inside; without it where the disk has no locks.

    Raises StorageFailed.
    """
    handle = _opened(path)
    try:
        with storage_errors(path):
            _take(handle, path, what, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            os.close(handle)


def _opened(path: Path) -> int:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open_own(path, os.O_RDWR | os.O_CREAT)
        inside = os.pread(handle, 32, 0).strip(b"\0")  # a lost machine may leave zeros
    if inside and not inside.isdigit():
        os.close(handle)
        raise StorageFailed(
            f"{path} has the name of a lock of trtpoets, and is none: it is left as it is",
            hint="move it away, or choose another --name",
            code="TP1024",
        )
    return handle


def _take(handle: int, path: Path, what: str, how: int) -> bool:
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path not in _told:
            _told.add(path)
            _log.warning(
                "%s can't be locked on its disk (%s): see that no other trtpoets works on %s meanwhile",
                path,
                os.strerror(error.errno),
                what,
            )
        return False
    return True
