"""Terminal output: results go to stdout; progress, warnings and errors go to stderr."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from textwrap import indent
from typing import TYPE_CHECKING, Any

import typer

from trtpoets.cli.interruption import NOTHING
from trtpoets.core.console import error_text, json_text, messages, printable, progress_lines
from trtpoets.core.errors import BadPhoto, MissingDependency
from trtpoets.core.progress import is_counted
from trtpoets.core.reading import read_text
from trtpoets.core.signals import deferring_interrupts
from trtpoets.core.streams import write_message, writing_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from trtpoets.cli.interruption import Kept
    from trtpoets.core.errors import TrtPoetsError
    from trtpoets.core.progress import Progress


_WIDE = 100
"""Columns of a terminal on which bars are long."""

_BESIDE_NAME = 55
"""Columns for a bar, a count, a speed and two times, beside the name of a task."""


@contextmanager
def progress_display(kept: Kept = NOTHING) -> Iterator[Progress]:
    """Yield a progress callback that draws bars on a terminal and writes a few plain lines elsewhere.

    Log messages of the library are shown too. Raises Interrupted on Ctrl-C; its message says what is `kept`.
    """
    try:
        if sys.stderr.isatty():
            with _bars() as progress:
                yield progress
        else:
            with messages(lambda line, warning: write_message(line + "\n")):
                yield progress_lines(write_message)
    except KeyboardInterrupt:
        raise kept.error() from None


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    from trtpoets.cli.whole_drawing import whole_drawing_console

    # Output to the same terminal is redirected so that it does not overwrite the bars; a pipe gets it unchanged.
    same_terminal = sys.stdout.isatty()
    console = whole_drawing_console()
    room = max(console.width - _BESIDE_NAME, 24)
    name = Column(no_wrap=True, overflow="ellipsis", min_width=20, max_width=room)
    columns = (
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=20 if console.width >= _WIDE else 8),
        TextColumn("{task.fields[amount]}", markup=False, style="green", justify="right"),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[left]}", markup=False, style="cyan", table_column=Column(no_wrap=True)),
    )
    tasks: dict[str, TaskID] = {}
    first_done: dict[TaskID, int] = {}

    def show_message(line: str, warning: bool) -> None:
        style = "yellow" if warning else None
        bars.console.print(line, markup=False, highlight=False, style=style, soft_wrap=True)

    bars = Progress(*columns, console=console, redirect_stdout=same_terminal)
    with messages(show_message), _started(bars):

        def show(task: str, done: int, total: int) -> None:
            task = printable(task)
            if task not in tasks or (bars.tasks[tasks[task]].finished and done < total):
                tasks[task] = bars.add_task(task, total=total, amount="", rate="", left="")
                first_done[tasks[task]] = done
            number = tasks[task]
            counted = is_counted(total)
            # The speed since the first call: results that arrive together would look like a great one.
            elapsed = bars.tasks[number].elapsed or 0.0
            speed = (done - first_done[number]) / elapsed if elapsed else 0.0
            bars.update(
                number,
                completed=done,
                total=total,
                amount=f"{done:,}/{total:,}" if counted else f"{done / total:.0%}",
                rate=f"{speed:,.0f}/s" if counted and speed > 1 else "",
                left=f"{timedelta(seconds=round((total - done) / speed))} left" if speed and done < total else "",
            )

        yield show


@contextmanager
def _started(bars: RichProgress) -> Iterator[None]:
    """Draw the bars within the context. They are drawn for the last time even if another signal arrives meanwhile."""
    try:
        bars.start()
        yield
    finally:
        with deferring_interrupts():
            bars.stop()


def show_result(what: str, value: Any, as_json: bool, page: Path | None = None) -> None:
    """Print a result as a table or as one JSON document. `page` is the path of the complete report, if there is one."""
    from trtpoets.reporting.tables.results import print_json, print_table

    with writing_results():
        if as_json:
            print_json(value)
            return
        print_table(what, value)
        if page is not None:
            sys.stdout.write(f"\nThe whole report: {printable(page)}\n")


def show_labelled_photos(results: Iterable[Any], as_json: bool) -> None:
    """Print each result of `label_stream` when it arrives: as a table, or as an element of one JSON array.

    The JSON array also contains the photos that failed, and is closed even if an exception is raised. Raises BadPhoto
    if no photo was labelled.
    """
    from trtpoets.reporting.tables.results import print_table

    labelled = failed = 0
    try:
        for result in results:
            succeeded = not hasattr(result, "error")
            labelled, failed = labelled + succeeded, failed + (not succeeded)
            if as_json:
                sys.stdout.write(("[\n" if labelled + failed == 1 else ",\n") + indent(json_text(result), "  "))
            elif succeeded:
                sys.stdout.write("\n" if labelled > 1 else "")
                print_table("answers", [result])
            sys.stdout.flush()
    finally:
        if as_json:
            sys.stdout.write("\n]\n" if labelled + failed else "[]\n")
    if not labelled:
        raise BadPhoto(
            f"none of {failed:,} photos could be labelled" if failed > 1 else "no photo could be labelled",
            hint="see the reason for each above" if failed else "name photo files, or a folder of them",
            code="TP9002",
        )


def show_file(path: Path) -> None:
    """Print a text file as UTF-8 regardless of the locale, with terminal control characters escaped."""
    text = printable(read_text(path, errors="backslashreplace"), keep="\n\t").encode()
    with writing_results():
        sys.stdout.flush()
        sys.stdout.buffer.write(text)


def show_until_interrupt(what: str, value: Any, as_json: bool) -> None:
    """Show the description of a running server and wait for Ctrl-C, which then is the normal way to stop it."""
    try:
        show_result(what, value, as_json)
        threading.Event().wait()
    except KeyboardInterrupt:
        write_message("\n")


def open_page(page: Path) -> None:
    """Open a page in the user's browser. Raises MissingDependency if no browser can be started."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        raise MissingDependency("no browser can be started here", hint=f"open it elsewhere: {page}", code="TP9003")


def show_error(error: TrtPoetsError) -> None:
    """Write the error's message and hint to stderr, one line each."""
    write_message(error_text(error, colour=sys.stderr.isatty()))


USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""The base class of Typer's usage errors. Its import path depends on the Typer version."""


def show_usage_error(error: Any) -> None:
    """Show a usage error of Typer, with control characters escaped: its message may contain names of files."""
    if type(error).__name__ != "NoArgsIsHelpError":  # its message is the help text
        error.message = printable(error.message)
    error.show()
