"""Waiting for threads that spin."""

from __future__ import annotations

import threading
import time

from trtpoets.judge.bench.idle_threads import wait_until_idle


def test_it_waits_for_threads_that_spin_but_not_for_ever() -> None:
    stop, spins = threading.Event(), 0

    def spin(until: float) -> None:
        nonlocal spins
        while time.monotonic() < until and not stop.is_set():
            spins += 1

    brief = threading.Thread(target=spin, args=(time.monotonic() + 0.05,))
    brief.start()
    assert wait_until_idle(limit=10)
    assert not brief.is_alive()
    endless = threading.Thread(target=spin, args=(time.monotonic() + 60,))
    endless.start()
    assert not wait_until_idle(limit=0.02)
    assert endless.is_alive()
    stop.set()
    endless.join()
    assert spins
