"""Workers that stand for processes on other machines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.fine_tuning import DepthTrial

T = TypeVar("T")
R = TypeVar("R")


class OtherProcesses:
    """Workers to which functions, items and results are sent as bytes. Counts the items, and those that were long."""

    def __init__(self) -> None:
        self.items = self.long_items = 0

    def map(self, function: Callable[[T], R], items: Sequence[T], *, long: bool = False) -> Generator[R, None, None]:
        """Yield the results in the order of the items; an error arrives as it would from another process."""
        pickled = pickle.dumps(function)
        for item in items:
            self.items += 1
            self.long_items += long
            there: Callable[[T], R] = pickle.loads(pickled)
            try:
                result: R = pickle.loads(pickle.dumps(there(pickle.loads(pickle.dumps(item)))))
            except TrtPoetsError as error:
                raise pickle.loads(pickle.dumps(error)) from None
            yield result


def without_seconds(trials: Sequence[DepthTrial]) -> list[DepthTrial]:
    """Return trials without their times, which differ between processes."""
    return [replace(trial, seconds=0.0) for trial in trials]
