"""Times one entered runner at one batch size in rounds, inside the process that is measured.

Three separate clocks:

- inference: from photos in memory to scores on the host, by the host's clock. Comparable with the host latency of
  `trtexec`;
- device: copies in, computing, copies out, by the GPU's own clock (CUDA events), if the runner has one. Their sum is
  the latency that `trtexec` reports before TensorRT 11; from 11 on, it reports the computing only, by default;
- end to end: from photo files to scores, with decoding and resizing.

No clock includes checking the answers or reading counters.
"""

from __future__ import annotations

import gc
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Sequence, TypeVar

import numpy as np

from trtpoets.core.images import photo_batches
from trtpoets.core.types import Preprocess
from trtpoets.device.runners.base import Runner, TimedRunner
from trtpoets.judge.bench.cpu_contention import CpuContention
from trtpoets.judge.bench.slowdown_watch import GpuLoad, GpuWatch
from trtpoets.judge.statistics import least_count

Clock = Callable[[], int]

_T = TypeVar("_T")

_WARMUP_COUNT = 3
"""The fewest inferences of a warm-up: allocation and lazy compilation may affect more than the first one."""

_STABLE = 0.05
"""The warm-up ends when the medians of two consecutive windows differ by at most this share."""

_SETTLE_COUNT, _SETTLE_LIMIT = 2, 0.05
"""The fewest untimed inferences before each round, which fill the caches again that other processes have used, and the
time limit of these inferences in seconds."""

_LONG = 0.1
"""Seconds of an inference from which a brief meter omits the untimed inferences, because filling the caches takes a
small part of the time, and the other clocks."""

_WINDOWS, _STEADY, _SETTLE_FACTOR = 3, 0.03, 10
"""When a GPU is steady: an idle GPU lowers its clock, and raises it for tenths of a second when work arrives (345 to
1,980 MHz on an H200). It is steady when the medians of two consecutive windows differ by at most the share `_STEADY`. A
window lasts the time to settle divided by `_WINDOWS`; the time limit is `_SETTLE_FACTOR` times the time to settle."""

_SIDE_SHARE = 0.25
"""The time that each of the other clocks gets, as a share of the time of the inference clock."""


@dataclass(frozen=True)
class Warmup:
    """The warm-up. `first_ms` is the first inference; `stable` is whether the medians of the last windows agreed."""

    first_ms: float
    count: int
    seconds: float
    stable: bool


@dataclass(frozen=True)
class Round:
    """The measured values of one round. Each of `spans` and `end_to_end` is the time of one batch in nanoseconds.

    `device` holds (h2d, compute, d2h, enqueue) in milliseconds for each batch that was timed by the device clock;
    `graph` says whether these batches ran as a CUDA graph. `watched_seconds` is the duration of the round.
    `taken_seconds` is the time that other processes used of each core that this process may use, and `joules` the
    energy; both are None if unknown. `settle_seconds` is the duration of the untimed inferences before the round;
    `settled` is whether the GPU was steady after them. `gpu` is the state of the GPU, None for a runner that uses none.
    """

    spans: list[int]
    device: list[tuple[float, float, float, float]] = field(default_factory=list)
    graph: bool | None = None
    end_to_end: list[int] = field(default_factory=list)
    watched_seconds: float = 0.0
    taken_seconds: float | None = None
    joules: float | None = None
    settle_seconds: float = 0.0
    settled: bool = True
    gpu: GpuLoad | None = None


@dataclass(frozen=True)
class Finished:
    """The answers of all timed rounds of a batch size.

    `answers` are label indices, -1 for a photo that no round used; `fault` describes the first output that was not
    valid scores. `peak_memory_mib` is the peak memory of the process so far.
    """

    answers: tuple[int, ...]
    fault: str
    peak_memory_mib: float | None


