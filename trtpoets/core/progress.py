"""How long work tells how far it is. The library only calls; what is drawn is up to the caller."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[str, int, int], None]
"""Called with the task's words ("bottlenecks"), how many units are done, and how many there are."""


class _Parts(int):
    """A total that is no count: a task may have exactly as many photos."""


PARTS = _Parts(1000)
"""How many units a task has that can't be counted: it is told in thousandths of the whole, and shown in percent."""


def is_counted(total: int) -> bool:
    """Whether a task's total is a number of units, rather than PARTS itself."""
    return not isinstance(total, _Parts)


def silent(task: str, done: int, total: int) -> None:
    """Show nothing."""
