"""Questions about what the GPU tells of itself: its clock after idling, NVML by PCI bus id, its energy counter."""

from __future__ import annotations

import importlib.util
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from contact.asked import Given, NotAnswered
from contact.networks import need_gpu
from contact.subject import subject
from trtpoets.device.gpu.libcuda import gpus
from trtpoets.device.gpu.nvml import NvmlGpu, gpu_at, gpu_state
from trtpoets.device.gpu.pci import cuda_bus_id
from trtpoets.judge.bench.slowdown_watch import GpuWatch, jetson_gpu_clock

IDLE_SECONDS = 5.0

WINDOW_SECONDS = 0.05

ALIKE = 0.03
"""Windows whose medians differ by at most this share of the last ones' are steady."""


def clocks(given: Given) -> dict[str, Any]:
    """The median of `infer` in windows after the GPU was idle, with the clock at the end of each."""
    chosen = subject(given)
    photos = chosen.photos(1)
    bus_id = cuda_bus_id()
    windows: list[dict[str, Any]] = []
    with chosen.runner() as runner, GpuWatch(bus_id) as watch:
        for _ in range(20):
            runner.infer(photos)
        time.sleep(min(IDLE_SECONDS, 5 * given.seconds))
        watch.begin()
        idle = watch.end().sm_mhz_before
        begun = time.perf_counter()
        while time.perf_counter() - begun < 2 * given.seconds:
            spans, ends = [], time.perf_counter() + WINDOW_SECONDS
            while time.perf_counter() < ends:
                before = time.perf_counter()
                runner.infer(photos)
                spans.append(1000 * (time.perf_counter() - before))
            watch.begin()
            windows.append(
                {
                    "after_ms": round(1000 * (time.perf_counter() - begun)),
                    "p50_ms": statistics.median(spans),
                    "sm_mhz": watch.end().sm_mhz,
                }
            )
    last = statistics.median(each["p50_ms"] for each in windows[-5:])
    unsteady = [each["after_ms"] for each in windows if abs(each["p50_ms"] / last - 1) > ALIKE]
    return {
        "runs": chosen.title,
        "idle_sm_mhz": idle,
        "steady_after_ms": max(unsteady, default=0),
        "first_over_last": windows[0]["p50_ms"] / last,
        "windows": windows,
        "clock_from": _clock_source(bus_id),
    }


def _clock_source(bus_id: Any) -> str:
    if jetson_gpu_clock(Path("/")):
        return "devfreq"
    with gpu_at(bus_id) as gpu:
        return "NVML" if gpu else "nothing tells it: no NVML, or nvidia-ml-py is not installed"


@contextmanager
def nvml_gpu() -> Iterator[NvmlGpu]:
    """The GPU that CUDA uses, in NVML. Raises NotAnswered."""
    need_gpu()
    bus_id = cuda_bus_id()
    if bus_id is None:
        raise NotAnswered("CUDA does not tell the GPU's PCI bus id")
    with gpu_at(bus_id) as gpu:
        if gpu is None and importlib.util.find_spec("pynvml") is None:
            raise NotAnswered("nvidia-ml-py is not installed")
        if gpu is None:
            raise NotAnswered(f"NVML does not start, does not know the GPU at {bus_id}, or MIG divides it")
        yield gpu


def nvml_by_bus_id(given: Given) -> dict[str, Any]:
    """CUDA's device 0 and the GPU that NVML has at its PCI bus id have the same name; which index NVML gives it."""
    with nvml_gpu() as gpu:
        name = gpu.query("nvmlDeviceGetName")
        name = name.decode() if isinstance(name, bytes) else name
        index = gpu.query("nvmlDeviceGetIndex")
    cuda = gpus()[0].name
    return {
        "bus_id": cuda_bus_id(),
        "cuda_name": cuda,
        "nvml_name": name,
        "nvml_index": index,
        "state": gpu_state(cuda_bus_id()),
        "goal_met": name == cuda,
    }


def energy_step(given: Given) -> dict[str, Any]:
    """How often the counter changes, and by how much, while the GPU works."""
    with nvml_gpu() as gpu:
        if gpu.query("nvmlDeviceGetTotalEnergyConsumption") is None:
            raise NotAnswered("this GPU has no energy counter (Volta and later have one)")
        chosen, ended = subject(given), threading.Event()
        photos = chosen.photos(1)
        changes: list[tuple] = []

        def look() -> None:
            last, ends = None, time.perf_counter() + 2 * given.seconds
            while time.perf_counter() < ends:
                now = gpu.query("nvmlDeviceGetTotalEnergyConsumption")
                if now != last:
                    changes.append((time.perf_counter(), now))
                last = now
            ended.set()

        with chosen.runner() as runner:
            thread = threading.Thread(target=look, daemon=True)
            thread.start()
            while not ended.is_set():
                runner.infer(photos)
            thread.join()
    spans = [1000 * (b[0] - a[0]) for a, b in zip(changes[1:], changes[2:])]
    steps = [b[1] - a[1] for a, b in zip(changes[1:], changes[2:])]
    if not spans:
        raise NotAnswered(f"the energy counter changed {len(changes)} times in {2 * given.seconds:g} s")
    return {
        "changes": len(changes),
        "median_ms": statistics.median(spans),
        "longest_ms": max(spans),
        "median_millijoules": statistics.median(steps),
        "smallest_millijoules": min(steps),
    }
