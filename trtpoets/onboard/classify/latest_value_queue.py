"""Single-slot queue between two threads; values that were not taken are replaced by newer ones."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestValueQueue(Generic[T]):
    """Stores at most one value, so that a camera that is faster than the engine loses frames but uses no memory."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._value: T | None = None
        self._closed = False
        self._failure: BaseException | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """The number of values that were replaced before they were taken."""
        return self._dropped

    def put(self, value: T) -> None:
        """Store a value; a value that was not taken is dropped."""
        with self._change:
            self._dropped += self._value is not None
            self._value = value
            self._change.notify_all()

    def put_and_wait(self, value: T) -> bool:
        """Store a value after the last one was taken. Returns False if the queue was closed meanwhile."""
        with self._change:
            self._change.wait_for(lambda: self._value is None or self._closed)
            if self._closed:
                return False
            self._value = value
            self._change.notify_all()
            return True

    def take(self, seconds: float) -> T | None:
        """Wait at most `seconds` for a value and return it; None if there was none.

        After `close` the last value can still be taken; then the error given to `close` is raised.
        """
        with self._change:
            self._change.wait_for(lambda: self._value is not None or self._closed, seconds)
            value, self._value = self._value, None
            self._change.notify_all()
            if value is None and self._failure is not None:
                raise self._failure
            return value

    @property
    def closed(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and self._value is None

    def close(self, failure: BaseException | None = None) -> None:
        """Close the queue, with `failure` as the reason if there is one. Closing again keeps the first reason."""
        with self._change:
            if not self._closed:
                self._closed, self._failure = True, failure
            self._change.notify_all()
