"""What NVIDIA's driver says of its GPUs (NVML, through nvidia-ml-py): clocks, power, throttling, who else is there.

Where there is no driver, or no nvidia-ml-py, there is nothing to say. A Jetson before JetPack 7 has no NVML.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterator

_HARMFUL = {
    "SwThermalSlowdown": "too hot",
    "HwThermalSlowdown": "too hot",
    "HwPowerBrakeSlowdown": "short of power",
    "HwSlowdown": "slowed down by the board",
    "SwPowerCap": "at its power limit",
}
"""Reasons for lower clocks that make a timing one of the machine's state; the power limit is only told."""

SLOWED = ("too hot", "short of power", "slowed down by the board")
"""Of those, what makes it invalid."""


@contextmanager
def library() -> Iterator[Any]:
    """The module pynvml, initialised; None where it is not installed or finds no driver."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def gpu_states() -> list[dict[str, Any]]:
    """How each GPU is now. What its driver does not tell is None.

    Clocks are in MHz, power in watts, memory in MiB, temperature in degrees Celsius; `throttled` says in words what
    lowers the clocks now, `processes` how many processes compute on it.
    """
    with library() as nvml:
        if nvml is None:
            return []
        return [_state(nvml, nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount())]


def memory_of(pid: int) -> float | None:
    """The GPU memory, MiB, that a process holds on all GPUs; None where the driver does not tell, as in a container."""
    with library() as nvml:
        if nvml is None:
            return None
        found = []
        for i in range(nvml.nvmlDeviceGetCount()):
            running = _running(nvml, nvml.nvmlDeviceGetHandleByIndex(i)) or []
            found += [each.usedGpuMemory for each in running if each.pid == pid and each.usedGpuMemory is not None]
        return sum(found) / 2**20 if found else None


def _state(nvml: Any, gpu: Any) -> dict[str, Any]:
    reasons = _told(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)) or 0
    running = _running(nvml, gpu)
    power, limit = (
        _told(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(gpu)),
        _told(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu)),
    )
    memory = _told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(gpu))
    return {
        "name": _told(nvml, lambda: nvml.nvmlDeviceGetName(gpu)),
        "sm_mhz": _told(nvml, lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        "sm_mhz_most": _told(nvml, lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        "memory_mhz": _told(nvml, lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
        "power_w": None if power is None else power / 1000,
        "power_limit_w": None if limit is None else limit / 1000,
        "temperature_c": _told(nvml, lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
        "memory_used_mib": None if memory is None else memory.used >> 20,
        "throttled": sorted(
            {words for name, words in _HARMFUL.items() if reasons & getattr(nvml, f"nvmlClocksThrottleReason{name}", 0)}
        ),
        "processes": None if running is None else len(running),
    }


def _running(nvml: Any, gpu: Any) -> Any:
    return _told(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(gpu))


def _told(nvml: Any, ask: Callable[[], Any]) -> Any:
    """What the driver answers; None where this GPU, or this driver, has no answer."""
    try:
        return ask()
    except nvml.NVMLError:
        return None
