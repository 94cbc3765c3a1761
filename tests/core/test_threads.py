"""Worker threads return results in order and compute only a bounded number ahead."""

from __future__ import annotations

import threading
import time

import pytest

from trtpoets.core.threads import map_ahead


def test_results_come_in_order() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(map_ahead(slow_at_first, range(50), 3, 5)) == [number * number for number in range(50)]
    assert list(map_ahead(slow_at_first, [], 3, 5)) == []


def test_items_are_drawn_no_further_than_asked() -> None:
    drawn = []
    results = map_ahead(lambda number: number, (drawn.append(n) or n for n in range(1000)), 2, 6)
    next(results)
    assert len(drawn) == 7
    next(results)
    assert len(drawn) == 8
    results.close()


def test_as_many_threads_as_workers() -> None:
    together = threading.Barrier(3, timeout=10)
    assert sorted(map_ahead(lambda number: (together.wait(), number)[1], range(3), 3, 1)) == [0, 1, 2]


def test_an_exception_takes_its_place_and_ends_the_work() -> None:
    begun = []

    def fail_at_three(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    results = map_ahead(fail_at_three, range(1000), 2, 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert max(begun) <= 8
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("trtpoets")]


def test_closing_ends_the_threads() -> None:
    results = map_ahead(lambda number: number, range(1000), 2, 4)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("trtpoets")]
