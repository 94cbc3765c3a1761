"""Applies a function to items in worker threads, in order: for work that releases the GIL, such as decoding."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Callable, Generator, Iterable, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Generator[R, None, None]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads.

    At most `ahead` results, or `workers` if that is more, are computed before they are requested, which limits the
    memory for any number of items. An exception of `function` is raised instead of its result; calls that have not
    started are then cancelled.
    """
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="trtpoets")
    remaining = iter(items)
    try:
        pending.extend(pool.submit(function, item) for item in islice(remaining, max(ahead, workers)))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        for future in pending:
            future.cancel()
        pool.shutdown(wait=True)
