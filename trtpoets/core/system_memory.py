"""The memory of this machine, as Linux reports it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Mapping


def memory_of(root: Path = Path("/")) -> Mapping[str, int]:
    """The entries of /proc/meminfo in bytes, by name, such as "MemTotal"; empty on a system without this file.

    `root` is the folder of the system's files.
    """
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return {}
    entries = re.findall(r"^(\w+):\s*(\d+) kB$", text, re.MULTILINE)
    return {name: int(kib) << 10 for name, kib in entries}


def available_memory(root: Path = Path("/")) -> int:
    """The number of bytes of memory and swap that a process may use: those of the machine or of its container.

    Memory used for caches counts as available.
    """
    values = memory_of(root)
    free = values["MemAvailable"] + values["SwapFree"]
    limit, used = (root / "sys/fs/cgroup" / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, max(int(limit.read_text()) - int(used.read_text()), 0))
    return free
