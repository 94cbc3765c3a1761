"""Runnables + photos -> Benchmark: each runner measured in a process of its own, beside TensorFlow.

A runner that crashes, hangs or raises costs its own rows, with the reason; never the others'.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Mapping, Sequence

import numpy as np

import trtpoets
from trtpoets.core.errors import BadInput
from trtpoets.core.progress import Progress, silent
from trtpoets.core.spec import Engine, ModelSpec, Photo, label_indices
from trtpoets.device.runners import Runnable, open_runner
from trtpoets.judge.bench_child import description_from_artefact
from trtpoets.judge.conditions import conditions
from trtpoets.judge.measure import BenchConfig, Measurement
from trtpoets.judge.statistics import mcnemar_exact

__all__ = ["BASELINE", "DEFAULT", "BenchConfig", "Benchmark", "Failure", "Measurement", "benchmark_from_artefacts"]

BASELINE = "tensorflow"
"""The runner that the others are compared with."""

DEFAULT = BenchConfig()

_CHILD = (sys.executable, "-m", "trtpoets.judge.bench_child")

_WORST_DROP = 0.05
"""A runner that is surely this much less often right than the baseline, in the timed run itself, is wrong, not fast."""

_SURE = 0.01
"""Of the exact McNemar test, for "surely"."""


@dataclass(frozen=True)
class Failure:
    """A runner that could not be measured, at one batch size or (None) at any, and why."""

    runner: str
    batch: int | None
    why: str


@dataclass(frozen=True)
class Benchmark:
    """All runners on the same photos, batch sizes and threads, with the conditions before the first of them."""

    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    config: BenchConfig
    photos: int
    conditions: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON: benchmark.json."""
        return asdict(self)


@dataclass(frozen=True)
class _Row:
    measurement: Measurement
    answers: tuple[int, ...]


def benchmark_from_artefacts(
    artefacts: Sequence[Runnable],
    photos: Sequence[Photo],
    config: BenchConfig = DEFAULT,
    progress: Progress = silent,
) -> Benchmark:
    """Measure each artefact's runner. Photos are taken evenly from all that are given.

    Raises BadInput where there is no photo or no artefact. What a runner does wrong is in the result, not raised.
    """
    if not photos:
        raise BadInput("there are no photos to measure with", hint="hold some back: --test-percent 10")
    if not artefacts:
        raise BadInput("there is nothing to measure", hint="make a classifier first: trtpoets run PHOTOS --name NAME")
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, min(config.photos, len(photos))).round().astype(int)]
    before = conditions()
    rows: list[_Row] = []
    failures: list[Failure] = []
    for number, artefact in enumerate(artefacts):
        progress("benchmark", number, len(artefacts))
        more, failed = _measure(artefact, chosen, config)
        rows += more
        failures += failed
    progress("benchmark", len(artefacts), len(artefacts))
    truth = np.array(label_indices((photo.label for photo in chosen), _spec(artefacts[0]).labels))
    return Benchmark(tuple(_judged(row, rows, truth) for row in rows), tuple(failures), config, len(chosen), before)


def _spec(artefact: Runnable) -> ModelSpec:
    return artefact.card.spec if isinstance(artefact, Engine) else artefact.spec


