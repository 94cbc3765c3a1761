"""Formats results and messages as plain text: JSON for scripts, printable lines for terminals."""

from __future__ import annotations

import json
import logging
import re
import time
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Sequence

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.progress import Progress, is_counted
from trtpoets.core.serialization import to_json

_REPORT_SECONDS = 5.0
"""The least number of seconds between progress lines of one task."""

_REPORT_SHARE = 0.2
"""The part of a task's time until a line that passes before its next line: a task of hours has few lines."""

_MAX_REPORT_SECONDS = 60.0
"""The largest number of seconds between progress lines of one task."""

_MIN_SECONDS_LEFT = 60.0
"""A progress line states the remaining time if it is at least this number of seconds."""

Write = Callable[[str], object]
"""A function that writes text, such as the method `write` of a stream."""


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """`value` as one JSON document in ASCII, which every locale can show. `indent` None writes it on one line."""
    # DEL is the only control character that json.dumps does not escape.
    return json.dumps(value, indent=indent, default=to_json, allow_nan=False).replace("\x7f", "\\u007f")


def printable(text: object, keep: str = "") -> str:
    """`text` with each character that is not printable replaced by an escape, such as \\x1b or \\u202e.

    Escaped are control and format characters (including line ends, terminal escape sequences and bidirectional
    overrides), surrogates (bytes of names that are not UTF-8), private and unassigned characters. Characters in `keep`
    stay. Use it for all external text that is shown to people: file names, class names, metadata of models.
    """
    return _OUTSIDE_ASCII.sub(lambda match: _escape(match.group(), keep), str(text))


_OUTSIDE_ASCII = re.compile(r"[^\x20-\x7e]")
"""A control character, or one outside ASCII; only these may need an escape."""


def _escape(character: str, keep: str) -> str:
    """`character` if it is printable or in `keep`, else its escape."""
    if character in keep or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= number <= 0xDCFF:  # how Python represents a byte of a file name that is not UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def error_text(error: TrtPoetsError, *, colour: bool = False) -> str:
    """The text of an error: a line with message and code, a line for each detail, a line with the hint.

    `colour` colours the word "Error" on a terminal.
    """
    red, plain = ("\x1b[1;31m", "\x1b[0m") if colour else ("", "")
    hint = f"  try: {printable(error.hint)}\n" if error.hint else ""
    code = f" [{error.code}]" if error.code else ""
    details = "".join(f"  {printable(line)}\n" for line in error.details)
    return f"{red}Error:{plain} {printable(error.message)}{code}\n{details}{hint}"


def progress_lines(write: Write) -> Progress:
    """A Progress callback that writes lines while a task runs and one when it is done.

    A line is written every few seconds at first, and every minute at last. For a task that takes minutes, the lines
    state the remaining time, estimated from the speed since its first call.
    """
    running: dict[str, _RunningTask] = {}

    def show(task: str, done: int, total: int) -> None:
        name = printable(task)
        now = time.monotonic()
        state = running.setdefault(name, _RunningTask(now, done, now))
        if done >= total:
            del running[name]
            elapsed = now - state.started
            counted = done - state.first_done
            rate = f", {counted / elapsed:,.0f}/s" if counted > elapsed > 1 and is_counted(total) else ""
            amount = f"{done:,}" if is_counted(total) else "done"
            write(f"{name}: {amount} in {elapsed:.1f} s{rate}\n")
        elif now - state.last_line > state.seconds_to_next_line:
            state.last_line = now
            amount = f"{done:,} of {total:,}" if is_counted(total) else f"{done / total:.0%}"
            write(f"{name}: {amount}{_time_left(state, now, done, total)}\n")

    return show


@dataclass
class _RunningTask:
    """The time and count of the first call for a task, and the time of its last line; times of `time.monotonic`."""

    started: float
    first_done: int
    last_line: float

    @property
    def seconds_to_next_line(self) -> float:
        """The number of seconds between the last line and the next one."""
        return min(max(_REPORT_SHARE * (self.last_line - self.started), _REPORT_SECONDS), _MAX_REPORT_SECONDS)


def _time_left(task: _RunningTask, now: float, done: int, total: int) -> str:
    """The estimated remaining time, for the end of a progress line; empty if it is short or unknown."""
    if done <= task.first_done:
        return ""
    seconds = (now - task.started) / (done - task.first_done) * (total - done)
    return f", about {seconds / 60:.0f} min left" if seconds >= _MIN_SECONDS_LEFT else ""


class _Handler(logging.Handler):
    """Passes each log record to a function as one line; warnings begin with "warning: "."""

    def __init__(self, write: Callable[[str, bool], object]) -> None:
        super().__init__(logging.INFO)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno >= logging.WARNING
        line = printable(record.getMessage())
        self._write(f"warning: {line}" if warning else line, warning)


@contextmanager
def messages(write: Callable[[str, bool], object]) -> Iterator[None]:
    """Within the context, pass the log records of trtpoets to `write`: (line, whether it is a warning)."""

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


def labels_text(labels: Sequence[str]) -> str:
    """The text of labels.txt: line i names score i. Line breaks within a label become spaces."""
    return "".join(f"{' '.join(label.splitlines())}\n" for label in labels)
