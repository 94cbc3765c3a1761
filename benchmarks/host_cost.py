"""Measures the overhead of `TensorRtRunner.infer` on the host for a batch of one photo.

    python benchmarks/host_cost.py

A fake engine runs on the fake GPU of the tests, with all work and checks of the fake removed, so that `infer` calls
functions that do nothing. The time of the same calls without the runner is subtracted, and so is the copy of the photo
into page-locked memory, which `input_buffer` avoids. Needs no GPU. Prints microseconds (the minimum over rounds,
because other programs only add time) and the ratio of `infer` to the bare calls. Calls of the real pycuda and TensorRT
are not included.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu
from tests.fakes.gpu_driver import FakeDriver
from tests.fakes.tensorrt_runtime import Context
from tests.support.tiny import tiny_spec
from trtpoets.device.runners.trt import TensorRtRunner

ROUNDS = 10
CALLS = 500
LIMIT = 5
"""Maximum overhead in microseconds at batch size 1 with a CUDA graph."""


def nothing(*_: Any, **__: Any) -> None:
    """Stand-in for a call that returns nothing."""


def succeed(*_: Any) -> int:
    """Stand-in for a driver call that returns CUDA_SUCCESS."""
    return 0


def silence(gpu: FakeGpu, patch: pytest.MonkeyPatch) -> Any:
    """Remove the work and the checks from the calls of the fake; return its `pycuda.driver`.

    Call it before a runner is entered.
    """
    for name in ("rule", "current", "idle", "submit", "queue", "finish"):
        patch.setattr(gpu, name, nothing)
    module = sys.modules["pycuda.driver"]
    for name in ("memcpy_htod_async", "memcpy_dtoh_async"):
        patch.setattr(module, name, nothing)
    for name in ("push", "pop"):
        patch.setattr(module.Context, name, nothing)
    patch.setattr(module.Stream, "synchronize", nothing)
    for name in ("cuGraphLaunch", "cuStreamSynchronize", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"):
        patch.setattr(FakeDriver, name, succeed)
    patch.setattr(Context, "execute_async_v3", lambda self, stream: True)
    return module


def timed(call: Callable[[], Any]) -> float:
    """Return the median duration of `CALLS` calls, in microseconds."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def measure(side: int, graphs: bool, folder: Path) -> dict[str, float]:
    """Return microseconds of `infer`, of its calls alone, of the copy into page-locked memory, and the rest: "host"."""
    gpu = FakeGpu(tiny_spec(side))
    photos = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        gpu.install(patch)
        module = silence(gpu, patch)
        with TensorRtRunner(paper_engine(folder, side=side), graphs=graphs) as runner:
            for _ in range(3):
                runner.infer(photos)
            room: Any = runner._resources
            slot = room._slots[0]
            lane = slot.ready[photos.shape]._lane
            assert lane.captured == graphs
            push, pop, wait, launch = slot.calls.push, slot.calls.pop, slot.wait, lane.queue
            stream = slot.stream

            def calls() -> None:
                push()
                if graphs:
                    launch()
                else:
                    module.memcpy_htod_async(slot.photos_address, lane._photos, stream._stream)
                    lane.context._context.execute_async_v3(lane._stream)
                    module.memcpy_dtoh_async(lane._scores, slot.scores_address, stream._stream)
                wait()
                pop()

            def stage() -> None:
                slot.photos[:1] = photos

            rounds = [(timed(lambda: runner.infer(photos)), timed(calls), timed(stage)) for _ in range(ROUNDS)]
    infer, bare, copy = (min(column) for column in zip(*rounds, strict=True))
    return {"infer": infer, "calls": bare, "copying": copy, "host": infer - bare - copy, "ratio": infer / (bare + copy)}


def main() -> int:
    """Print one line per case; return 1 if the overhead with a CUDA graph is above `LIMIT`."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        print(f"microseconds; the limit of 'host' is {LIMIT} with a graph")
        print(f"{'photo':>6}{'graph':>7}{'infer':>8}{'calls':>8}{'copying':>9}{'host':>8}", end="")
        print(f"{'infer / (calls + copying)':>27}")
        for side in (16, 128, 224, 299):
            for graphs in (True, False):
                result = measure(side, graphs, Path(folder) / f"{side}")
                worst = max(worst, result["host"] if graphs else 0.0)
                times = "".join(
                    f"{result[key]:{width}.1f}" for key, width in zip(result, (8, 8, 9, 8, 27), strict=True)
                )
                print(f"{side:6}{'yes' if graphs else 'no':>7}{times}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
