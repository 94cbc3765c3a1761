"""How much of our cores other processes used while we measured. Reads /proc/stat; None where there is none."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_STAT = Path("/proc/stat")


class Bystanders:
    """Watches from its making on: the cores that this process may use, less what the process used itself."""

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self._busy, self._own = self._busy_seconds(), time.process_time()

    def taken(self) -> float | None:
        """The seconds that others took of each of our cores so far, on average; None where that can't be known.

        The kernel counts in hundredths of a second, so it is a little wrong either way, below nothing too: add up many.
        """
        busy = self._busy_seconds()
        if busy is None or self._busy is None:
            return None
        return (busy - self._busy - (time.process_time() - self._own)) / len(self._cores)

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
