"""Sensors made up from documented files, a driver that is made up too, and what a benchmark makes of them."""

from __future__ import annotations

import ast
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.gpu import FakeGpu
from tests.fakes.machines import write
from tests.support.benchmarks import QUICK, WARM, scripted
from tests.support.runner_ids import FAKE
from tests.support.tiny import tiny_spec
from trtpoets.core.types import Photo
from trtpoets.device.gpu import nvml
from trtpoets.device.gpu.pci import cuda_bus_id
from trtpoets.judge.bench import benchmark, energy, slowdown_watch
from trtpoets.judge.bench.conditions import EnergyConditions, conditions
from trtpoets.judge.bench.energy import CpuCounter, GpuCounter, Rails, find_sensor, idle_watts
from trtpoets.judge.bench.measure import RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Round
from trtpoets.judge.bench.slowdown_watch import CpuWatch, GpuWatch

INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def rails(*named: tuple[str, int, int]) -> dict[str, str]:
    """The files of an INA3221: label, millivolts and milliamperes of each rail."""
    files: dict[str, str] = {}
    for number, (label, volts, amperes) in enumerate(named, 1):
        values = {"in{}_label": label, "in{}_input": str(volts), "curr{}_input": str(amperes)}
        files |= {f"{INA}/{name.format(number)}": f"{value}\n" for name, value in values.items()}
    return files


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
"""The bus id of the GPU that CUDA uses, as CUDA writes it. To NVML it is GPU 1: GPU 0 is another, and busy and hot."""


class Driver:
    """As much of nvidia-ml-py as is asked for: two GPUs, and what was set of the one that CUDA uses.

    Whoever asks for a GPU by its index, or about the other one, fails.
    """

    class NVMLError(Exception):
        """What the driver does not tell."""

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
        assert isinstance(bus_id, bytes)  # older versions of nvidia-ml-py take nothing else
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


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    result = Driver()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", result)
    return result


def test_every_name_that_is_asked_for_is_nvidias() -> None:
    pynvml = pytest.importorskip("pynvml")
    used = {
        node.attr
        for module in (nvml, energy)
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text()))
        if isinstance(node, ast.Attribute) and node.attr.lower().startswith("nvml")
    }
    assert len(used) > 12
    assert [name for name in sorted(used) if not hasattr(pynvml, name)] == []
    assert {name: getattr(pynvml, name) for name in CONSTANTS} == CONSTANTS
    assert {f"nvmlClocksThrottleReason{name}" for name in nvml._HARMFUL} <= set(CONSTANTS)


def test_the_state_of_a_gpu(driver: Driver) -> None:
    driver.values["nvmlDeviceGetCurrentClocksThrottleReasons"] = 0x4 | 0x40
    state = nvml.gpu_state(OURS)
    assert state is not None
    assert (state["name"], state["sm_mhz"], state["sm_mhz_most"]) == ("NVIDIA H100", 1755, 1980)
    assert (state["power_w"], state["power_limit_w"], state["temperature_c"]) == (310.5, 700.0, 61)
    assert (state["memory_used_mib"], state["processes"]) == (3072, 2)
    assert state["throttled"] == ["at its power limit", "too hot"]
    assert [nvml.memory_of(pid, OURS) for pid in (7, 8, 9)] == [512.0, None, None]
    assert driver.opened == 0


@pytest.mark.parametrize("bus_id", [None, "0000:00:00.0"], ids=["no CUDA", "a Jetson's"])
def test_a_gpu_that_nvml_does_not_know_is_unknown(driver: Driver, bus_id: str | None) -> None:
    assert nvml.gpu_state(bus_id) is None
    assert nvml.memory_of(7, bus_id) is None
    assert find_sensor(Path("/nowhere"), bus_id) is None
    with GpuWatch(bus_id, Path("/nowhere")) as seen:
        seen.begin()
        assert seen.end().sm_mhz is None
    assert (driver.asked, driver.opened) == ([], 0)


def test_the_state_of_a_gpu_divided_by_mig_is_unknown(driver: Driver) -> None:
    """Power, processes and energy would be those of other instances too."""
    driver.values["nvmlDeviceGetMigMode"] = [1, 1]
    assert nvml.gpu_state(OURS) is None
    assert nvml.memory_of(7, OURS) is None
    assert find_sensor(Path("/nowhere"), OURS) is None
    driver.values["nvmlDeviceGetMigMode"] = [0, 1]
    assert nvml.gpu_state(OURS) is not None