def _measure(artefact: Runnable, photos: Sequence[Photo], config: BenchConfig) -> tuple[list[_Row], list[Failure]]:
    """Start the child for one artefact, and gather what it tells until it ends, or is silent for too long."""
    name = open_runner(artefact).name
    request = {
        "artefact": description_from_artefact(artefact),
        "photos": [str(photo.path.resolve()) for photo in photos],
        "labels": [photo.label for photo in photos],
        "config": asdict(config),
    }
    rows: list[_Row] = []
    failures: list[Failure] = []
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            _CHILD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(config.threads),
            cwd=Path(trtpoets.__file__).parent.parent,
            start_new_session=True,
        )
        try:
            for line in _lines(child, json.dumps(request).encode(), config.timeout_seconds):
                if "measurement" in line:
                    rows.append(_Row(Measurement(**line["measurement"]), tuple(line["answers"])))
                elif "failure" in line:
                    failures.append(Failure(name, line["batch"], line["failure"]))
            if child.wait(timeout=config.timeout_seconds):
                failures.append(Failure(name, None, _death(child.returncode, errors)))
        except subprocess.TimeoutExpired:
            done = f"after {len(rows)} of {len(config.batches)} batch sizes" if rows else "before it answered once"
            failures.append(Failure(name, None, f"hung: nothing for {config.timeout_seconds:g} s, {done}"))
        finally:
            _end(child)
    return rows, failures


def _environment(threads: int) -> dict[str, str]:
    if not threads:
        return dict(os.environ)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {**os.environ, **{name: str(threads) for name in names}}


def _lines(child: subprocess.Popen[bytes], request: bytes, timeout: float) -> Any:
    """Yield the child's lines as they come. Raises TimeoutExpired when none comes for `timeout` seconds."""
    arrived: queue.Queue[bytes | None] = queue.Queue()

    def converse() -> None:
        assert child.stdin is not None and child.stdout is not None
        with suppress(BrokenPipeError), child.stdin as stdin:  # it may die before it read all: its code says how
            stdin.write(request)
        with child.stdout as stdout:
            for line in stdout:
                arrived.put(line)
        arrived.put(None)

    threading.Thread(target=converse, daemon=True, name="bench-child").start()
    while True:
        try:
            line = arrived.get(timeout=timeout)
        except queue.Empty:
            raise subprocess.TimeoutExpired(_CHILD, timeout) from None
        if line is None:
            return
        yield json.loads(line)


def _death(code: int, errors: IO[bytes]) -> str:
    """How the child died, with the last line that it wrote to stderr."""
    if code < 0:
        try:
            how = f"died of {signal.Signals(-code).name}"
        except ValueError:
            how = f"died of signal {-code}"
        if -code == signal.SIGKILL:
            how += ", most likely because memory ran out"
    else:
        how = f"ended with code {code}"
    errors.seek(0)
    said = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return f"{how}; its last words: {said[-1][:300]}" if said else how


def _end(child: subprocess.Popen[bytes]) -> None:
    """Nothing of it is left, whatever happened; it leads a session of its own, so its children go with it."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _judged(row: _Row, rows: Sequence[_Row], truth: np.ndarray) -> Measurement:
    """The row beside the baseline's of the same batch size: how much faster, and whether it is simply wrong."""
    measured = row.measurement
    base = next((r for r in rows if r.measurement.runner == BASELINE and r.measurement.batch == measured.batch), None)
    if base is None:
        return measured
    wrong = _wrong(np.array(row.answers), np.array(base.answers), truth) if measured.valid else ""
    if wrong:
        measured = replace(measured, valid=False, reason=wrong)
    if not (measured.valid and base.measurement.valid and measured.p50_ms and base.measurement.p50_ms):
        return measured
    return replace(measured, speedup=base.measurement.p50_ms / measured.p50_ms)


def _wrong(answers: np.ndarray, baseline: np.ndarray, truth: np.ndarray) -> str:
    """Why a runner's answers in the timed run are too bad to be timed; empty when they are not."""
    both = (answers >= 0) & (baseline >= 0) & (truth >= 0)
    if not both.any():
        return ""
    right, base_right = (answers == truth)[both], (baseline == truth)[both]
    only_base, only_this = int((base_right & ~right).sum()), int((right & ~base_right).sum())
    if right.mean() >= base_right.mean() - _WORST_DROP or mcnemar_exact(only_base, only_this) > _SURE:
        return ""
    return f"wrong: {right.mean():.0%} of the timed photos right, {BASELINE} {base_right.mean():.0%}"
