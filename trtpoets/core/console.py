"""Results and messages as plain text: JSON for scripts, lines that any terminal can take for people."""

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

_TELL_EVERY = 5.0
"""Seconds between lines about one task."""

Write = Callable[[str], object]
"""Takes a piece of text, as a stream's `write` does."""


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """One JSON document in ASCII, so that any locale and any file name can be written. `indent` None: one line."""
    # DEL is the one control character that JSON leaves as it is.
    return json.dumps(value, indent=indent, default=to_json, allow_nan=False).replace("\x7f", "\\u007f")


def printable(text: object, keep: str = "") -> str:
    """`text` as any terminal and page shows it: what is not visible as it is becomes an escape, as \\x1b or \\u202e.

    That is control and format characters (so line ends, escape sequences, bidirectional overrides), surrogates (bytes
    of names that are not UTF-8), private and unassigned characters. Characters in `keep` stay. The one function for
    what comes from outside and is written for people: file names, class names, metadata of models.
    """
    return _SUSPECT.sub(lambda found: _escape(found.group(), keep), str(text))


_SUSPECT = re.compile(r"[^\x20-\x7e]")


def _escape(character: str, keep: str) -> str:
    if character in keep or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, as Python keeps it in file names
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def error_text(error: TrtPoetsError, *, colour: bool = False) -> str:
    """Two lines: what is wrong, and what to try. In `colour`, for a terminal."""
    red, plain = ("\x1b[1;31m", "\x1b[0m") if colour else ("", "")
    hint = f"  try: {printable(error.hint)}\n" if error.hint else ""
    code = f" [{error.code}]" if error.code else ""
    return f"{red}Error:{plain} {printable(error.message)}{code}\n{hint}"


def progress_lines(write: Write) -> Progress:
    """A Progress that writes a line when a task is done, and one every few seconds until then."""
    began: dict[str, float] = {}
    told: dict[str, float] = {}

    def show(task: str, done: int, total: int) -> None:
        task = printable(task)
        now = time.monotonic()
        since = began.setdefault(task, now)
        if done >= total:
            took = now - began.pop(task)
            told.pop(task, None)
            rate = f", {done / took:,.0f}/s" if done > took > 1 and is_counted(total) else ""
            what = f"{done:,}" if is_counted(total) else "done"
            write(f"{task}: {what} in {took:.1f} s{rate}\n")
        elif now - told.get(task, since) > _TELL_EVERY:
            told[task] = now
            write(f"{task}: {done:,} of {total:,}\n" if is_counted(total) else f"{task}: {done / total:.0%}\n")

    return show


class _Handler(logging.Handler):
    """Hands the library's messages on, a line each: warnings are marked as such."""

    def __init__(self, tell: Callable[[str, bool], object]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno >= logging.WARNING
        line = printable(record.getMessage())
        self._tell(f"warning: {line}" if warning else line, warning)


@contextmanager
def messages(tell: Callable[[str, bool], object]) -> Iterator[None]:
    """Meanwhile, what the library has to say goes to `tell`: the line, and whether it is a warning."""
    log = logging.getLogger("trtpoets")
    handler = _Handler(tell)
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
    """The text of labels.txt: line i names score i, even where a label has a line break of its own."""
    return "".join(f"{' '.join(label.splitlines())}\n" for label in labels)
