"""Applies a function to items in worker threads, in order, and limits the threads of matrix products."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Callable, ContextManager, Generator, Iterable, TypeVar

from trtpoets.core.optional import needs

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Generator[R, None, None]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads: for work that releases the GIL.

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


def one_blas_thread() -> ContextManager[None]:
    """Return a context in which NumPy computes matrix products with one thread.

    Where all cores have work already, or a product takes microseconds, more threads mostly wait for each other: a step
    of a head's training took up to ten times as long on a busy machine. The results do not depend on the number of
    cores either. Raises MissingDependency without threadpoolctl.
    """
    with needs("convert", reason="computing with one thread"):
        from threadpoolctl import threadpool_limits
    limits: ContextManager[None] = threadpool_limits(1, "blas")
    return limits
