"""Questions about GPU sensors: the clock after idling, NVML by PCI bus id, the energy counter."""

from __future__ import annotations

import importlib.util
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from contact.networks import need_gpu
from contact.question_inputs import NotAnswered, QuestionInputs
from contact.subject import subject
from trtpoets.device.gpu.libcuda import gpus
from trtpoets.device.gpu.nvml import NvmlGpu, gpu_at, gpu_state
from trtpoets.device.gpu.pci import cuda_bus_id
from trtpoets.judge.bench.slowdown_watch import GpuWatch, jetson_gpu_clock

IDLE_SECONDS = 5.0

WINDOW_SECONDS = 0.05

ALIKE = 0.03
"""A window is steady if its median differs from the last ones by at most this fraction."""


def clocks(inputs: QuestionInputs) -> dict[str, Any]:
    """Measure the median of `infer` in short windows after the GPU was idle, with the clock at the end of each."""
    chosen = subject(inputs)
    photos = chosen.photos(1)
    bus_id = cuda_bus_id()
    windows: list[dict[str, Any]] = []
    with chosen.runner() as runner, GpuWatch(bus_id) as watch:
        for _ in range(20):
            runner.infer(photos)
        time.sleep(min(IDLE_SECONDS, 5 * inputs.seconds))
        watch.begin()
        idle = watch.end().sm_mhz_before
        start = time.perf_counter()
        while time.perf_counter() - start < 2 * inputs.seconds:
            spans, ends = [], time.perf_counter() + WINDOW_SECONDS
            while time.perf_counter() < ends:
                before = time.perf_counter()
                runner.infer(photos)
                spans.append(1000 * (time.perf_counter() - before))
            watch.begin()
            windows.append(
                {
                    "after_ms": round(1000 * (time.perf_counter() - start)),
                    "p50_ms": statistics.median(spans),
                    "sm_mhz": watch.end().sm_mhz,
                }
            )
    last = statistics.median(window["p50_ms"] for window in windows[-5:])
    unsteady = [window["after_ms"] for window in windows if abs(window["p50_ms"] / last - 1) > ALIKE]
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
        return "NVML" if gpu else "unavailable: no NVML, or nvidia-ml-py is not installed"


@contextmanager
def nvml_gpu() -> Iterator[NvmlGpu]:
    """Yield the NVML handle of the GPU that CUDA uses. Raises NotAnswered."""
    need_gpu()
    bus_id = cuda_bus_id()
    if bus_id is None:
        raise NotAnswered("CUDA does not report the PCI bus id of the GPU")
    with gpu_at(bus_id) as gpu:
        if gpu is None and importlib.util.find_spec("pynvml") is None:
            raise NotAnswered("nvidia-ml-py is not installed")
        if gpu is None:
            raise NotAnswered(f"NVML does not start, does not find the GPU at {bus_id}, or MIG is enabled")
        yield gpu


def nvml_by_bus_id(inputs: QuestionInputs) -> dict[str, Any]:
    """Check that CUDA device 0 and the NVML GPU at its PCI bus id have the same name; return the NVML index."""
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


def energy_step(inputs: QuestionInputs) -> dict[str, Any]:
    """Measure how often, and by how much, the energy counter changes while the GPU works."""
    with nvml_gpu() as gpu:
        if gpu.query("nvmlDeviceGetTotalEnergyConsumption") is None:
            raise NotAnswered("this GPU has no energy counter (Volta and later have one)")
        chosen, ended = subject(inputs), threading.Event()
        photos = chosen.photos(1)
        changes: list[tuple] = []

        def record_changes() -> None:
            last, ends = None, time.perf_counter() + 2 * inputs.seconds
            while time.perf_counter() < ends:
                now = gpu.query("nvmlDeviceGetTotalEnergyConsumption")
                if now != last:
                    changes.append((time.perf_counter(), now))
                last = now
            ended.set()

        with chosen.runner() as runner:
            thread = threading.Thread(target=record_changes, daemon=True)
            thread.start()
            while not ended.is_set():
                runner.infer(photos)
            thread.join()
    spans = [1000 * (b[0] - a[0]) for a, b in zip(changes[1:], changes[2:])]
    steps = [b[1] - a[1] for a, b in zip(changes[1:], changes[2:])]
    if not spans:
        raise NotAnswered(f"the energy counter changed {len(changes)} times in {2 * inputs.seconds:g} s")
    return {
        "changes": len(changes),
        "median_ms": statistics.median(spans),
        "longest_ms": max(spans),
        "median_millijoules": statistics.median(steps),
        "smallest_millijoules": min(steps),
    }
