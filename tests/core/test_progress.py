"""Totals of tasks, a number of units or thousandths; and their names."""

from __future__ import annotations

import pytest

from trtpoets.core.progress import PARTS, about, is_counted, silent


def test_thousandths_are_not_a_thousand_photos() -> None:
    assert PARTS == 1000
    assert is_counted(1000) and not is_counted(PARTS)
    assert not is_counted(PARTS) and is_counted(PARTS + 0), "a number that is computed counts units"


def test_silent_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent("bottlenecks", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_task_that_is_repeated_says_what_it_is_about() -> None:
    seen: list[tuple[str, int, int]] = []
    about("mobilenet_v2", lambda *state: seen.append(state))("bottlenecks", 3, 4)
    assert seen == [("bottlenecks of mobilenet_v2", 3, 4)]
