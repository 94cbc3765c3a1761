"""One entered runner, one batch size -> Measurement: warm up, time `infer`, look at every answer.

The clock is the inference clock: photos in memory -> scores on the host. Decoding is not in it, nor are the checks.
"""

from __future__ import annotations

import gc
import math
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.device.runners.base import Runner
from trtpoets.judge.bystanders import Bystanders
from trtpoets.judge.statistics import coefficient_of_variation, least_count, supported_percentile

_WARMUP_COUNT = 3
"""Even where one inference is longer than the warm-up: allocation and lazy compilation take more than one."""


@dataclass(frozen=True)
class BenchConfig:
    """How to measure. Times are in seconds.

    A batch size is timed for `min_seconds` of inference and `min_count` inferences, whichever is later, but no longer
    than `max_seconds`. `threads` 0 leaves all usable cores to each runner; otherwise each is pinned to that many.
    `timeout_seconds` is for one step: loading, or one batch size. At most `photos` photos are used, again and again.
    Where other processes use more than the share `max_others` of our cores, the numbers are as much about them: not
    valid.
    """

    batches: tuple[int, ...] = (1, 8)
    min_seconds: float = 2.0
    min_count: int = 64
    max_seconds: float = 20.0
    warmup_seconds: float = 0.5
    threads: int = 0
    timeout_seconds: float = 120.0
    photos: int = 128
    max_others: float = 0.25

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) != len(self.batches):
            raise BadInput(f"batch sizes {list(self.batches)}", hint="give different sizes of at least 1: --batch 1 8")
        if self.min_count < 1 or self.photos < 1 or self.threads < 0:
            raise BadInput(
                f"at least {self.min_count} inferences of {self.photos} photos on {self.threads} threads",
                hint="give at least one inference and one photo, and 0 threads or more",
            )
        if min(self.min_seconds, self.warmup_seconds) < 0 or not 0 < self.max_seconds <= self.timeout_seconds:
            raise BadInput(
                f"timing for {self.min_seconds} to {self.max_seconds} s with a limit of {self.timeout_seconds} s",
                hint="give times above 0, and a limit that is longer than the timing",
            )


@dataclass(frozen=True)
class Measurement:
    """One runner at one batch size. A percentile that the count does not support is None.

    `count` inferences took `seconds` in all; `first_ms` is the first one at this batch size, before the warm-up.
    `load_seconds` is entering the runner, its imports included. `cv` is standard deviation over mean.
    `peak_memory_mib` is of the whole process so far, photos included. `accuracy` is that of the answers of the timed
    run, None where the labels are not the classifier's. `speedup` is TensorFlow's median over this one's at the same
    batch size. `others` is the share 0..1 of our cores that other processes used meanwhile, None where the timing was
    too short to tell. `valid` is False where the numbers must not be used, for `reason`.
    """

    runner: str
    batch: int
    count: int
    seconds: float
    load_seconds: float
    first_ms: float
    mean_ms: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    photos_per_s: float
    cv: float
    peak_memory_mib: float | None
    accuracy: float | None
    others: float | None
    valid: bool
    reason: str
    speedup: float | None = None


@dataclass
class _Watch:
    """Looks at every answer, outside the clock: the first fault, and what was answered to each photo (-1: not yet)."""

    classes: int
    answers: np.ndarray
    fault: str = ""

    def look(self, scores: np.ndarray, first: int, batch: int) -> None:
        if scores.shape != (batch, self.classes) or scores.dtype != np.float32:
            expected = (batch, self.classes)
            self.fault = self.fault or f"gave {scores.dtype} {scores.shape} instead of float32 {expected}"
        elif not np.isfinite(scores).all():
            self.fault = self.fault or "gave a score that is not a number"
        else:
            self.answers[np.arange(first, first + batch) % len(self.answers)] = scores.argmax(axis=1)


