"""What the host adds to one batch of one photo, beyond queueing it, copying it and waiting for it.

    python benchmarks/host_cost.py

An engine of paper runs on the tests' fake GPU, with everything that the fake does and checks taken out: what is left of
`infer` is what the harness itself costs, around calls that do nothing. The same calls alone, in turn with it, are taken
off, and so is copying the photo into page-locked memory, which `input_buffer` saves where photos are decoded into it.
Needs no GPU; prints microseconds, the least of rounds, as other programs only add; and how many times the bare loop
`infer` takes. The calls of the real pycuda and TensorRT, which do less in Python than the fake, are not in it.
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
from tests.fakes.gpu import FakeDriver, FakeGpu
from tests.fakes.tensorrt_runtime import Context
from tests.support.tiny import tiny_spec
from trtpoets.device.runners.trt import TensorRtRunner

ROUNDS = 10
CALLS = 500
LIMIT = 5
"""Microseconds at a batch of one with a graph."""


def nothing(*_: Any, **__: Any) -> None:
    """A call that only returns."""


def succeed(*_: Any) -> int:
    """A driver call that only returns."""
    return 0


def silence(gpu: FakeGpu, patch: pytest.MonkeyPatch) -> Any:
    """Take the work and the checks out of the fake's calls; return its `pycuda.driver`. Before an engine is entered."""
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
    """The median of `CALLS` calls, in microseconds."""
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1000


def measure(side: int, graphs: bool, folder: Path) -> dict[str, float]:
    """Microseconds of whole infers, of their calls alone, of the copy into page-locked memory, and the rest: "host"."""
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
    """Print one line a case; 1 when the host costs more than `LIMIT` with a graph."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        print(f"microseconds, the host's at most {LIMIT} with a graph")
        print(f"{'photo':>6}{'graph':>7}{'infer':>8}{'calls':>8}{'copying':>9}{'host':>8}", end="")
        print(f"{'infer / (calls + copying)':>27}")
        for side in (16, 128, 224, 299):
            for graphs in (True, False):
                found = measure(side, graphs, Path(folder) / f"{side}")
                worst = max(worst, found["host"] if graphs else 0.0)
                times = "".join(f"{found[key]:{width}.1f}" for key, width in zip(found, (8, 8, 9, 8, 27), strict=True))
                print(f"{side:6}{'yes' if graphs else 'no':>7}{times}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
