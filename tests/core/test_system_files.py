"""Files in which Linux and NVIDIA's driver describe a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.machines import write
from trtpoets.core.system_files import available_memory, l4t_release, memory_of, system_text

MEMINFO = "MemTotal:        7802840 kB\nMemAvailable:    1000 kB\nSwapFree:  24 kB\nHugePages_Total:       0\n"


def test_text_without_its_end(tmp_path: Path) -> None:
    write(tmp_path, {"model": "Jetson Orin Nano\0", "clock": "1000\n"})
    (tmp_path / "bytes").write_bytes(b"caf\xe9")
    assert system_text(tmp_path / "model") == "Jetson Orin Nano"
    assert system_text(tmp_path / "clock") == "1000"
    assert system_text(tmp_path / "bytes") == "caf\ufffd"
    assert system_text(tmp_path / "absent") == system_text(tmp_path) == ""


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/meminfo": MEMINFO})
    assert memory_of(root) == {"MemTotal": 7802840 << 10, "MemAvailable": 1000 << 10, "SwapFree": 24 << 10}
    assert memory_of(tmp_path / "elsewhere") == {}
    assert memory_of()["MemTotal"] > 1 << 20


@pytest.mark.parametrize(
    ("limit", "used", "available"),
    [("max", "5", 1024 << 10), ("900000", "100000", 800_000), ("100", "200", 0), ("99999999999", "1", 1024 << 10)],
)
def test_a_container_may_have_less_than_the_machine(tmp_path: Path, limit: str, used: str, available: int) -> None:
    groups = {"sys/fs/cgroup/memory.max": f"{limit}\n", "sys/fs/cgroup/memory.current": f"{used}\n"}
    assert available_memory(write(tmp_path, {"proc/meminfo": MEMINFO, **groups})) == available


def test_swap_counts_as_available(tmp_path: Path) -> None:
    assert available_memory(write(tmp_path, {"proc/meminfo": MEMINFO})) == 1024 << 10


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", (36, 4, 3)),
        ("# R38 (release), REVISION: 2, GCID: 1", (38, 2, 0)),
        ("", None),
        ("R36", None),
    ],
)
def test_the_release_of_l4t(text: str, release: tuple[int, ...] | None) -> None:
    assert l4t_release(text) == release
