"""What the terminal shows: results on stdout; progress, warnings and errors on stderr."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import Interrupted, MissingDependency
from trtpoets.core.progress import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.progress import TaskID

    from trtpoets.core.errors import TrtPoetsError
    from trtpoets.core.progress import Progress

_TELL_EVERY = 5.0
"""Seconds between lines about one task, without a terminal."""


@contextmanager
def showing() -> Iterator[Progress]:
    """Give a Progress that draws bars on a terminal, and writes a few plain lines anywhere else.

    Warnings of the library are shown in between. Raises Interrupted on Ctrl-C.
    """
    try:
        if sys.stderr.isatty():
            with _bars() as progress:
                yield progress
        else:
            with _messages(None):
                yield _lines()
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what was finished is kept", hint="the same command goes on from here") from None


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars, _messages(bars.console.print):

        def show(task: str, done: int, total: int) -> None:
            if task not in tasks or (bars.tasks[tasks[task]].finished and done < total):
                tasks[task] = bars.add_task(task, total=total, rate="")
            entry = bars.tasks[tasks[task]]
            speed = None if total == PARTS else entry.finished_speed or entry.speed
            bars.update(tasks[task], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield show


def _lines() -> Progress:
    """A line when a task is done, and one every few seconds until then."""
    began: dict[str, float] = {}
    told: dict[str, float] = {}

    def show(task: str, done: int, total: int) -> None:
        now = time.monotonic()
        since = began.setdefault(task, now)
        if done >= total:
            took = now - began.pop(task)
            told.pop(task, None)
            rate = f", {done / took:,.0f}/s" if took > 1 and total != PARTS else ""
            what = "done" if total == PARTS else f"{done:,}"
            sys.stderr.write(f"{task}: {what} in {took:.1f} s{rate}\n")
        elif now - told.get(task, since) > _TELL_EVERY:
            told[task] = now
            sys.stderr.write(f"{task}: {done / total:.0%}\n" if total == PARTS else f"{task}: {done:,} of {total:,}\n")
        sys.stderr.flush()

    return show


class _Handler(logging.Handler):
    """Shows the library's messages: warnings marked, others as they are."""

    def __init__(self, write: object) -> None:
        super().__init__(logging.INFO)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        line = f"warning: {text}" if record.levelno >= logging.WARNING else text
        if callable(self._write):
            self._write(line, markup=False, highlight=False, style="yellow" if line != text else None, soft_wrap=True)
        else:
            sys.stderr.write(line + "\n")


@contextmanager
def _messages(write: object) -> Iterator[None]:
    log = logging.getLogger("trtpoets")
    handler = _Handler(write)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = True


def show_result(what: str, value: Any, as_json: bool, page: Path | None = None) -> None:
    """Print a result as a table, or as one JSON document; `page` is where the whole report can be seen."""
    from trtpoets.ship.tables import print_json, print_table

    if as_json:
        print_json(value)
        return
    print_table(what, value)
    if page is not None:
        sys.stdout.write(f"\nThe whole report: {page}\n")


def show_file(path: Path) -> None:
    """Print a text file as it is, in UTF-8 whatever the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(path.read_bytes())
    sys.stdout.flush()


def wait_for_interrupt() -> None:
    """Wait for Ctrl-C, which is how a server is ended: no failure."""
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sys.stderr.write("\n")


def open_page(page: Path) -> None:
    """Show a page in the user's browser. Raises MissingDependency where there is none."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        raise MissingDependency("no browser can be started here", hint=f"open it elsewhere: {page}")


def show_error(error: TrtPoetsError) -> None:
    """Two lines: what is wrong, and what to try."""
    colour = sys.stderr.isatty()
    red, plain = ("\x1b[1;31m", "\x1b[0m") if colour else ("", "")
    sys.stderr.write(f"{red}Error:{plain} {printable(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"  try: {printable(error.hint)}\n")


def printable(text: str) -> str:
    """Text that any terminal can take: file names that are not UTF-8 show their bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