def test_the_gpu_is_the_one_that_cuda_uses(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    assert cuda_bus_id() == OURS
    (state,) = conditions().gpu_state
    assert (state.name, state.pci_bus_id) == ("NVIDIA H100", OURS)
    assert cuda_bus_id(1) is None


def test_a_driver_that_lacks_some_values(driver: Driver) -> None:
    for name in driver.values:
        driver.values[name] = None
    state = nvml.gpu_state(OURS)
    assert state is not None
    assert {key for key, value in state.items() if value is not None} == {"throttled", "pci_bus_id"}
    assert nvml.memory_of(7, OURS) is None
    assert find_sensor(Path("/nowhere"), OURS) is None
    driver.values["nvmlInit"] = None
    assert nvml.gpu_state(OURS) is None
    assert driver.opened == 0


def test_without_nvidias_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert nvml.gpu_state(OURS) is None
    assert nvml.memory_of(1, OURS) is None


def test_a_jetsons_rails(tmp_path: Path) -> None:
    files = rails(("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400))
    sensor = find_sensor(write(tmp_path, files))
    assert isinstance(sensor, Rails)
    assert sensor.covers == "board (VDD_IN)"
    with sensor:
        assert idle_watts(sensor, 0.2) == pytest.approx(10.0, rel=0.05)
        (tmp_path / INA / "curr1_input").write_text("4000\n")
        time.sleep(0.1)
        before, began = sensor.joules(), time.monotonic()
        time.sleep(0.2)
        assert (sensor.joules() - before) / (time.monotonic() - began) == pytest.approx(20.0, rel=0.05)
    assert not sensor._thread.is_alive()


AGX_ORIN = {
    f"sys/bus/i2c/drivers/ina3221/1-00{chip}/hwmon/{folder}/{name}": f"{value}\n"
    for chip, folder, channels in (
        ("40", "hwmon3", (("VDD_GPU_SOC", 19400, 160), ("VDD_CPU_CV", 19392, 40), ("VIN_SYS_5V0", 4968, 953))),
        ("41", "hwmon4", (("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80), ("NC", 0, 0))),
    )
    for number, (label, volts, amperes) in enumerate(channels, 1)
    for name, value in (
        (f"in{number}_label", label),
        (f"in{number}_input", volts),
        (f"curr{number}_input", amperes),
        ("in7_label", "sum of shunt voltages"),
        ("in7_input", 760),
    )
}
"""Chips, labels and voltages of an AGX Orin, as in public readings: memory's rail has the voltage of VIN_SYS_5V0."""


def test_no_rail_of_an_agx_orin_counts_twice(tmp_path: Path) -> None:
    sensor = find_sensor(write(tmp_path, AGX_ORIN))
    assert isinstance(sensor, Rails)
    assert sensor.covers == "board (VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0)"
    (tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in3_label").unlink()  # the rail that feeds it
    alone = find_sensor(tmp_path)
    assert alone and alone.covers == "board (VDD_GPU_SOC, VDD_CPU_CV, VDDQ_VDD2_1V8AO)"


def test_a_thors_input(tmp_path: Path) -> None:
    """A Thor has an INA3221 for the module's rails and an INA238 for the input of the carrier board."""
    module = rails(("VDD_GPU", 19000, -20), ("VDD_CPU_SOC_MSS", 19000, 343), ("VIN_SYS_5V0", 4968, 1312))
    sensor = find_sensor(write(tmp_path, module))
    assert sensor and sensor.covers == "board (VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0)"  # one at rest is below 0
    chip = {"name": "ina238", "in0_input": 5, "in1_input": 19980, "curr1_input": 1150, "power1_input": 22977000}
    write(tmp_path, {f"sys/class/hwmon/hwmon5/{name}": f"{value}\n" for name, value in chip.items()})
    write(tmp_path, {"sys/class/hwmon/hwmon1/name": "pwmfan\n", "sys/class/hwmon/hwmon1/in1_input": "1\n"})
    sensor = find_sensor(tmp_path)
    assert isinstance(sensor, Rails)
    assert sensor.covers == "board (VIN)"
    with sensor:
        assert idle_watts(sensor, 0.1) == pytest.approx(22.98, rel=0.05)


def test_rails_that_only_add_up(tmp_path: Path) -> None:
    files = rails(("VDD_GPU_SOC", 20000, 500), ("NC", 20000, 500), ("VDD_CPU_CV", 20000, 250))
    sensor = find_sensor(write(tmp_path, files))
    assert isinstance(sensor, Rails)
    assert sensor.covers == "board (VDD_GPU_SOC, VDD_CPU_CV)"
    with sensor:
        assert idle_watts(sensor, 0.1) == pytest.approx(15.0, rel=0.05)


def test_a_gpus_counter(driver: Driver, tmp_path: Path) -> None:
    driver.values["nvmlDeviceGetTotalEnergyConsumption"] = iter([5_000, 5_000, 12_500]).__next__
    sensor = find_sensor(tmp_path, OURS)
    assert isinstance(sensor, GpuCounter)
    with sensor:
        assert sensor.joules() == 7.5
    assert driver.opened == 0


def test_a_cpus_counter_that_begins_anew(tmp_path: Path) -> None:
    package = "sys/class/powercap/intel-rapl:0"
    write(tmp_path, {f"{package}/energy_uj": "900\n", f"{package}/max_energy_range_uj": "1000\n"})
    sensor = find_sensor(tmp_path)
    assert isinstance(sensor, CpuCounter)
    with sensor:
        (tmp_path / package / "energy_uj").write_text("100\n")
        assert sensor.joules() == pytest.approx(200e-6)
        (tmp_path / package / "energy_uj").write_text("350\n")
        assert sensor.joules() == pytest.approx(450e-6)


@pytest.mark.parametrize(
    ("joules", "idle", "expected"),
    [(12.0, 5.0, 7.0 / 128), (12.0, None, None), (None, 5.0, None), (4.0, 5.0, None)],
)
def test_energy_of_a_photo_is_beyond_what_idling_takes(
    joules: float | None, idle: float | None, expected: float | None
) -> None:
    rounds = [Round([1_000_000] * 32, watched_seconds=0.5, joules=joules and joules / 2)] * 2
    watched = RunDetails(FAKE, 2, 1.5, (), "", 100.0, None, idle)
    got = measurement_from_rounds(WARM, rounds, watched, (), QUICK)
    assert got.joules_per_photo == pytest.approx(expected)


def test_a_benchmark_on_a_machine_with_a_sensor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    monkeypatch.setattr(benchmark, "find_sensor", lambda gpu: Rails({"VDD_IN": (tmp_path / "none", tmp_path / "none")}))
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, batches=(1,)))
    assert got.conditions.energy == EnergyConditions("board (VDD_IN)", 0.0)
    # The child looks for the sensor itself; this machine may have none, and then it says so.
    (row,) = got.measurements
    assert row.joules_per_photo is None or row.joules_per_photo > 0


def test_a_gpu_in_a_round(driver: Driver) -> None:
    driver.values["nvmlDeviceGetClockInfo"] = iter([345, 1980, 1980, 1500]).__next__
    with GpuWatch(OURS, Path("/nowhere")) as seen:
        seen.begin()
        driver.values["nvmlDeviceGetCurrentClocksThrottleReasons"] = 0x4 | 0x20 | 0x80
        first = seen.end()
        driver.values["nvmlDeviceGetCurrentClocksThrottleReasons"] = 0
        driver.values["nvmlDeviceGetClockInfo"] = 1755
        seen.begin()
        second = seen.end()
    assert (first.sm_mhz_before, first.temperature_c, first.power_w) == (345, 61, 310.5)
    assert first.throttled == ("at its power limit", "short of power", "too hot")
    assert (second.sm_mhz_before, second.sm_mhz, second.throttled) == (1755, 1755, ())
    summary = slowdown_watch.gpu_summary([first, None, second])
    assert summary is not None and (summary.sm_mhz_least, summary.sm_mhz_most) == (345, 1980)
    assert summary.throttled == first.throttled
    assert slowdown_watch.gpu_summary([None]) is None
    assert driver.opened == 0


def test_a_jetson_in_a_round(tmp_path: Path) -> None:
    """The fan's state is no throttling, nor is that of the power mode's limit on the clock."""
    thermal, hwmon = "sys/class/thermal/cooling_device", "sys/class/hwmon/hwmon3"
    states = {"pwm-fan": "3", "gpu-throttle-alert": "0", "devfreq-17000000.gpu": "18", "cpu-throttle-alert": "0"}
    files = {f"{thermal}{place}/type": f"{name}\n" for place, name in enumerate(states)}
    files |= {f"{thermal}{place}/cur_state": f"{state}\n" for place, state in enumerate(states.values())}
    files |= {f"{hwmon}/oc{number}_event_cnt": "15\n" for number in (1, 2, 3)}
    clock = "sys/class/devfreq/17000000.gpu/cur_freq"
    root = write(tmp_path, files | {clock: "306000000\n"})
    with GpuWatch(None, root) as seen:
        seen.begin()
        write(root, {clock: "1020000000\n"})
        load = seen.end()
        assert (load.sm_mhz_before, load.sm_mhz, load.throttled) == (306.0, 1020.0, ())
        write(root, {f"{thermal}1/cur_state": "1\n"})
        seen.begin()
        write(root, {f"{thermal}1/cur_state": "0\n", f"{hwmon}/oc3_event_cnt": "16\n"})
        assert seen.end().throttled == ("short of power", "too hot")
        seen.begin()
        assert seen.end().throttled == ()


@pytest.mark.parametrize("folder", ["17000000.gpu", "17000000.ga10b", "17000000.gv11b", "57000000.gm20b", "gpu-gpc-0"])
def test_the_clock_of_a_jetsons_gpu(tmp_path: Path, folder: str) -> None:
    names = (folder, "bwmgr", "17000000.nvdec", "gpu-nvd-0", "31b0000.emc")
    root = write(tmp_path, {f"sys/class/devfreq/{name}/cur_freq": "1\n" for name in names})
    clock = slowdown_watch.jetson_gpu_clock(root)
    assert clock is not None and clock.name == folder


def test_a_cpu_that_is_throttled(tmp_path: Path) -> None:
    files = {f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count": "3\n" for core in range(2)}
    seen = CpuWatch(write(tmp_path, files))
    assert seen.throttled() == 0
    (tmp_path / "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count").write_text("5\n")
    assert seen.throttled() == 2
    assert CpuWatch(tmp_path / "none").throttled() is None
