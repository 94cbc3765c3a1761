"""Worker threads that keep the order: for work that lets go of Python's lock, as decoding and networks do."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Callable, Generator, Iterable, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Generator[R, None, None]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads.

    At most `ahead` results exist or are under way before they are asked for, so memory stays bounded however long
    `items` is. An exception of `function` is raised in its place; what has not begun is then dropped.
    """
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="trtpoets")
    todo = iter(items)
    try:
        pending.extend(pool.submit(function, item) for item in islice(todo, max(ahead, workers)))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(todo, 1))
            yield result
    finally:
        for future in pending:
            future.cancel()
        pool.shutdown(wait=True)
