"""Watches what slows a machine down: the GPU in each round of a runner that uses it, the CPU's cores over all rounds.

The GPU is watched by the process that is measured, which begins and ends its rounds: when all runners are through a
round, the GPU has cooled and clocked down, and what it says then is nobody's. Only the GPU that CUDA uses counts.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Iterable, Mapping

from trtpoets.device.doctor.system import read_text
from trtpoets.device.gpu.nvml import SLOWED, NvmlGpu, gpu_at, load_of, sm_clock

_GPU_CLOCK = re.compile(r"[0-9a-f]+\.(gpu|g[a-z]\d+b)|gpu-gpc-\d+")
"""The GPU's folder in /sys/class/devfreq: 17000000.gpu, or .ga10b, .gv11b, .gp10b before JetPack 6 and 57000000.gpu of
a Nano: its bus address and its chip. Thor's GPU is on PCI: gpu-gpc-0 is the clock of its multiprocessors, gpu-nvd-0
that of its video engines (github.com/rbonghi/jetson_stats/issues/885)."""


def jetson_gpu_clock(root: Path) -> Path | None:
    """The devfreq folder of a Jetson's GPU below `root`; None elsewhere."""
    folders = sorted(root.glob("sys/class/devfreq/*"))
    return next((each for each in folders if _GPU_CLOCK.fullmatch(each.name)), None)


class GpuWatch:
    """What the GPU does in one round after the other, as NVML and a Jetson's files tell; enter to keep NVML open.

    `bus_id` is the PCI bus id of the GPU that is used, None where it is not known: then NVML is not asked. A Jetson's
    files are read below `root`. What throttles a Jetson: a thermal trip point that was passed (the cooling devices
    "gpu-throttle-alert", "cpu-throttle-alert" and so on, whose state is then above 0) and events of too low a voltage
    or too much current, which are counted (Jetson Linux Developer Guide, Platform Power and Performance of the Jetson
    Orin series: /sys/class/thermal/cooling_device*, /sys/class/hwmon/hwmon*/oc*_event_cnt).
    """

    def __init__(self, bus_id: str | None, root: Path = Path("/")) -> None:
        self._bus_id, self._root = bus_id, root
        self._stack = ExitStack()
        self._gpu: NvmlGpu | None = None
        clock = jetson_gpu_clock(root)
        self._clock = clock / "cur_freq" if clock else None
        self._alerts = [
            each.with_name("cur_state")
            for each in sorted(root.glob("sys/class/thermal/cooling_device*/type"))
            if read_text(each).endswith("-throttle-alert")
        ]
        self._events = sorted(root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt"))
        self._counted: int | None = None
        self._before: float | None = None
        self._hot = False

    def __enter__(self) -> GpuWatch:
        self._gpu = self._stack.enter_context(gpu_at(self._bus_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gpu = None
        self._stack.close()

    def begin(self) -> None:
        """A round begins now, and the GPU is busy already."""
        self._counted, self._before, self._hot = self._count(), self._sm_mhz(), self._alerted()

    def end(self) -> dict[str, Any]:
        """How the GPU is at the end of the round, still busy, as JSON. What is not told is None.

        `sm_mhz_before` and `sm_mhz` are its clock at the beginning and now, in MHz, `temperature_c` in degrees Celsius,
        `power_w` in watts; `throttled` says in words what lowered its clocks.
        """
        told: dict[str, Any] = {"sm_mhz": None, "temperature_c": None, "power_w": None, "throttled": []}
        if self._gpu:
            told = load_of(self._gpu)
        words = set(told["throttled"] or ())
        if self._hot or self._alerted():
            words.add("too hot")
        now = self._count()
        if now is not None and self._counted is not None and now > self._counted:
            words.add("short of power")
        return {**told, "sm_mhz_before": self._before, "sm_mhz": self._sm_mhz(), "throttled": sorted(words)}

    def _sm_mhz(self) -> float | None:
        text = read_text(self._clock) if self._clock else ""
        if text.isdigit():
            return int(text) / 1e6
        return sm_clock(self._gpu) if self._gpu else None

    def _alerted(self) -> bool:
        return any(read_text(each) not in ("", "0") for each in self._alerts)

    def _count(self) -> int | None:
        counts = [read_text(file) for file in self._events]
        return sum(int(count) for count in counts if count.isdigit()) if counts else None


class CpuWatch:
    """How often cores are throttled by heat from its making on. The system's files are read below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._before = self._count()

    def throttled(self) -> int | None:
        """How often so far; None where the CPU does not tell."""
        now = self._count()
        return None if now is None or self._before is None else now - self._before

    def _count(self) -> int | None:
        files = self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        counts = [read_text(file) for file in files]
        return sum(int(count) for count in counts if count.isdigit()) if counts else None


def why_slowed(states: Iterable[Mapping[str, Any] | None]) -> str:
    """Why timings are those of a GPU that was throttled, by what `GpuWatch.end` said; empty where they are not."""
    words = {word for state in states if state for word in state["throttled"]} & set(SLOWED)
    if not words:
        return ""
    return f"the GPU was {' and '.join(sorted(words))} meanwhile: measure again when it is cool, with power enough"


def gpu_summary(rounds: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """What `GpuWatch.end` said of rounds, taken together; None where no round was watched."""
    states = [each for each in rounds if each is not None]

    def known(*words: str) -> list[float]:
        return [state[word] for state in states for word in words if state.get(word) is not None]

    if not states:
        return None
    clocks = known("sm_mhz_before", "sm_mhz")
    return {
        "sm_mhz_least": min(clocks, default=None),
        "sm_mhz_most": max(clocks, default=None),
        "temperature_c_most": max(known("temperature_c"), default=None),
        "power_w_most": max(known("power_w"), default=None),
        "throttled": sorted({word for state in states for word in state["throttled"]}),
    }
