"""Progress callback for long-running work. The caller decides how progress is displayed."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of the task ("bottlenecks"), the number of finished units, and the total number of units."""


class _Parts(int):
    """The type of PARTS, which distinguishes it from a task with exactly as many photos."""


PARTS = _Parts(1000)
"""Total of a task without countable units: progress is given in thousandths and shown in percent."""


def is_counted(total: int) -> bool:
    """Whether the total of a task is a number of units, not PARTS."""
    return not isinstance(total, _Parts)


def silent(task: str, done: int, total: int) -> None:
    """Show nothing."""
