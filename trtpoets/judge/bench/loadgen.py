"""Measures an entered runner with MLPerf's LoadGen, in a child process, as LoadGen may hang or end the process.

An exception in a callback would end the process, and LoadGen waits forever for a sample that is not completed: so every
sample is completed, and an exception is raised again after the test.
"""

from __future__ import annotations

import array
import json
import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from trtpoets.core.errors import RunFailed
from trtpoets.core.optional import needs
from trtpoets.device.runners.base import Runner, Ticket
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.scenario import MULTI_STREAM, LoadgenResult
from trtpoets.judge.statistics import least_count, percentile

_RESULTS = {
    Scenario.SINGLE_STREAM: "result_90.00_percentile_latency_ns",
    Scenario.MULTI_STREAM: "result_99.00_percentile_per_query_latency_ns",
    Scenario.OFFLINE: "result_samples_per_second",
    Scenario.SERVER: "result_99.00_percentile_latency_ns",
}
"""The result of each scenario in LoadGen's log."""

_EXPECTED_FACTOR = 0.7
"""Factor of the expected latency, from which LoadGen computes the number of queries; too few make it INVALID."""


def require_loadgen() -> None:
    """Raise MissingDependency where LoadGen is not installed. Call it before measuring for it."""
    with needs("loadgen", reason="--loadgen"):
        import mlperf_loadgen  # noqa: F401


def run_loadgen(
    runner: Runner, photos: np.ndarray, scenario: Scenario, batch: int, median_ms: float, config: BenchConfig, out: Path
) -> LoadgenResult:
    """Run LoadGen's queries on photos, uint8 (P, H, W, 3), and write its logs to the folder `out`.

    `median_ms` is the measured latency of one batch of `batch` photos.
    """
    with needs("loadgen", reason="--loadgen"):
        import mlperf_loadgen as lg
    out.mkdir(parents=True, exist_ok=True)
    queries = _QueryRunner(runner, photos, batch, lg, inline=scenario is not Scenario.SERVER)
    settings = _settings(lg, scenario, batch, median_ms, config)
    logs, where = lg.LogSettings(), lg.LogOutputSettings()
    where.outdir, where.copy_summary_to_stdout = str(out), False
    logs.log_output, logs.enable_trace = where, False
    sut = lg.ConstructSUT(queries.issue, lambda: None)
    library = lg.ConstructQSL(len(photos), len(photos), lambda samples: None, lambda samples: None)
    try:
        lg.StartTestWithLogSettings(sut, library, settings, logs)
    finally:
        queries.close()
        lg.DestroyQSL(library)
        lg.DestroySUT(sut)
    if queries.error is not None:
        raise RunFailed(f"{runner.name} failed under LoadGen: {queries.error}", code="TP5015") from queries.error
    results = _log_of(out / "mlperf_log_detail.txt")
    offline = scenario is Scenario.OFFLINE
    value = float(results[_RESULTS[scenario]])
    return LoadgenResult(
        valid=results.get("result_validity") == "VALID",
        value=value if offline else value / 1e6,
        clock_value=queries.value(scenario),
        queries=int(results["result_query_count"]),
        logs=str(out),
    )


def _settings(lg: Any, scenario: Scenario, batch: int, median_ms: float, config: BenchConfig) -> Any:
    expected = int(median_ms * 1e6 * _EXPECTED_FACTOR)
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.scenario = {
        Scenario.SINGLE_STREAM: lg.TestScenario.SingleStream,
        Scenario.MULTI_STREAM: lg.TestScenario.MultiStream,
        Scenario.OFFLINE: lg.TestScenario.Offline,
        Scenario.SERVER: lg.TestScenario.Server,
    }[scenario]
    settings.min_duration_ms = int(1000 * config.min_seconds)
    percent = 90 if scenario is Scenario.SINGLE_STREAM else 99
    settings.min_query_count = 1 if scenario is Scenario.OFFLINE else least_count(percent)
    settings.max_duration_ms = int(1000 * config.timeout_seconds / 2)
    if scenario is Scenario.SINGLE_STREAM:
        settings.single_stream_expected_latency_ns = expected
    elif scenario is Scenario.MULTI_STREAM:
        settings.multi_stream_expected_latency_ns = expected
        settings.multi_stream_samples_per_query = MULTI_STREAM
    elif scenario is Scenario.OFFLINE:
        settings.offline_expected_qps = 1000 * batch / median_ms / _EXPECTED_FACTOR
    else:
        settings.server_target_qps = config.target_qps
        settings.server_target_latency_ns = int(1e6 * (config.max_p99_ms or 1000 * config.timeout_seconds))
        settings.server_target_latency_percentile = 0.99
    return settings


