"""Sensors made up from documented files, a driver that is made up too, and what a benchmark makes of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.machines import write
from tests.fakes.nvml import OURS, Driver
from tests.support.benchmarks import QUICK, WARM, scripted
from tests.support.runner_ids import FAKE
from trtpoets.core.types import Photo
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.conditions import EnergyConditions
from trtpoets.judge.bench.energy import CpuCounter, GpuCounter, Rails, find_sensor, idle_watts
from trtpoets.judge.bench.measure import RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Round

INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def rails(*named: tuple[str, int, int]) -> dict[str, str]:
    """The files of an INA3221: label, millivolts and milliamperes of each rail."""
    files: dict[str, str] = {}
    for number, (label, volts, amperes) in enumerate(named, 1):
        values = {"in{}_label": label, "in{}_input": str(volts), "curr{}_input": str(amperes)}
        files |= {f"{INA}/{name.format(number)}": f"{value}\n" for name, value in values.items()}
    return files


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
