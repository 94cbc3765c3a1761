"""What the terminal shows: results on stdout; progress, warnings and errors on stderr."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from textwrap import indent
from typing import TYPE_CHECKING, Any

import typer

from trtpoets.core.console import error_text, json_text, messages, printable, progress_lines
from trtpoets.core.errors import BadPhoto, Interrupted, MissingDependency
from trtpoets.core.progress import is_counted
from trtpoets.core.reading import read_text
from trtpoets.core.signals import interrupted
from trtpoets.core.streams import write_message, writing_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rich.progress import TaskID

    from trtpoets.core.errors import TrtPoetsError
    from trtpoets.core.progress import Progress


@contextmanager
def showing(again: str = "the same command goes on from here") -> Iterator[Progress]:
    """Give a Progress that draws bars on a terminal, and writes a few plain lines anywhere else.

    Warnings of the library are shown in between. Raises Interrupted on Ctrl-C, with the hint `again`.
    """
    try:
        if sys.stderr.isatty():
            with _bars() as progress:
                yield progress
        else:
            with messages(lambda line, warning: write_message(line + "\n")):
                yield progress_lines(write_message)
    except KeyboardInterrupt:
        raise Interrupted(f"{interrupted()}; what was finished is kept", hint=again, code="TP9001") from None


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
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}

    def tell(line: str, warning: bool) -> None:
        style = "yellow" if warning else None
        bars.console.print(line, markup=False, highlight=False, style=style, soft_wrap=True)

    # Only what is printed on the same terminal has to go around the bars; a pipe gets it untouched.
    around = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=around) as bars, messages(tell):

        def show(task: str, done: int, total: int) -> None:
            task = printable(task)
            if task not in tasks or (bars.tasks[tasks[task]].finished and done < total):
                tasks[task] = bars.add_task(task, total=total, rate="")
            entry = bars.tasks[tasks[task]]
            speed = (entry.finished_speed or entry.speed) if is_counted(total) else None
            bars.update(tasks[task], completed=done, total=total, rate=f"{speed:,.0f}/s" if (speed or 0) > 1 else "")

        yield show


def show_result(what: str, value: Any, as_json: bool, page: Path | None = None) -> None:
    """Print a result as a table, or as one JSON document; `page` is where the whole report can be seen."""
    from trtpoets.reporting.tables.results import print_json, print_table

    with writing_results():
        if as_json:
            print_json(value)
            return
        print_table(what, value)
        if page is not None:
            sys.stdout.write(f"\nThe whole report: {printable(page)}\n")


def show_answers(answers: Iterable[Any], as_json: bool) -> None:
    """Print what `label_stream` yields, each as it comes: tables, or one JSON array that holds failures too.

    The array is closed whatever happens meanwhile. Raises BadPhoto when photos were named and none got an answer.
    """
    from trtpoets.reporting.tables.results import print_table

    answered = failed = 0
    try:
        for each in answers:
            good = not hasattr(each, "error")
            answered, failed = answered + good, failed + (not good)
            if as_json:
                sys.stdout.write(("[\n" if answered + failed == 1 else ",\n") + indent(json_text(each), "  "))
            elif good:
                sys.stdout.write("\n" if answered > 1 else "")
                print_table("answers", [each])
            sys.stdout.flush()
    finally:
        if as_json:
            sys.stdout.write("\n]\n" if answered + failed else "[]\n")
    if not answered:
        raise BadPhoto(
            f"none of {failed:,} photos could be labelled" if failed > 1 else "no photo could be labelled",
            hint="the reason for each is above" if failed else "name photo files, or a folder of them",
            code="TP9002",
        )


def show_file(path: Path) -> None:
    """Print a text file in UTF-8 whatever the locale, without what a terminal would obey."""
    text = printable(read_text(path, errors="backslashreplace"), keep="\n\t").encode()
    with writing_results():
        sys.stdout.flush()
        sys.stdout.buffer.write(text)


def show_until_interrupt(what: str, value: Any, as_json: bool) -> None:
    """Show what a server says of itself and wait for Ctrl-C, which from then on is how it is ended: no failure."""
    try:
        show_result(what, value, as_json)
        threading.Event().wait()
    except KeyboardInterrupt:
        write_message("\n")


def open_page(page: Path) -> None:
    """Show a page in the user's browser. Raises MissingDependency where there is none."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        raise MissingDependency("no browser can be started here", hint=f"open it elsewhere: {page}", code="TP9003")


def show_error(error: TrtPoetsError) -> None:
    """Two lines: what is wrong, and what to try."""
    write_message(error_text(error, colour=sys.stderr.isatty()))


USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""Typer's error for wrong usage, whose name depends on its version."""


def show_usage_error(error: Any) -> None:
    """What Typer says of wrong usage. The words that it repeats may be names of files, which a pattern gave."""
    if type(error).__name__ != "NoArgsIsHelpError":  # whose message is the help
        error.message = printable(error.message)
    error.show()
