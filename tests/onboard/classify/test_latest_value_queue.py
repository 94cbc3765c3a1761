"""A queue of one value."""

from __future__ import annotations

import threading

import pytest

from trtpoets.onboard.classify.latest_value_queue import LatestValueQueue


def test_the_newest_value_replaces_an_untaken_one() -> None:
    box: LatestValueQueue[int] = LatestValueQueue()
    for number in range(10):
        box.put(number)
    assert (box.take(0.0), box.dropped) == (9, 9)
    assert box.take(0.0) is None
    box.put(10)
    box.close(ValueError("the end"))
    assert (box.closed, box.take(0.0), box.closed) == (False, 10, True)
    with pytest.raises(ValueError, match="the end"):
        box.take(0.0)


def test_put_and_wait_loses_nothing() -> None:
    box: LatestValueQueue[int] = LatestValueQueue()
    sender = threading.Thread(target=lambda: [box.put_and_wait(number) for number in range(50)] and box.close())
    sender.start()
    got = []
    while not box.closed:
        thing = box.take(1.0)
        if thing is not None:
            got.append(thing)
    sender.join()
    assert (got, box.dropped) == (list(range(50)), 0)
    box = LatestValueQueue()
    box.put(1)
    box.close()
    assert box.put_and_wait(2) is False
