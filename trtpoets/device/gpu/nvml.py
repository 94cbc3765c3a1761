"""Reads clocks, throttling, power and processes of the GPU that CUDA uses (NVML, through nvidia-ml-py).

A GPU is identified by its PCI bus id (`pci.py`), because NVML's indices differ from CUDA's. The functions return None
if the id is unknown, if the GPU is divided by MIG (NVML's values would include other instances), or without a driver or
nvidia-ml-py. A Jetson before JetPack 7 has no NVML.
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
"""NVML's throttle reasons that are reported. SwPowerCap does not make a measurement invalid."""

SLOWED = ("too hot", "short of power", "slowed down by the board")
"""The reasons that make a measurement invalid."""


class NvmlGpu(NamedTuple):
    """The initialised module pynvml, and NVML's handle of a GPU."""

    nvml: Any
    handle: Any

    def query(self, name: str, *arguments: Any) -> Any:
        """The result of an NVML function for this GPU; None if the GPU or the driver does not support it.

        An old driver does not have all functions (NVMLError_FunctionNotFound), an old nvidia-ml-py not all names.
        """
        try:
            return getattr(self.nvml, name)(self.handle, *arguments)
        except (self.nvml.NVMLError, AttributeError):
            return None


@contextmanager
def library() -> Iterator[Any]:
    """Yield the initialised module pynvml; None if it is not installed or finds no driver."""
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
def gpu_at(bus_id: str | None) -> Iterator[NvmlGpu | None]:
    """Yield the GPU at a PCI bus id; None in the cases described at the top of this module."""
    if bus_id is None:
        yield None
        return
    with library() as nvml:
        yield None if nvml is None else _find(nvml, bus_id)


def _find(nvml: Any, bus_id: str) -> NvmlGpu | None:
    try:
        gpu = NvmlGpu(nvml, nvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode("ascii")))
    except nvml.NVMLError:
        return None
    divided = gpu.query("nvmlDeviceGetMigMode")  # [current mode, mode after the next reset]
    return None if divided and divided[0] else gpu


def gpu_state(bus_id: str | None) -> dict[str, Any] | None:
    """The current state of the GPU at a PCI bus id; None if unknown. Values that the driver does not report are None.

    Clocks are in MHz, power in watts, memory in MiB, temperature in degrees Celsius; `throttled` lists the reasons that
    lower the clocks, `processes` is the number of processes that compute on it.
    """
    with gpu_at(bus_id) as gpu:
        if gpu is None:
            return None
        running, limit = gpu.query("nvmlDeviceGetComputeRunningProcesses"), gpu.query("nvmlDeviceGetEnforcedPowerLimit")
        memory = gpu.query("nvmlDeviceGetMemoryInfo")
        return {
            "name": gpu.query("nvmlDeviceGetName"),
            "pci_bus_id": bus_id,
            **load_of(gpu),
            "sm_mhz_most": gpu.query("nvmlDeviceGetMaxClockInfo", gpu.nvml.NVML_CLOCK_SM),
            "memory_mhz": gpu.query("nvmlDeviceGetClockInfo", gpu.nvml.NVML_CLOCK_MEM),
            "power_limit_w": None if limit is None else limit / 1000,
            "memory_used_mib": None if memory is None else memory.used >> 20,
            "processes": None if running is None else len(running),
        }


def load_of(gpu: NvmlGpu) -> dict[str, Any]:
    """The values that change under load: `sm_mhz`, `temperature_c`, `power_w` and `throttled`, as in `gpu_state`."""
    power = gpu.query("nvmlDeviceGetPowerUsage")
    reasons = gpu.query("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    return {
        "sm_mhz": sm_clock(gpu),
        "temperature_c": gpu.query("nvmlDeviceGetTemperature", gpu.nvml.NVML_TEMPERATURE_GPU),
        "power_w": None if power is None else power / 1000,
        "throttled": sorted(
            {
                words
                for name, words in _HARMFUL.items()
                if reasons & getattr(gpu.nvml, f"nvmlClocksThrottleReason{name}", 0)
            }
        ),
    }


def sm_clock(gpu: NvmlGpu) -> float | None:
    """The current clock of a GPU's multiprocessors in MHz."""
    clock: float | None = gpu.query("nvmlDeviceGetClockInfo", gpu.nvml.NVML_CLOCK_SM)
    return clock


def memory_of(pid: int, bus_id: str | None) -> float | None:
    """The memory in MiB that a process uses on the GPU; None if the driver does not report it, as in a container."""
    with gpu_at(bus_id) as gpu:
        running = (gpu and gpu.query("nvmlDeviceGetComputeRunningProcesses")) or []
        used = [process.usedGpuMemory for process in running if process.pid == pid]
        known = [size for size in used if size is not None]
        return sum(known) / 2**20 if known else None
