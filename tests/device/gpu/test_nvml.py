"""The state of a GPU as NVML reports it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.fakes.nvml import CONSTANTS, OURS, Driver
from trtpoets.device.gpu import nvml
from trtpoets.judge.bench import energy
from trtpoets.judge.bench.energy import find_sensor
from trtpoets.judge.bench.slowdown_watch import GpuWatch


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
