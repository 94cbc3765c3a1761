"""Measures the CPU time that other processes use during a measurement, from /proc/stat."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_STAT = Path("/proc/stat")


class CpuContention:
    """Measures the CPU time of other processes on the cores that this process may use, from its construction on."""

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self._busy, self._own = self._busy_seconds(), time.process_time()

    def other_seconds(self) -> float | None:
        """Return the seconds that other processes used so far, on average per core of `_cores`; None if unknown.

        The kernel counts in hundredths of a second, so single values are inexact and may be negative: add up many.
        """
        busy = self._busy_seconds()
        if busy is None or self._busy is None:
            return None
        return (busy - self._busy - (time.process_time() - self._own)) / len(self._cores)

    def _busy_seconds(self) -> float | None:
        """Return the busy seconds of `_cores` since the machine started, including time stolen by a hypervisor."""
        try:
            text = _STAT.read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        ticks = 0
        for core in self._cores:
            match = re.search(rf"^cpu{core} (.*)$", text, re.MULTILINE)
            if match is None:
                return None
            # user nice system idle iowait irq softirq steal; guest time is in user already
            counted = [int(value) for value in match.group(1).split()[:8]]
            ticks += sum(counted) - sum(counted[3:5])
        return ticks / os.sysconf("SC_CLK_TCK")
