"""Ctrl-C while bars are drawn leaves the messages above them on the screen."""

from __future__ import annotations

import io
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.live_render import LiveRender

from trtpoets.cli.terminal import progress_display
from trtpoets.core import signals
from trtpoets.core.errors import Interrupted


class _Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The lines on the screen, after all control sequences that move the cursor up or erase a line."""
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            elif re.fullmatch(r"\x1b\[[0-9]*A", part):
                row -= int(part[2:-1] or 1)
                assert row >= 0
            elif part == "\x1b[2K":
                lines[row] = ""
            elif not part.startswith("\x1b"):
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
                column += len(part)
        return lines


@pytest.fixture
def _handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handler of SIGINT that programs have."""
    monkeypatch.setattr(signals, "_received", [])
    before = signal.getsignal(signal.SIGINT)
    signals.interrupt_on_signals()
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_handler")
def test_an_interrupt_between_counting_and_writing_the_lines_of_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    draw = LiveRender.__rich_console__
    armed: list[bool] = []

    def drawn(render: LiveRender, *arguments: Any) -> Iterator[Any]:
        yield from draw(render, *arguments)  # the number of lines is known now
        if armed and threading.current_thread() is threading.main_thread():
            armed.clear()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LiveRender, "__rich_console__", drawn)
    log = logging.getLogger("trtpoets.test")
    with pytest.raises(Interrupted), progress_display() as progress:
        progress("first", 1, 10)
        for number in range(3):
            log.info("message %d", number)
        armed.append(True)
        progress("second", 1, 10)
        pytest.fail("the interrupt was lost")
    assert [line for line in terminal.lines() if line.startswith("message")] == [f"message {n}" for n in range(3)]
    assert any(line.startswith("second") for line in terminal.lines())
