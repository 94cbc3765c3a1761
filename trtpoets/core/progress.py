"""Progress callback for long-running work. The caller decides how progress is displayed."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of the task ("bottlenecks"), the number of finished units, and the total number of units."""


class _Parts(int):
    """The type of PARTS, so that PARTS differs from the total of a task with 1,000 units."""


PARTS = _Parts(1000)
"""Total of a task without countable units: its progress is reported in thousandths and shown in percent."""


def is_counted(total: int) -> bool:
    """Whether the total of a task is a number of units, not PARTS."""
    return not isinstance(total, _Parts)


def silent(task: str, done: int, total: int) -> None:
    """Ignore the progress: the default callback."""


def about(subject: str, progress: Progress) -> Progress:
    """A callback that passes to `progress` what a task is about, like "bottlenecks of mobilenet_v2".

    For work that repeats tasks of the same name.
    """

    def show(task: str, done: int, total: int) -> None:
        progress(f"{task} of {subject}", done, total)

    return show
