"""Threads of this process as workers."""

from __future__ import annotations

import threading
import time

import pytest

from trtpoets.train.workers import LIMITED, Threads


@pytest.mark.parametrize("parallel", [1, 3])
def test_results_are_in_order_and_the_limit_holds(parallel: int) -> None:
    lock = threading.Lock()
    inside = most = 0

    def function(item: int) -> int:
        nonlocal inside, most
        with LIMITED.get():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.001 * (item % 3))
            with lock:
                inside -= 1
        return item * item

    assert list(Threads(parallel).map(function, range(30))) == [item * item for item in range(30)]
    assert most <= parallel


def test_an_error_is_raised() -> None:
    def function(item: int) -> int:
        if item == 3:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match="3"):
        list(Threads(2).map(function, range(9)))
