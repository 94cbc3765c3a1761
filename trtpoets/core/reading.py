"""Files that someone else may have made, opened with bounds: regular files only, and no more bytes than expected.

A FIFO without a writer, a terminal or /dev/zero would otherwise keep a reader waiting, or filling memory, without end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Iterator, cast

from trtpoets.core.errors import BadInput

LARGEST_FILE = 16 << 30
"""Bytes of the largest file that is hashed. Networks, engines and photos are far smaller."""

LARGEST_NETWORK_FILE = 4 << 30
"""Bytes of the largest network or engine that is read into memory."""

LARGEST_CARD = 1 << 30
"""Bytes of the largest card of a run: that of a data set has some 200 for each photo."""

LARGEST_JSON = 64 << 20
"""Bytes of the largest JSON file that is read, unless a caller expects more. Parsed, JSON takes up to 25 times that."""

_BLOCK = 1 << 20

_GROWTH = 64 << 20
"""Bytes that are read of a file that tells no size."""

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
)


class NotReadable(BadInput):
    """A path that names no regular file, or a file that is larger than its kind may be."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; links are followed. Never waits for a writer.

    Raises NotReadable for anything else that is there, IsADirectoryError for a folder, OSError.
    """
    # Without O_NONBLOCK, opening a FIFO waits for a writer; O_NOCTTY keeps a terminal from becoming this process's own.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = stat.S_IFREG
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # sockets and dead devices can't be opened
            raise _not_regular(path, mode) from None
        raise
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _not_regular(path, mode)
        return cast(BinaryIO, os.fdopen(handle, "rb"))
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = LARGEST_NETWORK_FILE) -> bytes:
    """All bytes of a regular file. Raises NotReadable also where there are more than `most`, OSError."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise _too_large(path, size, most)
        # Files of /proc and /sys have no size, and files grow: what is read is counted too.
        content = _read(stream, path, min(size or _BLOCK, most) + 1)
        if size < len(content) <= most:
            content += _read(stream, path, most + 1 - len(content))
    if len(content) > most:
        raise _too_large(path, len(content), most)
    return content


def read_text(path: Path, most: int = LARGEST_JSON, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8. Raises as `read_bytes` does, UnicodeDecodeError."""
    return read_bytes(path, most).decode("utf-8", errors)


def read_start(path: Path, count: int) -> bytes:
    """The first `count` bytes of a regular file, or all of it. Raises NotReadable, OSError."""
    with open_regular(path) as stream:
        return _read(stream, path, count)


def blocks_of(path: Path, most: int = LARGEST_FILE) -> Iterator[bytes]:
    """The bytes of a regular file, block by block. Raises NotReadable also for more than `most`, OSError."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise _too_large(path, size, most)
        count = 0
        for block in iter(lambda: _read(stream, path, _BLOCK), b""):
            count += len(block)
            if count > max(size, _GROWTH):  # it has no size, as files of /proc, or grows
                raise _too_large(path, count, max(size, _GROWTH))
            yield block


def _read(stream: BinaryIO, path: Path, count: int) -> bytes:
    try:
        return stream.read(count) or b""
    except BlockingIOError:  # a file of /proc that would wait for events
        raise NotReadable(f"{path} has nothing to read now: it is no plain file", hint=_COPY) from None


_COPY = "save its content to a file on a disk, and name that file"


def _not_regular(path: Path, mode: int) -> NotReadable:
    what = next((words for test, words in _KINDS if test(mode)), "no file")
    return NotReadable(f"{path} is {what}, and a regular file was expected", hint=_COPY)


def _too_large(path: Path, size: int, most: int) -> NotReadable:
    return NotReadable(
        f"{path} has {_mebibytes(size)}, and at most {_mebibytes(most)} are read", hint="give the file that is meant"
    )


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 20 else f"{count:,} bytes"
