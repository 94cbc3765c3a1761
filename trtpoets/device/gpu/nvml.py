"""What NVIDIA's driver says of the GPU that CUDA uses (NVML, through nvidia-ml-py): clocks, throttling, processes.

A GPU is named by its PCI bus id (`pci.py`): NVML's indices are not CUDA's. Where the id is not known, where NVML
does not know it, or where MIG divides the GPU, so that what NVML tells is about other instances as well, there is
nothing to say. Nor is there without a driver or nvidia-ml-py. A Jetson before JetPack 7 has no NVML.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple

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


class Gpu(NamedTuple):
    """The module pynvml, initialised, and NVML's handle of one GPU."""

    nvml: Any
    handle: Any

    def told(self, name: str, *words: Any) -> Any:
        """What the function of this name answers about the GPU; None where this GPU, or this driver, has no answer.

        An old driver lacks functions (NVMLError_FunctionNotFound), an old nvidia-ml-py names.
        """
        try:
            return getattr(self.nvml, name)(self.handle, *words)
        except (self.nvml.NVMLError, AttributeError):
            return None


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


@contextmanager
def gpu_at(bus_id: str | None) -> Iterator[Gpu | None]:
    """The GPU at a PCI bus id; None where nothing is known of it: see above."""
    if bus_id is None:
        yield None
        return
    with library() as nvml:
        yield None if nvml is None else _found(nvml, bus_id)


def _found(nvml: Any, bus_id: str) -> Gpu | None:
    try:
        gpu = Gpu(nvml, nvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode("ascii")))
    except nvml.NVMLError:
        return None
    divided = gpu.told("nvmlDeviceGetMigMode")  # [now, after the next reset]
    return None if divided and divided[0] else gpu


def gpu_state(bus_id: str | None) -> dict[str, Any] | None:
    """How the GPU at a PCI bus id is now; None where it is not known. What its driver does not tell is None.

    Clocks are in MHz, power in watts, memory in MiB, temperature in degrees Celsius; `throttled` says in words what
    lowers the clocks now, `processes` how many processes compute on it.
    """
    with gpu_at(bus_id) as gpu:
        if gpu is None:
            return None
        running, limit = gpu.told("nvmlDeviceGetComputeRunningProcesses"), gpu.told("nvmlDeviceGetEnforcedPowerLimit")
        memory = gpu.told("nvmlDeviceGetMemoryInfo")
        return {
            "name": gpu.told("nvmlDeviceGetName"),
            "pci_bus_id": bus_id,
            **load_of(gpu),
            "sm_mhz_most": gpu.told("nvmlDeviceGetMaxClockInfo", gpu.nvml.NVML_CLOCK_SM),
            "memory_mhz": gpu.told("nvmlDeviceGetClockInfo", gpu.nvml.NVML_CLOCK_MEM),
            "power_limit_w": None if limit is None else limit / 1000,
            "memory_used_mib": None if memory is None else memory.used >> 20,
            "processes": None if running is None else len(running),
        }


def load_of(gpu: Gpu) -> dict[str, Any]:
    """Of a GPU what changes under load: `sm_mhz`, `temperature_c`, `power_w` and `throttled`, as in `gpu_state`."""
    power = gpu.told("nvmlDeviceGetPowerUsage")
    reasons = gpu.told("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    return {
        "sm_mhz": sm_clock(gpu),
        "temperature_c": gpu.told("nvmlDeviceGetTemperature", gpu.nvml.NVML_TEMPERATURE_GPU),
        "power_w": None if power is None else power / 1000,
        "throttled": sorted(
            {
                words
                for name, words in _HARMFUL.items()
                if reasons & getattr(gpu.nvml, f"nvmlClocksThrottleReason{name}", 0)
            }
        ),
    }


def sm_clock(gpu: Gpu) -> float | None:
    """The clock of a GPU's multiprocessors now, MHz."""
    found: float | None = gpu.told("nvmlDeviceGetClockInfo", gpu.nvml.NVML_CLOCK_SM)
    return found


def memory_of(pid: int, bus_id: str | None) -> float | None:
    """The memory, MiB, that a process holds on the GPU; None where the driver does not tell, as in a container."""
    with gpu_at(bus_id) as gpu:
        running = (gpu and gpu.told("nvmlDeviceGetComputeRunningProcesses")) or []
        found = [each.usedGpuMemory for each in running if each.pid == pid and each.usedGpuMemory is not None]
        return sum(found) / 2**20 if found else None
