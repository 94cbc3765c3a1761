"""A fake of NVML's Python module with two GPUs, as nvidia-ml-py documents its functions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

CONSTANTS = {
    "NVML_CLOCK_SM": 1,
    "NVML_CLOCK_MEM": 2,
    "NVML_TEMPERATURE_GPU": 0,
    "nvmlClocksThrottleReasonSwPowerCap": 0x4,
    "nvmlClocksThrottleReasonHwSlowdown": 0x8,
    "nvmlClocksThrottleReasonSwThermalSlowdown": 0x20,
    "nvmlClocksThrottleReasonHwThermalSlowdown": 0x40,
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": 0x80,
}

OURS = "0000:3B:00.0"
"""The bus id of the GPU that CUDA uses, as CUDA writes it. NVML numbers it 1; GPU 0 is another one, busy and hot."""


class Driver:
    """The functions of nvidia-ml-py that trtpoets calls, with settable values for the GPU that CUDA uses.

    Calls that name a GPU by its index, or the other GPU, fail.
    """

    class NVMLError(Exception):
        """Raised for values that the driver does not report."""

    def __init__(self, **values: Any) -> None:
        self.opened = 0
        self.asked: list[str] = []
        self.values: dict[str, Any] = {
            "nvmlDeviceGetMigMode": None,
            "nvmlDeviceGetName": "NVIDIA H100",
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetPowerUsage": 310_500,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 << 30),
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
            "nvmlDeviceGetComputeRunningProcesses": [
                SimpleNamespace(pid=7, usedGpuMemory=512 << 20),
                SimpleNamespace(pid=8, usedGpuMemory=None),
            ],
            "nvmlDeviceGetTotalEnergyConsumption": 0,
            **values,
        }

    def nvmlInit(self) -> None:
        if "nvmlInit" in self.values:
            raise self.NVMLError
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def _handle(self, bus_id: bytes) -> str:
        assert isinstance(bus_id, bytes)  # older versions of nvidia-ml-py accept only bytes
        if bus_id.decode() != OURS:
            raise self.NVMLError("not found")
        return f"handle of {OURS}"

    def __getattr__(self, name: str) -> Any:
        def answer(handle: Any, *_: Any) -> Any:
            assert self.opened and handle == f"handle of {OURS}"
            self.asked.append(name)
            value = self.values[name]
            if value is None:
                raise self.NVMLError
            return value() if callable(value) else value

        if name == "nvmlDeviceGetHandleByPciBusId":
            return self._handle
        if name in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetCount"):
            raise AssertionError("NVML's indices are not CUDA's")
        if name.startswith("nvmlDevice"):
            return answer
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise AttributeError(name)
