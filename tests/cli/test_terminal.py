"""Bars of progress on a terminal; opening the page in a browser."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from tests.support.errors import raises


def test_open_page_raises_without_a_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from trtpoets.cli.terminal import open_page
    from trtpoets.core.errors import MissingDependency

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) == 1)
    open_page(tmp_path / "a report.html")
    assert opened == [f"{tmp_path.as_uri()}/a%20report.html"]
    with raises(MissingDependency, "TP9003"):
        open_page(tmp_path / "a report.html")


class _Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def bars_of(monkeypatch: pytest.MonkeyPatch, columns: int, states: list[tuple[str, int, int]]) -> list[str]:
    """Return the lines that `progress_display` leaves on a terminal with so many columns."""
    from trtpoets.cli.terminal import progress_display

    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")  # the bars are drawn once, at the end
    with progress_display() as progress:
        for task, done, total in states:
            progress(task, done, total)
    return [line for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).splitlines() if line.strip()]


def test_bars_show_counts_and_percentages(monkeypatch: pytest.MonkeyPatch) -> None:
    from trtpoets.core.progress import PARTS

    states = [("photos", 4_000, 4_000), ("near-copies", PARTS // 4, PARTS), ("files", 1_000, 1_000)]
    photos, copies, files = bars_of(monkeypatch, 80, states)
    assert "4,000/4,000" in photos
    assert "25%" in copies
    assert "/" not in copies
    assert "1,000/1,000" in files  # its total equals PARTS, but is a count of files


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_bars_keep_counts_and_times_beside_a_long_name(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    name = "a task with a name of many words, which has no place beside the rest"
    monkeypatch.setattr("rich.console.monotonic", lambda: 0.0)  # a slow machine would show a speed too
    (line,) = bars_of(monkeypatch, columns, [(name, 20, 160)])
    assert len(line) <= columns
    assert line.startswith("a task with a name ")
    assert "…" in line or name in line
    assert re.search(r" 20/160 +0:00:0\d", line)


def test_bars_state_the_speed_and_the_time_left_since_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 results that arrive together after 4 s give 16 a second; those before the first call do not count."""
    clock = iter([0.0, *[4.0] * 50])
    monkeypatch.setattr("rich.console.monotonic", lambda: next(clock))
    (line,) = bars_of(
        monkeypatch, 100, [("bottlenecks", 100, 292), ("bottlenecks", 132, 292), ("bottlenecks", 164, 292)]
    )
    assert re.search(r"164/292 +16/s +0:00:04 0:00:08 left", line)
