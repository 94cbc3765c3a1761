"""Standard streams that take any text, and failures of writing to them."""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import Iterator

from trtpoets.core.errors import StorageFailed

BROKEN_PIPE = 141
"""The exit code that shells give a program whose reader has gone."""


def prepare_streams() -> None:
    """Let standard output and error take any text: call it first in a program.

    Characters that the stream's encoding lacks (LC_ALL=C, PYTHONIOENCODING=ascii) are replaced instead of ending the
    program after its work is done. Closed streams become /dev/null, so that no file of ours gets their number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    if any(entry[0] == "error" for entry in warnings.filters):
        # PYTHONWARNINGS=error would make each deprecated name in a library end the program.
        warnings.resetwarnings()
        warnings.simplefilter("ignore")


@contextmanager
def writing_results() -> Iterator[None]:
    """Inside, results are written to standard output; they are flushed at the end.

    Raises StorageFailed where they can't be written; BrokenPipeError where the reader has gone.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise StorageFailed(
            f"can't write to standard output: {error.strerror}", hint="send it to a file on a disk with free space"
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