def measurement_from_runner(
    runner: Runner,
    photos: np.ndarray,
    truth: Sequence[int],
    batch: int,
    config: BenchConfig,
    load_seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Measurement, tuple[int, ...]]:
    """Time an entered runner on `photos` uint8 (P, H, W, 3), over and over, in batches.

    `truth` holds the label's index for each photo, -1 where it has none. Also returns the P answers of the timed run:
    label indices, -1 for a photo that it did not come to. Raises whatever `infer` raises.
    """
    rows = math.ceil(len(photos) / batch) * batch
    laid = photos if rows == len(photos) else np.resize(photos, (rows, *photos.shape[1:]))
    starts = range(0, rows, batch)
    watch = _Watch(len(runner.spec.labels), np.full(len(photos), -1, dtype=np.int64))

    def infer(number: int) -> int:
        first = starts[number % len(starts)]
        given = laid[first : first + batch]
        before = clock()
        scores = runner.infer(given)
        after = clock()
        watch.look(scores, first, batch)
        return after - before

    with _no_collection():
        first_ns = infer(0)
        _repeat(infer, config.warmup_seconds, _WARMUP_COUNT, config.max_seconds)
        watch.answers[:] = -1
        bystanders = Bystanders()
        spans = np.array(_repeat(infer, config.min_seconds, config.min_count, config.max_seconds), dtype=np.float64)
        others = bystanders.share()
    reason = watch.fault or _doubt(spans, config) or _crowded(others, config)
    ordered = np.sort(spans) / 1e6
    return (
        Measurement(
            runner=runner.name,
            batch=batch,
            count=len(spans),
            seconds=float(spans.sum()) / 1e9,
            load_seconds=load_seconds,
            first_ms=first_ns / 1e6,
            mean_ms=float(ordered.mean()),
            p50_ms=supported_percentile(ordered, 50),
            p90_ms=supported_percentile(ordered, 90),
            p99_ms=supported_percentile(ordered, 99),
            photos_per_s=len(spans) * batch / max(float(spans.sum()) / 1e9, 1e-9),
            cv=coefficient_of_variation(ordered),
            peak_memory_mib=peak_memory_mib(),
            accuracy=_accuracy(watch.answers, np.asarray(truth)),
            others=others,
            valid=not reason,
            reason=reason,
        ),
        tuple(int(answer) for answer in watch.answers),
    )


def _repeat(infer: Callable[[int], int], seconds: float, count: int, limit: float) -> list[int]:
    """The spans (ns) of inferences until both `seconds` of them and `count` are reached, or `limit` seconds passed."""
    spans: list[int] = []
    wanted, total = int(seconds * 1e9), 0
    deadline = time.monotonic() + limit
    while (total < wanted or len(spans) < count) and time.monotonic() < deadline:
        spans.append(infer(len(spans)))
        total += spans[-1]
    return spans


def _doubt(spans: np.ndarray, config: BenchConfig) -> str:
    """Why the timing must not be used; empty when it may."""
    if (spans <= 0).any():
        return "the clock stood still or went backwards"
    if len(spans) < config.min_count:
        return f"only {len(spans)} of {config.min_count} inferences in {config.max_seconds:g} s: too slow, or too busy"
    if spans.sum() < config.min_seconds * 1e9:
        return f"timed for {spans.sum() / 1e9:.2f} of {config.min_seconds:g} s: too slow, or too busy"
    if len(spans) < least_count(90):
        return f"{len(spans)} inferences can't support a 90th percentile; {least_count(90)} do"
    return ""


def _crowded(others: float | None, config: BenchConfig) -> str:
    if others is None or others <= config.max_others:
        return ""
    return f"other processes used {others:.0%} of the cores meanwhile: measure again on a quieter machine"


def _accuracy(answers: np.ndarray, truth: np.ndarray) -> float | None:
    known = (answers >= 0) & (truth >= 0)
    return float((answers == truth)[known].mean()) if known.any() else None


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the timing, as timeit does."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def peak_memory_mib() -> float | None:
    """The most memory that this process ever held, MiB, as Linux tells; None elsewhere.

    getrusage would count what the parent held when it started this process.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) / 1024 if found else None
