"""Questions about the runtime: CUDA context, CUDA graphs, memory leaks."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np

from contact.networks import need_gpu
from contact.question_inputs import NotAnswered, QuestionInputs
from contact.subject import subject
from contact.torch_session import need_torch
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.cuda import CudaSession, load_pycuda

COUNTS = (1, 1, 1, 16, 8, 8, 21, 1, 1, 32, 32, 32, 3, 1)
"""Batch sizes that cause graphs to be captured, replayed and captured again."""

SAME = 1e-4
"""Maximum difference between scores of the same kernels."""

GPU_LEAK, HOST_LEAK = 1 << 20, 16 << 20

CYCLES = 50
"""Number of times that a runner is entered and exited."""


def primary_context(inputs: QuestionInputs) -> dict[str, Any]:
    """Check that two sessions, and PyTorch if installed, share the primary context and restore the thread's."""
    need_gpu()
    driver, primary, device = libcuda.load_driver(), ctypes.c_void_p(), ctypes.c_int()
    libcuda.check(driver, driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    libcuda.check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(primary), device), "cuDevicePrimaryCtxRetain")
    contexts = []
    try:
        before = _current(driver)
        with CudaSession() as first, CudaSession() as second:
            for session in (first, second):
                with session.current():
                    contexts.append(_current(driver))
        after = _current(driver)
        torch_shares = _torch_context(driver)
    finally:
        libcuda.check(driver, driver.cuDevicePrimaryCtxRelease_v2(device), "cuDevicePrimaryCtxRelease")
    shared = {*contexts} == {primary.value} and torch_shares in (None, primary.value)
    return {
        "sessions_share": {*contexts} == {primary.value},
        "torch_shares": None if torch_shares is None else torch_shares == primary.value,
        "thread_left_as_it_was": before == after,
        "goal_met": shared and before == after,
    }


def _current(driver: Any) -> Any:
    context = ctypes.c_void_p()
    libcuda.check(driver, driver.cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
    return context.value


def _torch_context(driver: Any) -> Any:
    """Return the context that PyTorch uses; None if it is not installed."""
    try:
        torch = need_torch()
    except NotAnswered:
        return None
    torch.zeros(1, device="cuda")
    return _current(driver)


def subject_ready(inputs: QuestionInputs) -> dict[str, Any]:
    """Build the engine that the other questions use."""
    chosen = subject(inputs)
    card = chosen.engine.card
    return {"runs": chosen.title, "batch": [card.batch.minimum, card.batch.optimum, card.batch.maximum]}


def capture(inputs: QuestionInputs) -> dict[str, Any]:
    """Check that the runner replays a CUDA graph, with the same scores as without graphs."""
    chosen = subject(inputs)
    photos = chosen.photos(1)
    with chosen.runner(graphs=False) as plain:
        expected = plain.infer(photos)
    with chosen.runner() as runner:
        gap = max(_gap(runner.infer(photos), expected) for _ in range(8))
        timings = [runner.infer_timed(photos)[1] for _ in range(8)]
    graph = None if chosen.captures_itself else timings[-1].graph
    return {
        "graph": "by TensorRT-RTX itself" if chosen.captures_itself else graph,
        "worst_difference": gap,
        "enqueue_ms": timings[-1].enqueue_ms,
        "goal_met": gap < SAME and graph is not False,
    }


def recapture(inputs: QuestionInputs) -> dict[str, Any]:
    """Compare the scores for changing batch sizes with those without graphs."""
    chosen = subject(inputs)
    photos = chosen.photos(max(COUNTS))
    gaps: dict[str, float] = {}
    with chosen.runner(graphs=False) as plain, chosen.runner() as runner:
        for count in COUNTS:
            gap = _gap(runner.infer(photos[:count]), plain.infer(photos[:count]))
            gaps[str(count)] = max(gap, gaps.get(str(count), 0.0))
    return {"sizes": list(COUNTS), "worst_difference_by_size": gaps, "goal_met": max(gaps.values()) < SAME}


def _gap(some: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(some - others).max())


def leaks(inputs: QuestionInputs) -> dict[str, Any]:
    """Measure the memory that the GPU and this process lose over many batches, and over many runners."""
    chosen = subject(inputs)
    photos = chosen.photos(1)
    with chosen.runner() as runner:
        for _ in range(100):
            runner.infer(photos)
        before, resident = free_memory(), resident_bytes()
        for _ in range(inputs.count):
            runner.infer(photos)
        batches, host = before - free_memory(), resident_bytes() - resident
    free, resident_after = [], []
    for _ in range(CYCLES):
        with chosen.runner() as runner:
            runner.infer(photos)
        free.append(free_memory())
        resident_after.append(resident_bytes())
    settled = CYCLES // 5
    cycles, cycles_host = free[settled] - free[-1], resident_after[-1] - resident_after[settled]
    return {
        "batches": inputs.count,
        "gpu_bytes": batches,
        "host_bytes": host,
        "cycles": CYCLES,
        "cycles_gpu_bytes": cycles,
        "cycles_host_bytes": cycles_host,
        "goal_met": max(batches, cycles) < GPU_LEAK and max(host, cycles_host) < HOST_LEAK,
    }


def free_memory() -> int:
    """Return the free memory of the GPU in bytes."""
    with CudaSession() as session, session.current():
        return int(load_pycuda().mem_get_info()[0])


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    match = re.search(r"^VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match.group(1)) << 10 if match else 0
