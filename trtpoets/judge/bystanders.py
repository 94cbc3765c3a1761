"""How much of our cores other processes used while we measured. Reads /proc/stat; None where there is none."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_STAT = Path("/proc/stat")

_LEAST_SECONDS = 0.5
"""The kernel counts in hundredths of a second: a shorter watch says nothing."""


class Bystanders:
    """Watches from its making on: the cores that this process may use, less what the process used itself."""

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self._began, self._busy, self._own = time.monotonic(), self._busy_seconds(), time.process_time()

    def share(self) -> float | None:
        """The share 0..1 of our cores' time that went to others; None where it can't be known, or too early to say."""
        seconds, busy = time.monotonic() - self._began, self._busy_seconds()
        if busy is None or self._busy is None or seconds < _LEAST_SECONDS:
            return None
        others = busy - self._busy - (time.process_time() - self._own)
        return min(max(others / (seconds * len(self._cores)), 0.0), 1.0)

    def _busy_seconds(self) -> float | None:
        """Seconds that our cores worked for anyone since the machine started, time that a hypervisor took included."""
        try:
            text = _STAT.read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        ticks = 0
        for core in self._cores:
            found = re.search(rf"^cpu{core} (.*)$", text, re.MULTILINE)
            if found is None:
                return None
            # user nice system idle iowait irq softirq steal; guest time is in user already
            counted = [int(value) for value in found.group(1).split()[:8]]
            ticks += sum(counted) - sum(counted[3:5])
        return ticks / os.sysconf("SC_CLK_TCK")
