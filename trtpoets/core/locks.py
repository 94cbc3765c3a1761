"""Locks between processes: `flock` on a file beside the locked folder, released when the process ends."""

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
"""Error numbers of file systems without locks; ENOLCK comes from NFS without its lock service."""

_warned: set[Path] = set()


@contextmanager
def locked(path: Path, what: str, hint: str = "wait until it has finished, or choose another --name") -> Iterator[bool]:
    """Hold the lock file at `path` inside the block, and yield whether the disk supports locks.

    `what` names in messages what the lock protects. The system releases the lock when the process ends for any reason.
    If the disk does not support locks, a warning is logged. Files are replaced atomically and checked by their cards,
    so two processes at once waste work but do not corrupt results; but the caller must not delete temporary files,
    which another process may be writing.

    Raises Busy, with `hint`, immediately if another process holds the lock, StorageFailed if the file can't be written
    or is not a lock of trtpoets.
    """
    with _opened(path) as handle:
        with storage_errors(path):
            try:
                held = _take(handle, path, what, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # SMB reports EACCES for a lock that another process holds
                holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise Busy(
                    f"another trtpoets (process {holder}) is working on {what}", hint=hint, code="TP1023"
                ) from None
            os.ftruncate(handle, 0)
            write_all(handle, str(os.getpid()).encode())
        yield held


@contextmanager
def waiting_for(path: Path, what: str) -> Iterator[None]:
    """Wait for the lock file at `path` and hold it inside the block. Raises StorageFailed.

    If the disk does not support locks, a warning with `what` is logged, and the block runs without a lock.
    """
    with _opened(path) as handle:
        with storage_errors(path):
            _take(handle, path, what, fcntl.LOCK_EX)
        yield


@contextmanager
def trying(path: Path) -> Iterator[bool | None]:
    """Try to take the lock file at `path`, hold it inside the block, and yield whether that succeeded.

    None is yielded if the disk does not support locks. Raises StorageFailed.
    """
    with _opened(path) as handle:
        held: bool | None = True
        with storage_errors(path):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # see `locked`
                held = False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                held = None
        yield held


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Yield a descriptor of a lock file; closing it releases the lock."""
    handle = _open(path)
    try:
        yield handle
    finally:
        with suppress(OSError):  # NFS writes the process number only when the file is closed
            os.close(handle)


def _open(path: Path) -> int:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open_own(path, os.O_RDWR | os.O_CREAT)
        content = os.pread(handle, 32, 0).strip(b"\0")  # a crash of the machine may leave zero bytes
    if content and not content.isdigit():
        os.close(handle)
        raise StorageFailed(
            f"{path} has the name of a lock file of trtpoets but another content; it is left unchanged",
            hint="move it away, or choose another --name",
            code="TP1024",
        )
    return handle


def _take(handle: int, path: Path, what: str, how: int) -> bool:
    """Lock an open file; False, after a warning, if its disk does not support locks. Raises OSError."""
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path not in _warned:
            _warned.add(path)
            _log.warning(
                "%s can't be locked on its disk (%s): make sure that no other trtpoets process uses %s meanwhile",
                path,
                os.strerror(error.errno),
                what,
            )
        return False
    return True
