"""Watches the machine between rounds: what was hot, throttled or slow while runners were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtpoets.device.doctor.system import read_text
from trtpoets.judge.nvml import SLOWED, gpu_states


class MachineWatch:
    """Looked at after each round of all runners. The system's files are read below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._seen: dict[int, list[dict[str, Any]]] = {}
        self._gpus = bool(gpu_states())
        self._throttled = self._cpu_throttles()

    def look(self, batch: int) -> None:
        """Take down how the GPUs are, at a batch size. Without a GPU it costs nothing."""
        if self._gpus:
            self._seen.setdefault(batch, []).extend(gpu_states())

    def slowed(self, batch: int) -> str:
        """What slowed the GPU down at a batch size, in words; empty if nothing did."""
        words = {word for state in self._seen.get(batch, []) for word in state["throttled"]}
        return " and ".join(sorted(words & set(SLOWED)))

    def told(self) -> dict[str, Any]:
        """As JSON: by batch size the GPU's least clock, most heat and power, and what throttled it.

        `cpu_throttled` counts how often cores were throttled by heat meanwhile, None where the CPU does not tell.
        """
        now = self._cpu_throttles()
        counted = None if now is None or self._throttled is None else now - self._throttled
        return {"cpu_throttled": counted, "gpu": {str(batch): _summary(states) for batch, states in self._seen.items()}}

    def _cpu_throttles(self) -> int | None:
        files = self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        counts = [read_text(file) for file in files]
        return sum(int(count) for count in counts if count.isdigit()) if counts else None


def _summary(states: list[dict[str, Any]]) -> dict[str, Any]:
    def known(what: str) -> list[float]:
        return [state[what] for state in states if state[what] is not None]

    return {
        "sm_mhz_least": min(known("sm_mhz"), default=None),
        "temperature_c_most": max(known("temperature_c"), default=None),
        "power_w_most": max(known("power_w"), default=None),
        "throttled": sorted({word for state in states for word in state["throttled"]}),
    }
