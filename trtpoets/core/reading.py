"""Opens and reads untrusted files: only regular files, and at most an expected number of bytes.

Otherwise a FIFO without a writer, a terminal or /dev/zero would block the reader or fill the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator, cast

from trtpoets.core.errors import BadInput, TrtPoetsError

LARGEST_FILE = 16 << 30
"""Largest file in bytes that is hashed. Networks, engines and photos are much smaller."""

LARGEST_NETWORK_FILE = 4 << 30
"""Largest network or engine in bytes that is read into memory."""

LARGEST_CARD = 1 << 30
"""Largest card in bytes: that of a dataset has about 200 bytes for each photo."""

LARGEST_JSON = 64 << 20
"""Default of the largest JSON file in bytes. Parsed JSON needs up to 25 times as much memory."""

_BLOCK = 1 << 20

_GROWTH = 64 << 20
"""Most bytes that are read beyond the size that the file system reports."""

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
)


class NotReadable(BadInput):
    """A path that is not a regular file, or a file that is larger than allowed for its kind."""


@contextmanager
def read_errors(
    kind: type[TrtPoetsError], path: Path, *, hint: str, code: str, missing: TrtPoetsError | None = None
) -> Iterator[None]:
    """Turn an OSError of the block into an error of class `kind`: `path` can't be read, with the system's message.

    If the file does not exist, `missing` is raised instead, if it is given.
    """
    try:
        yield
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise missing from error
        raise kind(f"can't be read: {error.strerror}", hint=hint, code=code, subject=path) from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Follows links; never waits for a writer.

    Raises NotReadable if the path is something else, IsADirectoryError for a folder, OSError.
    """
    # O_NONBLOCK: opening a FIFO does not wait for a writer. O_NOCTTY: a terminal does not become the controlling one.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = stat.S_IFREG
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a socket, or a device without a driver
            raise _not_regular(path, mode) from None
        raise
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _not_regular(path, mode)
    except BaseException:
        os.close(handle)
        raise
    # Not inside the block above: after an interruption the stream may have closed the descriptor already. Closing it
    # again would replace KeyboardInterrupt by an OSError, or close a file of another thread.
    return cast(BinaryIO, os.fdopen(handle, "rb"))


def read_bytes(path: Path, most: int = LARGEST_NETWORK_FILE) -> bytes:
    """All bytes of a regular file. Raises NotReadable, also if there are more than `most`, and OSError."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise _too_large(path, size, most)
        # Files of /proc and /sys report no size, and files can grow, so the bytes that are read are also counted.
        content = _read(stream, path, min(size or _BLOCK, most) + 1)
        if size < len(content) <= most:
            content += _read(stream, path, most + 1 - len(content))
    if len(content) > most:
        raise _too_large(path, len(content), most)
    return content


def read_text(path: Path, most: int = LARGEST_JSON, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8. Raises as `read_bytes` does, and UnicodeDecodeError."""
    return read_bytes(path, most).decode("utf-8", errors)


def read_start(path: Path, count: int) -> bytes:
    """The first `count` bytes of a regular file, or all of it. Raises NotReadable, OSError."""
    with open_regular(path) as stream:
        return _read(stream, path, count)


def blocks_of(path: Path, most: int = LARGEST_FILE) -> Iterator[bytes]:
    """Yield the bytes of a regular file in blocks. Raises NotReadable (also for more than `most` bytes), OSError."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise _too_large(path, size, most)
        count = 0
        for block in iter(lambda: _read(stream, path, _BLOCK), b""):
            count += len(block)
            if count > max(size, _GROWTH):  # it reports no size, like files of /proc, or grows
                raise _too_large(path, count, max(size, _GROWTH))
            yield block


def _read(stream: BinaryIO, path: Path, count: int) -> bytes:
    try:
        return stream.read(count) or b""
    except BlockingIOError:  # a file of /proc that blocks until there is an event
        raise NotReadable(
            "is not a plain file: it has no data to read now", hint=_COPY, code="TP1952", subject=path
        ) from None


_COPY = "save its content to a file on a disk, and give that file"


def _not_regular(path: Path, mode: int) -> NotReadable:
    kind = next((words for test, words in _KINDS if test(mode)), "of an unknown kind")
    return NotReadable(f"is {kind}, but a regular file was expected", hint=_COPY, code="TP1953", subject=path)


def _too_large(path: Path, size: int, most: int) -> NotReadable:
    return NotReadable(
        f"has {_mebibytes(size)}, but at most {_mebibytes(most)} are read",
        hint="give the intended file",
        code="TP1954",
        subject=path,
    )


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 20 else f"{count:,} bytes"