class Meter:
    """Times an entered runner on `photos`, uint8 (P, H, W, 3), in batches, repeatedly.

    `paths` are the files of the photos for the end-to-end clock, which does not run without them. They are decoded with
    `preprocess`, by default the runner's. `joules` returns the energy used so far. `watch` is needed for a runner on
    the GPU: its rounds begin when the GPU has been busy for `settle_seconds` and its latency is steady. `brief` saves
    time: if an inference takes more than `_LONG` seconds, the untimed inferences before a round and the other clocks
    are omitted; if it takes less, the other clocks get no more than their share of the time.

    `answers` are the label indices of the timed rounds, -1 for a photo that was not used yet; `fault` describes the
    first invalid output.
    """

    def __init__(
        self,
        runner: Runner,
        photos: np.ndarray,
        batch: int,
        paths: Sequence[Path] = (),
        clock: Clock | None = None,
        joules: Callable[[], float] | None = None,
        preprocess: Preprocess | None = None,
        watch: GpuWatch | None = None,
        settle_seconds: float = 0.0,
        brief: bool = False,
    ) -> None:
        rows = math.ceil(len(photos) / batch) * batch
        self._padded = photos if rows == len(photos) else np.resize(photos, (rows, *photos.shape[1:]))
        self._runner = runner
        self._paths = paths
        self._preprocess = preprocess or runner.spec.preprocess
        self._batch = batch
        self._clock = clock or time.perf_counter_ns
        self._joules = joules
        self._watch = watch
        self._settle_seconds = settle_seconds if watch else 0.0
        self._brief, self._timed_only = brief, False
        self._batches = rows // batch
        self._next = 0
        self._timed = 0.0
        self._other_seconds = {"device": 0.0, "end to end": 0.0}
        self._other_counts = {"device": 0, "end to end": 0}
        self._expected = (batch, len(runner.spec.labels))
        self.answers = np.full(len(photos), -1, dtype=np.int64)
        self.fault = ""

    def warm_up(self, seconds: float, limit: float) -> Warmup:
        """Run inferences for `seconds`, and until their times are stable, but no longer than `limit` seconds."""
        with _no_collection():
            first = self._infer()
            spans = self._repeat(self._infer, seconds, _WARMUP_COUNT, limit)
            began = time.monotonic()
            while not _stable(spans) and time.monotonic() - began < limit:
                spans += self._repeat(self._infer, seconds / 2, _WARMUP_COUNT, limit)
        self._timed_only = self._brief and min(spans) > _LONG * 1e9
        self.answers[:] = -1
        self._next = 0
        return Warmup(first / 1e6, 1 + len(spans), (first + sum(spans)) / 1e9, _stable(spans))

    def round(self, seconds: float, count: int, limit: float) -> Round:
        """Time at least `count` inferences and at least `seconds` of them, but no longer than `limit` seconds."""
        with _no_collection():
            began = time.monotonic()
            settled = self.settle()
            settle_seconds = time.monotonic() - began
            if self._watch:
                self._watch.begin()
            if not self._timed_only:
                self._repeat(self._infer, 0.0, _SETTLE_COUNT, _SETTLE_LIMIT)
            contention = CpuContention()
            before = self._joules() if self._joules else 0.0
            began = time.monotonic()
            spans = self._repeat(self._infer, seconds, count, limit)
            watched = time.monotonic() - began
            used = self._joules() - before if self._joules else None
            taken = contention.other_seconds()
            gpu = self._under_load(self._watch) if self._watch else None
            self._timed += watched
            device, graph = self._device()
            end_to_end = self._end_to_end()
        return Round(spans, device, graph, end_to_end, watched, taken, used, settle_seconds, settled, gpu)

    def settle(self) -> bool:
        """Keep the GPU busy until its latency is steady. Returns False after the time limit; True without a GPU."""
        if not self._settle_seconds:
            return True
        window, limit = self._settle_seconds / _WINDOWS, _SETTLE_FACTOR * self._settle_seconds
        began, busy, before = time.monotonic(), 0.0, 0.0
        while True:
            spans = self._repeat(self._infer, window, 1, began + limit - time.monotonic())
            busy += sum(spans) / 1e9
            if not spans or busy > limit:
                return False
            now = float(np.median(spans))
            if busy >= self._settle_seconds and abs(now - before) <= _STEADY * max(abs(now), abs(before)):
                return True
            before = now

    def _under_load(self, watch: GpuWatch) -> GpuLoad:
        """Return the state of the GPU. Untimed inferences keep it busy during the query, which takes milliseconds."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(watch.end)
            while not future.done():
                self._infer()
            return future.result()

    def watching(self, work: Callable[[], _T]) -> tuple[_T, GpuLoad | None]:
        """Call `work` once the GPU is steady. Returns its result and the state of the GPU; None without a GPU."""
        if self._watch is None:
            return work(), None
        self.settle()
        self._watch.begin()
        return work(), self._under_load(self._watch)

    def _infer(self) -> int:
        first = self._next * self._batch
        given = self._padded[first : first + self._batch]
        clock = self._clock
        before = clock()
        scores = self._runner.infer(given)
        after = clock()
        self._check(scores, first)
        self._next = (self._next + 1) % self._batches
        return after - before

    def _check(self, scores: np.ndarray, first: int) -> None:
        if scores.shape != self._expected or scores.dtype != np.float32:
            self.fault = self.fault or f"returned {scores.dtype} {scores.shape} instead of float32 {self._expected}"
        elif not np.isfinite(scores).all():
            self.fault = self.fault or "returned a score that is not a number"
        else:
            best = scores.argmax(axis=1)
            if first + self._batch <= len(self.answers):
                self.answers[first : first + self._batch] = best
            else:
                self.answers[np.arange(first, first + self._batch) % len(self.answers)] = best

    def _repeat(self, infer: Callable[[], int], seconds: float, count: int, limit: float) -> list[int]:
        """Call `infer` until both `seconds` and `count` are reached, or for `limit` seconds. Returns the spans (ns)."""
        spans: list[int] = []
        wanted, total = int(seconds * 1e9), 0
        deadline = time.monotonic() + limit
        while (total < wanted or len(spans) < count) and time.monotonic() < deadline:
            spans.append(infer())
            total += max(spans[-1], 0)  # a clock that goes backwards must not prolong the loop
        return spans

    def _device(self) -> tuple[list[tuple[float, float, float, float]], bool | None]:
        """Return `device` and `graph` of Round; empty and None for a runner without a device clock."""
        runner = self._runner
        if not isinstance(runner, TimedRunner):
            return [], None
        rows: list[tuple[float, float, float, float]] = []
        graph = None
        for _ in self._while_due("device"):
            first = (len(rows) % self._batches) * self._batch
            _, timing = runner.infer_timed(self._padded[first : first + self._batch])
            rows.append((timing.h2d_ms, timing.compute_ms, timing.d2h_ms, timing.enqueue_ms))
            graph = timing.graph
        return rows, graph

    def _end_to_end(self) -> list[int]:
        """Return the spans (ns) from photo files to scores. As in `label`, all cores decode the photos of a batch."""
        if not self._paths:
            return []
        spans: list[int] = []
        for _ in self._while_due("end to end"):
            first = (self._next * self._batch) % len(self._paths)
            places = [(first + i) % len(self._paths) for i in range(self._batch)]
            paths = [self._paths[place] for place in places]
            before = self._clock()
            (photos,) = photo_batches(paths, self._preprocess, self._batch, buffer=self._runner.input_buffer)
            scores = self._runner.infer(photos)
            spans.append(self._clock() - before)
            # Hashing the file would be timed, so the pixels are compared with those of the verified bytes.
            if not np.array_equal(photos, self._padded[places]):
                self.fault = self.fault or "a photo file was changed while it was measured"
            self._check(scores, self._next * self._batch)
            self._next = (self._next + 1) % self._batches
        return spans

    def _while_due(self, clock: str) -> Iterator[None]:
        """Yield for each measurement that another clock may take in this round, until its share of the time is used.

        In each round there is at least one until there are enough for a median. A brief meter does not wait for the
        median, and takes none if an inference is long.
        """
        if self._timed_only:
            return
        due = not self._brief and self._other_counts[clock] < least_count(50)
        while due or self._other_seconds[clock] < _SIDE_SHARE * self._timed:
            due = False
            began = time.monotonic()
            yield
            self._other_seconds[clock] += time.monotonic() - began
            self._other_counts[clock] += 1


def _stable(spans: Sequence[int]) -> bool:
    """Return whether the last two quarters of the spans agree: so noise does not prolong the warm-up, but a trend does.

    They agree if their medians are nearly equal, or if each median is between the quartiles of the other quarter.
    """
    size = max(len(spans) // 4, _WARMUP_COUNT)
    if len(spans) < 2 * size:
        return False
    quartiles = [np.percentile(part, (25, 50, 75)) for part in (spans[-size:], spans[-2 * size : -size])]
    (low, last, high), (other_low, before, other_high) = ([float(value) for value in part] for part in quartiles)
    if abs(last - before) <= _STABLE * max(abs(last), abs(before)):
        return True
    return other_low <= last <= other_high and low <= before <= high


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable the garbage collector while timing, as timeit does."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
