"""Formats results and messages as plain text: JSON for scripts, printable lines for terminals."""

from __future__ import annotations

import json
import logging
import re
import time
import unicodedata
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.progress import Progress, is_counted
from trtpoets.core.serialization import to_json

_REPORT_SECONDS = 5.0
"""Seconds between progress lines of one task."""

_MINUTES_SHOWN = 60.0
"""The fewest seconds left that a progress line mentions."""

Write = Callable[[str], object]
"""Takes a piece of text, as a stream's `write` does."""


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """One JSON document in ASCII, so that any locale and any file name can be written. `indent` None: one line."""
    # DEL is the one control character that JSON leaves as it is.
    return json.dumps(value, indent=indent, default=to_json, allow_nan=False).replace("\x7f", "\\u007f")


def printable(text: object, keep: str = "") -> str:
    """`text` with each character that is not printable replaced by an escape, such as \\x1b or \\u202e.

    Escaped are control and format characters (including line ends, terminal escape sequences and bidirectional
    overrides), surrogates (bytes of names that are not UTF-8), private and unassigned characters. Characters in `keep`
    stay. Use it for all external text that is shown to people: file names, class names, metadata of models.
    """
    return _SUSPECT.sub(lambda match: _escape(match.group(), keep), str(text))


_SUSPECT = re.compile(r"[^\x20-\x7e]")


def _escape(character: str, keep: str) -> str:
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
    """The message and the hint of an error, a line each, with its details between. `colour` adds terminal colours."""
    red, plain = ("\x1b[1;31m", "\x1b[0m") if colour else ("", "")
    hint = f"  try: {printable(error.hint)}\n" if error.hint else ""
    code = f" [{error.code}]" if error.code else ""
    details = "".join(f"  {printable(line)}\n" for line in error.details)
    return f"{red}Error:{plain} {printable(error.message)}{code}\n{details}{hint}"


def progress_lines(write: Write) -> Progress:
    """A Progress callback that writes a line every few seconds while a task runs and one when it is done.

    The lines of a task that takes minutes say how many are left, by the speed since its first call.
    """
    started: dict[str, float] = {}
    first: dict[str, int] = {}
    last_line: dict[str, float] = {}

    def show(task: str, done: int, total: int) -> None:
        task = printable(task)
        now = time.monotonic()
        since = started.setdefault(task, now)
        begun = first.setdefault(task, done)
        if done >= total:
            elapsed = now - started.pop(task)
            last_line.pop(task, None)
            first.pop(task)
            rate = f", {done / elapsed:,.0f}/s" if done > elapsed > 1 and is_counted(total) else ""
            amount = f"{done:,}" if is_counted(total) else "done"
            write(f"{task}: {amount} in {elapsed:.1f} s{rate}\n")
        elif now - last_line.get(task, since) > _REPORT_SECONDS:
            last_line[task] = now
            amount = f"{done:,} of {total:,}" if is_counted(total) else f"{done / total:.0%}"
            seconds = (now - since) / (done - begun) * (total - done) if done > begun else 0.0
            left = f", about {seconds / 60:.0f} min left" if seconds >= _MINUTES_SHOWN else ""
            write(f"{task}: {amount}{left}\n")

    return show


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
    """Inside, pass each log record of trtpoets to `write` as a line, with whether it is a warning."""
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
