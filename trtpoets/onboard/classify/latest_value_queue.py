"""One place between a thread that makes things and one that takes them: what nobody took in time is replaced."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds one thing at most, so a camera that is faster than the engine costs frames and never memory."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._thing: T | None = None
        self._closed = False
        self._failure: BaseException | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many things were replaced before anybody took them."""
        return self._dropped

    def put(self, thing: T) -> None:
        """Leave a thing; the one that is still there is dropped."""
        with self._change:
            self._dropped += self._thing is not None
            self._thing = thing
            self._change.notify_all()

    def put_in_turn(self, thing: T) -> bool:
        """Leave a thing once the last one is taken. False where the mailbox was closed meanwhile."""
        with self._change:
            self._change.wait_for(lambda: self._thing is None or self._closed)
            if self._closed:
                return False
            self._thing = thing
            self._change.notify_all()
            return True

    def take(self, seconds: float) -> T | None:
        """The thing, waiting for it `seconds` at most; None when nothing came.

        After `close` the last thing may still be taken; then the error that it was closed with is raised.
        """
        with self._change:
            self._change.wait_for(lambda: self._thing is not None or self._closed, seconds)
            thing, self._thing = self._thing, None
            self._change.notify_all()
            if thing is None and self._failure is not None:
                raise self._failure
            return thing

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more."""
        return self._closed and self._thing is None

    def close(self, failure: BaseException | None = None) -> None:
        """Nothing will be put any more, because of `failure` if there is one. Closing twice keeps the first reason."""
        with self._change:
            if not self._closed:
                self._closed, self._failure = True, failure
            self._change.notify_all()
