"""Waiting for threads that spin."""

from __future__ import annotations

import pytest

from trtpoets.judge.bench.idle_threads import wait_until_idle


class Spinning:
    """The functions of `time` in a process whose threads use a core until `end` seconds."""

    def __init__(self, end: float) -> None:
        self.now, self._end = 0.0, end

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return min(self.now, self._end)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_it_waits_for_threads_that_spin_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    brief, endless = Spinning(0.052), Spinning(60.0)
    monkeypatch.setattr("trtpoets.judge.bench.idle_threads.time", brief)
    assert wait_until_idle()
    assert 0.055 < brief.now < 0.07
    monkeypatch.setattr("trtpoets.judge.bench.idle_threads.time", endless)
    assert not wait_until_idle(limit=0.02)
    assert 0.02 <= endless.now < 0.03
