"""Throttling of the GPU in each round, and of the CPU over all rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.machines import write
from tests.fakes.nvml import OURS, Driver
from trtpoets.judge.bench import slowdown_watch
from trtpoets.judge.bench.slowdown_watch import CpuWatch, GpuWatch


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
    """The state of the fan and the power mode's limit on the clock do not count as throttling."""
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
