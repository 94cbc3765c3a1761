"""Progress on the terminal."""

from __future__ import annotations

import time
from itertools import count

import pytest


def test_uncounted_progress_is_shown_in_percent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trtpoets.cli import terminal
    from trtpoets.core.progress import PARTS

    clock = count(0.0, 6.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with terminal.progress_display() as progress:
        for task, total in (("build x", PARTS), ("photos", 40), ("files", 1000)):
            for part in (0, total // 4, total):
                progress(task, part, total)
    thousand = ["files: 250 of 1,000", "files: 1,000"]  # equals PARTS, but is a count of files
    lines = [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["build x: 25%", "build x: done", "photos: 10 of 40", "photos: 40", *thousand]


def test_rates_below_one_per_second_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from trtpoets.core import console

    clock, lines = iter([0.0, 28.0, 0.0, 2.0]), list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    show = console.progress_lines(lines.append)
    for task, total in (("methods", 6), ("photos", 200)):
        show(task, 0, total)
        show(task, total, total)
    assert lines == ["methods: 6 in 28.0 s\n", "photos: 200 in 2.0 s, 100/s\n"]


def test_progress_lines_say_how_many_minutes_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed is that since the first call, so a task that continues at step 60 is not taken for a fast one."""
    from trtpoets.core import console

    clock, lines = iter([0.0, 10.0, 20.0, 30.0]), list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    show = console.progress_lines(lines.append)
    for done in (60, 62, 64, 100):
        show("fine-tuning", done, 100)
    assert lines == [
        "fine-tuning: 62 of 100, about 3 min left\n",
        "fine-tuning: 64 of 100, about 3 min left\n",
        "fine-tuning: 100 in 30.0 s, 1/s\n",
    ]


def test_progress_lines_become_rarer_in_a_task_of_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    from trtpoets.core import console

    clock, lines = count(0.0, 1.0), list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    show = console.progress_lines(lines.append)
    for done in range(7_200):
        show("fine-tuning", done, 7_200)
    at = [int(line.split()[1].replace(",", "")) for line in lines]
    waits = [later - earlier for earlier, later in zip([0, *at], at, strict=False)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (6, 61)
    assert len(lines) < 150
