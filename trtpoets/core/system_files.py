"""Reads files in which Linux and NVIDIA's driver describe the machine. `root` is the folder of the system's files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Mapping

_ROOT = Path("/")
_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+)(?:\.(\d+))?")


def system_text(path: Path) -> str:
    """The text of a small system file without the NUL and newline at its end; empty if it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def memory_of(root: Path = _ROOT) -> Mapping[str, int]:
    """The entries of /proc/meminfo in bytes, by name, such as "MemTotal"; empty on a system without this file."""
    entries = re.findall(r"^(\w+):\s*(\d+) kB$", system_text(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kib) << 10 for name, kib in entries}


def available_memory(root: Path = _ROOT) -> int:
    """The number of bytes of memory and swap that a process may use: those of the machine or of its container.

    Memory used for caches counts as available.
    """
    values = memory_of(root)
    free = values["MemAvailable"] + values["SwapFree"]
    limit, used = (root / "sys/fs/cgroup" / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, max(int(limit.read_text()) - int(used.read_text()), 0))
    return free


def l4t_release(text: str) -> tuple[int, ...] | None:
    """The L4T release in the text of /etc/nv_tegra_release, such as (36, 4, 3); None if there is none."""
    match = _RELEASE.search(text)
    return tuple(int(number) for number in match.groups(default="0")) if match else None
