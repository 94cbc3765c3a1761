"""Applies a function to many items: in threads of this process, or by other workers with the same interface."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

from trtpoets.core.images import usable_cores
from trtpoets.core.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

T = TypeVar("T")
R = TypeVar("R")

LIMITED: ContextVar[AbstractContextManager[object]] = ContextVar("LIMITED", default=nullcontext())  # noqa: B039
"""The context in which a function does the part of its work that only so many threads may do at once."""


class Workers(Protocol):
    """Whoever computes."""

    def map(self, function: Callable[[T], R], items: Sequence[T], *, long: bool = False) -> Generator[R, None, None]:
        """Yield `function(item)` in the order of `items`. An exception of `function` is raised instead of its result.

        Function, items and results can be pickled. Items that take minutes are `long`: they are spread over the
        machines one by one. Closing the generator cancels what has not started.
        """


class Threads:
    """Threads of this process: one per core. At most `parallel` of them are inside LIMITED at once."""

    def __init__(self, parallel: int) -> None:
        self._slots = threading.Semaphore(parallel)
        # If the limited part uses all cores, one thread more than cores does the rest meanwhile.
        self._threads = max(parallel, usable_cores() + (parallel == 1))

    def map(self, function: Callable[[T], R], items: Sequence[T], *, long: bool = False) -> Generator[R, None, None]:
        """Yield `function(item)` in the order of `items`; for `long` items too, a thread takes one at a time."""

        def limited(item: T) -> R:
            LIMITED.set(self._slots)
            return function(item)

        return map_ahead(limited, items, self._threads, 2 * self._threads)
