"""The memory of the process that builds an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.build_requests import RTX, TENSORRT
from trtpoets.core.errors import BuildFailed
from trtpoets.core.system_files import available_memory
from trtpoets.core.types import OnnxModel
from trtpoets.device.build.engine import engine_from_onnx


def test_the_child_takes_no_more_memory_than_is_free(
    rtx: None, model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.device.build.build_child.available_memory", lambda: 200 << 20)
    monkeypatch.setattr("trtpoets.device.build.build_child._RESERVED", 0)
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, RTX, model.path.with_suffix(".engine"))
    assert "memory" in caught.value.message or "bad_alloc" in caught.value.message
    assert "free some memory" in caught.value.hint


def test_the_child_is_ended_first_without_memory(child: Any, model: OnnxModel) -> None:
    """The limits of the child during a build, as the system shows them."""
    pid_file = child("slow")
    messages: list[str] = []

    def look(task: str, done: int, total: int) -> None:
        if done and not messages:
            process = Path("/proc") / pid_file.read_text()
            messages.append((process / "oom_score_adj").read_text().strip())
            (limit,) = (line for line in (process / "limits").read_text().splitlines() if "Max data size" in line)
            messages.append(limit.split()[3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(model, TENSORRT, model.path.with_suffix(".engine"), progress=look)
    assert messages[0] == "1000"
    assert 0 < int(messages[1]) < 2 * (available_memory() + (512 << 20))


@pytest.mark.parametrize(
    ("limit", "used", "mib"), [("max", 0, 3000), ("2147483648", 1 << 30, 1024), ("1", 5, 0), (str(1 << 40), 0, 3000)]
)
def test_memory_to_use(tmp_path: Path, limit: str, used: int, mib: int) -> None:
    """A container's limit, where there is one, counts too."""
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.parent.mkdir()
    meminfo.write_text("MemTotal: 9999999 kB\nMemAvailable: 2048000 kB\nSwapFree: 1024000 kB\nHugePages_Free: 0\n")
    assert available_memory(tmp_path) == 3000 << 20
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    assert available_memory(tmp_path) == mib << 20
