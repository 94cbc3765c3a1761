"""Standard streams that take any text, and failures of writing to them."""

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
"""The exit code that shells give a program whose reader has gone."""


def prepare_streams() -> None:
    """Let standard output and error take any text: call it first in a program.

    Characters that the stream's encoding lacks (LC_ALL=C, PYTHONIOENCODING=ascii) are replaced instead of ending the
    program after its work is done. Closed streams become /dev/null, so that no file of ours gets their number; a closed
    standard output can't be written to, so that lost results are an error (`writing_results`). Messages that standard
    error does not take (closed, full, a terminal that is gone) are lost, whoever writes them, and the work goes on.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        by_line = getattr(sys.stdout, "line_buffering", False) or getattr(sys.stdout, "write_through", False)
        sys.stdout = _over(1, sys.stdout, io.TextIOWrapper, "replace", by_line)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _over(2, sys.stderr, _Messages, "backslashreplace", True)
    if any(entry[0] == "error" for entry in warnings.filters):
        # PYTHONWARNINGS=error would make each deprecated name in a library end the program.
        warnings.resetwarnings()
        warnings.simplefilter("ignore")


class _Descriptor(io.FileIO):
    """A standard stream that remembers the first error of writing to it: what is written may catch it, and be lost."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            raise


def _over(number: int, old: Any, kind: type[io.TextIOWrapper], errors: str, by_line: bool) -> io.TextIOWrapper:
    """A stream of text over a descriptor, in the encoding of the old one."""
    raw = _Descriptor(number, "w", closefd=False)
    encoding = getattr(old, "encoding", "utf-8")
    return kind(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=by_line)


class _Messages(io.TextIOWrapper):
    """Standard error: where it can't be written, nothing is told, as there is nobody to tell it."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


@contextmanager
def writing_results() -> Iterator[None]:
    """Inside, results are written to standard output; they are flushed at the end.

    Raises StorageFailed where they can't be written, also before; BrokenPipeError where the reader has gone.
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
    """Drop what is still to be written to standard output: Python would complain of it again while it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_message(text: str) -> None:
    """Write a message to standard error. Where nobody can read it (closed, full), the work goes on without."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
