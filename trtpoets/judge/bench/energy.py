"""Measures energy with the sensor of a machine: the rails of a Jetson, the counter of the GPU, or that of the CPU.

Each sensor covers another part of the machine, so their values are not comparable; `covers` names the part.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol

from trtpoets.core.system_files import system_text
from trtpoets.device.gpu.nvml import NvmlGpu, gpu_at

_SAMPLES_PER_SECOND = 20
_WHOLE = ("VIN", "VDD_IN", "POM_5V_IN", "5V_IN")
"""Names of the rail that feeds all others, the most comprehensive first; without one, the rails are added up.

VIN is the input of a Thor's carrier board, measured by an INA238 (github.com/rbonghi/jetson_stats/pull/900).
"""

_PART_OF = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails that another one feeds, which measures them too. AGX Orin: "VIN_SYS_5V0: system 5V rail, which supplies various
IOs, e.g. HDMI, USB, UPHY, UFS, SDMMC, eMMC, DDR", and memory's own channel shows the voltage of that rail (Jetson Linux
developer guide, "Jetson AGX Orin Series", "Power Monitor")."""

_INPUT_CHIP = "ina238"
"""A chip with one channel, for the bus voltage and current (docs.kernel.org/hwmon/ina238.html)."""

_IDLE_SECONDS = 1.0


class Sensor(Protocol):
    """Counts energy between entering and leaving."""

    covers: str

    def __enter__(self) -> Sensor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def joules(self) -> float:
        """Return the energy since entering, in joules."""


def find_sensor(root: Path = Path("/"), gpu: str | None = None) -> Sensor | None:
    """Return the sensor that covers most of this machine; None without a readable one.

    System files are read below `root`. `gpu` is the PCI bus id of the GPU that is used, None where it is not known.
    """
    rails = _rails(root)
    if rails:
        return Rails(rails)
    with gpu_at(gpu) as nvml_gpu:
        if gpu and nvml_gpu and _millijoules(nvml_gpu) is not None:
            return GpuCounter(gpu)
    package = root / "sys/class/powercap/intel-rapl:0"
    return CpuCounter(package) if system_text(package / "energy_uj").isdigit() else None


def idle_watts(sensor: Sensor, seconds: float = _IDLE_SECONDS) -> float:
    """Return the power of the machine when idle, in watts, by an entered sensor."""
    began, before = time.monotonic(), sensor.joules()
    time.sleep(seconds)
    return (sensor.joules() - before) / (time.monotonic() - began)


class Rails:
    """A Jetson's INA3221 or INA238: volts and amperes of its rails, sampled by a thread and added up."""

    def __init__(self, rails: dict[str, tuple[Path, Path]]) -> None:
        self.covers = f"board ({', '.join(rails)})"
        self._rails = rails
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._joules, self._last = 0.0, 0.0
        self._thread = threading.Thread(target=self._sample, daemon=True, name="power-rails")

    def __enter__(self) -> Rails:
        self._last = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def joules(self) -> float:
        """Return the energy since entering, in joules; takes a sample."""
        self._add()
        return self._joules

    def _sample(self) -> None:
        while not self._ended.wait(1 / _SAMPLES_PER_SECOND):
            self._add()

    def _add(self) -> None:
        with self._lock:
            watts = sum(_number(volts) * _number(amperes) for volts, amperes in self._rails.values()) / 1e6  # mV, mA
            now = time.monotonic()
            self._joules += watts * (now - self._last)
            self._last = now


class GpuCounter:
    """The energy counter of the NVIDIA GPU at a PCI bus id (Volta and later)."""

    covers = "GPU"

    def __init__(self, bus_id: str) -> None:
        self._bus_id = bus_id
        self._stack = ExitStack()
        self._gpu: NvmlGpu | None = None
        self._began = self._last = 0.0

    def __enter__(self) -> GpuCounter:
        self._gpu = self._stack.enter_context(gpu_at(self._bus_id))
        self._began = self._count()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def joules(self) -> float:
        """Return the energy since entering, in joules."""
        return self._count() - self._began

    def _count(self) -> float:
        counted = None if self._gpu is None else _millijoules(self._gpu)
        self._last = self._last if counted is None else counted / 1000
        return self._last


def _millijoules(gpu: NvmlGpu) -> int | None:
    """Return the energy of a GPU since its driver was loaded in mJ; None without a counter."""
    millijoules: int | None = gpu.query("nvmlDeviceGetTotalEnergyConsumption")
    return millijoules


class CpuCounter:
    """The energy counter of the first CPU package (RAPL); most systems let only root read it."""

    covers = "CPU package"

    def __init__(self, package: Path) -> None:
        self._file = package / "energy_uj"
        self._range = _number(package / "max_energy_range_uj")
        self._last = self._total = 0.0

    def __enter__(self) -> CpuCounter:
        self._last, self._total = _number(self._file), 0.0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def joules(self) -> float:
        """Return the energy since entering, in joules. Call it every minute, as the counter overflows."""
        now = _number(self._file)
        self._total += now - self._last if now >= self._last else now - self._last + self._range
        self._last = now
        return self._total / 1e6


def _rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return the files of voltage and current by rail: the one that feeds all, or those that no other one feeds."""
    files_by_rail = {}
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in[123]_label")):
        number = re.sub(r"\D", "", label.name)
        files_by_rail[system_text(label)] = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if system_text(chip / "name") == _INPUT_CHIP:
            name = system_text(chip / "in1_label") or system_text(chip / "label") or _WHOLE[0]
            files_by_rail.setdefault(name, (chip / "in1_input", chip / "curr1_input"))
    # The current of an idle rail may be slightly negative.
    readable = {
        name: files
        for name, files in files_by_rail.items()
        if name not in ("", "NC") and all(_NUMBER.fullmatch(system_text(file)) for file in files)
    }
    whole = [name for name in _WHOLE if name in readable]
    if whole:
        return {whole[0]: readable[whole[0]]}
    return {name: files for name, files in readable.items() if _PART_OF.get(name) not in readable}


_NUMBER = re.compile(r"-?\d+")


def _number(file: Path) -> float:
    """Return the number in a file; 0 if it cannot be read at the moment."""
    text = system_text(file)
    return float(text) if _NUMBER.fullmatch(text) else 0.0
