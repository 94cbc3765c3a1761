"""Prepares the standard streams for any text, and handles errors of writing to them."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import Any, Iterator

from trtpoets.core.errors import StorageFailed

BROKEN_PIPE = 141
"""The exit code that shells report for a program whose reader has exited (128 + SIGPIPE)."""


def prepare_streams() -> None:
    """Prepare standard output and error for any text. Call it first in a program.

    Characters that the encoding does not have (LC_ALL=C, PYTHONIOENCODING=ascii) are replaced instead of ending the
    program. Closed streams are replaced by /dev/null, so that no other file gets their descriptor. Standard output is
    then opened for reading only, so that writing results to it is an error (`writing_results`). Messages that can't be
    written to standard error (closed, full, terminal closed) are lost, and the program continues.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # os.open returns the lowest free descriptor, which is this one.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - open until the process ends
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        by_line = getattr(sys.stdout, "line_buffering", False) or getattr(sys.stdout, "write_through", False)
        sys.stdout = _text_stream(1, sys.stdout, io.TextIOWrapper, "replace", by_line)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _text_stream(2, sys.stderr, _Messages, "backslashreplace", True)
    if any(entry[0] == "error" for entry in warnings.filters):
        # With PYTHONWARNINGS=error, a deprecated name in any library would end the program.
        warnings.resetwarnings()
        warnings.simplefilter("ignore")


class _Descriptor(io.FileIO):
    """A standard stream that keeps its first write error, because callers may catch it although output is lost."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            raise


def _text_stream(number: int, old: Any, kind: type[io.TextIOWrapper], errors: str, by_line: bool) -> io.TextIOWrapper:
    """Return a text stream for a descriptor, with the encoding of the old stream."""
    raw = _Descriptor(number, "w", closefd=False)
    encoding = getattr(old, "encoding", "utf-8")
    return kind(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=by_line)


class _Messages(io.TextIOWrapper):
    """Standard error that ignores write errors: there is no other place to report them."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


@contextmanager
def writing_results() -> Iterator[None]:
    """Flush standard output at the end of the context, which writes results to it.

    Raises StorageFailed if a write failed in the context or before it, BrokenPipeError if the reader has exited.
    """
    try:
        yield
        sys.stdout.flush()
        lost = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "error", None)
        if lost is not None:
            raise lost
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        closed = error.errno == errno.EBADF
        raise StorageFailed(
            f"can't write to standard output: {'it is closed' if closed else error.strerror}",
            hint="send it to a file on a disk with free space",
            code="TP1087",
        ) from error


def discard_output() -> None:
    """Discard the buffer of standard output. Otherwise, Python writes it at exit, and reports the error again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_message(text: str) -> None:
    """Write a message to standard error. If that fails (closed, full), the message is lost."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
