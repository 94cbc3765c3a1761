"""Records throttling: of the GPU in each round of a runner that uses it, of the CPU over all rounds.

The process that is measured observes the GPU at the beginning and end of its rounds: after the rounds of other
runners, the GPU has cooled and its clock has fallen. Only the GPU that CUDA uses is observed.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Iterable

from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.system_files import system_text
from trtpoets.device.gpu.nvml import SLOWED, NvmlGpu, gpu_at, load_of, sm_clock

_GPU_CLOCK = re.compile(r"[0-9a-f]+\.(gpu|g[a-z]\d+b)|gpu-gpc-\d+")
"""The GPU's folder in /sys/class/devfreq: its bus address and "gpu", as 17000000.gpu (57000000.gpu on a Nano), or its
chip before JetPack 6, as .ga10b, .gv11b, .gp10b. Thor's GPU is on PCI: gpu-gpc-0 is the clock of its multiprocessors,
gpu-nvd-0 that of its video engines (github.com/rbonghi/jetson_stats/issues/885)."""


@dataclass(frozen=True)
class GpuLoad:
    """The state of the GPU at the end of a round, still busy. What is not known is None.

    `sm_mhz_before` and `sm_mhz` are its clock at the beginning and at the end in MHz, `temperature_c` is in degrees
    Celsius, `power_w` in watts; `throttled` names what lowered its clocks.
    """

    sm_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: tuple[str, ...] = ()
    sm_mhz_before: float | None = None


@dataclass(frozen=True)
class GpuSummary:
    """The state of the GPU over several rounds: extremes of `GpuLoad`, None where no round has the value."""

    sm_mhz_least: float | None = None
    sm_mhz_most: float | None = None
    temperature_c_most: float | None = None
    power_w_most: float | None = None
    throttled: tuple[str, ...] = ()


def jetson_gpu_clock(root: Path) -> Path | None:
    """Return the devfreq folder of a Jetson's GPU below `root`; None elsewhere."""
    folders = sorted(root.glob("sys/class/devfreq/*"))
    return next((folder for folder in folders if _GPU_CLOCK.fullmatch(folder.name)), None)


class GpuWatch:
    """Observes the GPU in rounds through NVML and a Jetson's files; a context manager that keeps NVML open.

    `bus_id` is the PCI bus id of the GPU that is used; with None NVML is not used. A Jetson's files are read below
    `root`. A Jetson is throttled after a thermal trip point (the state of the cooling devices "gpu-throttle-alert",
    "cpu-throttle-alert" and so on is then above 0), and after events of undervoltage or overcurrent, which have
    counters (Jetson Linux Developer Guide, Platform Power and Performance of the Jetson
    Orin series: /sys/class/thermal/cooling_device*, /sys/class/hwmon/hwmon*/oc*_event_cnt).
    """

    def __init__(self, bus_id: str | None, root: Path = Path("/")) -> None:
        self._bus_id, self._root = bus_id, root
        self._stack = ExitStack()
        self._gpu: NvmlGpu | None = None
        clock = jetson_gpu_clock(root)
        self._clock = clock / "cur_freq" if clock else None
        self._alerts = [
            file.with_name("cur_state")
            for file in sorted(root.glob("sys/class/thermal/cooling_device*/type"))
            if system_text(file).endswith("-throttle-alert")
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
        """Record the state at the beginning of a round; call it while the GPU is busy."""
        self._counted, self._before, self._hot = self._count(), self._sm_mhz(), self._alerted()

    def end(self) -> GpuLoad:
        """Return the state of the GPU at the end of the round; call it while the GPU is busy."""
        load = from_json(GpuLoad, to_json(load_of(self._gpu)), "NVML") if self._gpu else GpuLoad()
        reasons = set(load.throttled)
        if self._hot or self._alerted():
            reasons.add("too hot")
        now = self._count()
        if now is not None and self._counted is not None and now > self._counted:
            reasons.add("short of power")
        return replace(load, sm_mhz_before=self._before, sm_mhz=self._sm_mhz(), throttled=tuple(sorted(reasons)))

    def _sm_mhz(self) -> float | None:
        text = system_text(self._clock) if self._clock else ""
        if text.isdigit():
            return int(text) / 1e6
        return sm_clock(self._gpu) if self._gpu else None

    def _alerted(self) -> bool:
        return any(system_text(file) not in ("", "0") for file in self._alerts)

    def _count(self) -> int | None:
        counts = [system_text(file) for file in self._events]
        return sum(int(count) for count in counts if count.isdigit()) if counts else None


class CpuWatch:
    """Counts how often cores are throttled by heat from its construction on. System files are read below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._before = self._count()

    def throttled(self) -> int | None:
        """Return the number of throttling events until now; None where the CPU does not count them."""
        now = self._count()
        return None if now is None or self._before is None else now - self._before

    def _count(self) -> int | None:
        files = self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        counts = [system_text(file) for file in files]
        return sum(int(count) for count in counts if count.isdigit()) if counts else None


def throttling_problem(states: Iterable[GpuLoad | None]) -> str:
    """Return how the GPU was throttled, as the reason why timings are not valid; an empty string if it was not."""
    reasons = {word for state in states if state for word in state.throttled} & set(SLOWED)
    if not reasons:
        return ""
    return f"the GPU was {' and '.join(sorted(reasons))} meanwhile: measure again when it is cool, with power enough"


def gpu_summary(rounds: Iterable[GpuLoad | None]) -> GpuSummary | None:
    """Summarise the states of the GPU over rounds; None where it was watched in no round."""
    states = [state for state in rounds if state is not None]
    if not states:
        return None
    clocks = [mhz for state in states for mhz in (state.sm_mhz_before, state.sm_mhz) if mhz is not None]
    return GpuSummary(
        sm_mhz_least=min(clocks, default=None),
        sm_mhz_most=max(clocks, default=None),
        temperature_c_most=max(
            (state.temperature_c for state in states if state.temperature_c is not None), default=None
        ),
        power_w_most=max((state.power_w for state in states if state.power_w is not None), default=None),
        throttled=tuple(sorted({word for state in states for word in state.throttled})),
    )
