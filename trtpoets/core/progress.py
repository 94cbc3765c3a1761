"""How long work tells how far it is. The library only calls; what is drawn is up to the caller."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[str, int, int], None]
"""Called with the task's words ("bottlenecks"), how many units are done, and how many there are."""

PARTS = 1000
"""How many units a task has that can't be counted: it is told in thousandths of the whole, and shown in percent."""


def silent(task: str, done: int, total: int) -> None:
    """Show nothing."""