class _QueryRunner:
    """Runs LoadGen's samples in batches of at most `batch`: in LoadGen's thread, or in another one for a server."""

    def __init__(self, runner: Runner, photos: np.ndarray, batch: int, lg: Any, *, inline: bool) -> None:
        self._runner, self._photos, self._batch, self._lg = runner, photos, batch, lg
        self._spans: list[float] = []
        self._samples = 0
        self._in_progress: deque[tuple[Ticket | None, Sequence[Any]]] = deque()
        self._waiting: queue.Queue[Any] = queue.Queue()
        self._thread = None if inline else threading.Thread(target=self._work, name="loadgen-server")
        self.error: Exception | None = None
        if self._thread:
            self._thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """Run a query of LoadGen."""
        if self._thread:
            for sample in samples:
                self._waiting.put(sample)
            return
        began = time.perf_counter()
        for start in range(0, len(samples), self._batch):
            self._begin(samples[start : start + self._batch])
            self._answer(self._runner.slots - 1)
        self._answer(0)
        self._spans.append(time.perf_counter() - began)
        self._samples += len(samples)

    def close(self) -> None:
        """Finish the queries and stop the thread."""
        if self._thread:
            self._waiting.put(None)
            self._thread.join()

    def value(self, scenario: Scenario) -> float | None:
        """Return the result of the scenario by trtpoets' clock; None for a server."""
        if scenario is Scenario.SERVER or not self._spans:
            return None
        if scenario is Scenario.OFFLINE:
            return self._samples / sum(self._spans)
        ordered = np.sort(self._spans) * 1000
        return percentile(ordered, 90 if scenario is Scenario.SINGLE_STREAM else 99)

    def _work(self) -> None:
        ended = False
        while not ended:
            taken = [self._waiting.get()]
            while len(taken) < self._batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            ended = None in taken
            samples = [sample for sample in taken if sample is not None]
            if samples:
                self._begin(samples)
            self._answer(0 if self._waiting.empty() else self._runner.slots - 1)
        self._answer(0)

    def _begin(self, samples: Sequence[Any]) -> None:
        ticket = None
        try:
            if self.error is None:
                first = samples[0].index
                single = len(samples) == 1
                given = (
                    self._photos[first : first + 1] if single else self._photos[[sample.index for sample in samples]]
                )
                ticket = self._runner.submit(given)
        except Exception as error:  # noqa: BLE001 - raised again after the test
            self.error = error
        self._in_progress.append((ticket, samples))

    def _answer(self, left: int) -> None:
        """Complete batches in order until at most `left` are running."""
        while len(self._in_progress) > left:
            ticket, samples = self._in_progress.popleft()
            try:
                if ticket is not None:
                    self._runner.collect(ticket)
            except Exception as error:  # noqa: BLE001 - as above
                self.error = error
            answer = array.array("B", [0])
            address, size = answer.buffer_info()
            self._lg.QuerySamplesComplete(
                [self._lg.QuerySampleResponse(sample.id, address, size) for sample in samples]
            )


def _log_of(path: Path) -> dict[str, Any]:
    """Return the results in LoadGen's detailed log: lines of ":::MLLOG {...}"."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    entries = [json.loads(line.split(" ", 1)[1]) for line in lines if line.startswith(":::MLLOG")]
    return {entry["key"]: entry["value"] for entry in entries if entry["key"].startswith("result_")}
