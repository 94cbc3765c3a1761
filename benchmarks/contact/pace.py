"""Questions about speed: overhead of the runner, copies in CUDA graphs, two slots, ways to wait."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any, Callable

import numpy as np

from contact.question_inputs import QuestionInputs
from contact.subject import Subject, subject
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME
from trtpoets.device.gpu.gpu_wait import Wait

BATCHES = (1, 8, 32)

WITHIN = 1.05
"""The goal: maximum ratio of `infer` to the bare calls."""

SETTLE_SECONDS = 0.5
"""Seconds of work before a measurement, because an idle GPU lowers its clock."""

TURNS = 5
"""Number of rounds in which compared calls alternate."""


class BareCalls:
    """Inference at one batch size with bare CUDA and TensorRT calls: pinned and GPU memory, context, stream, graph."""

    def __init__(self, cuda: Any, session: Any, chosen: Subject, photos: np.ndarray, *, copies_in_graph: bool) -> None:
        spec, count = chosen.engine.card.spec, len(photos)
        self._cuda = cuda
        self._photos = cuda.pinned(photos.shape, np.uint8)
        self._photos[:] = photos
        self._scores = cuda.pinned((count, len(spec.labels)), np.float32)
        self._from = cuda.device_memory(self._photos.nbytes)
        self._to = cuda.device_memory(self._scores.nbytes)
        memory = cuda.device_memory(session.memory_bytes) if session.memory_bytes else 0
        self._context = session.new_context(memory)
        self._context.set_shape(photos.shape, self._scores.shape)
        self._context.bind(INPUT_NAME, self._from)
        self._context.bind(OUTPUT_NAME, self._to)
        self._stream = cuda.stream
        self._graph: Any = None
        self._whole = copies_in_graph
        for _ in range(2):
            self.run()
        captured = self._queue_all if copies_in_graph else self._compute
        self._graph = None if chosen.captures_itself else cuda.capture(captured)

    @property
    def captured(self) -> bool:
        """Whether a CUDA graph is replayed."""
        return self._graph is not None

    def run(self) -> np.ndarray:
        """Run one batch and return the scores, in pinned memory."""
        if self._graph is not None and self._whole:
            self._graph.launch(self._stream)
        else:
            self._queue_all()
        self._cuda.synchronize()
        return self._scores

    def close(self) -> None:
        """Free the graph; the session owns the rest."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _queue_all(self) -> None:
        self._cuda.upload(self._from, self._photos)
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._compute()
        self._cuda.download(self._scores, self._to)

    def _compute(self) -> None:
        self._context.enqueue(self._stream)


def timed(call: Callable[[], Any], seconds: float) -> list[float]:
    """Call repeatedly for `seconds`, at least 10 times, and return the milliseconds of each call."""
    spans: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(spans) < 10:
        start = time.perf_counter()
        call()
        spans.append(1000 * (time.perf_counter() - start))
    return spans


def by_turns(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Warm up, measure the calls alternately, and return the median of each call's medians, in ms."""
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        timed(call, min(SETTLE_SECONDS, seconds))
    for _ in range(TURNS):
        for name, call in calls.items():
            medians[name].append(statistics.median(timed(call, seconds / TURNS)))
    return {name: statistics.median(values) for name, values in medians.items()}


def bare_loop(inputs: QuestionInputs) -> dict[str, Any]:
    """Compare `infer` with the bare calls: with photos in ordinary memory, and with photos in a slot.

    The bare calls read photos from pinned memory. The goal applies to photos in a slot (`input_buffer`), because
    `infer` copies photos from ordinary memory first, which the bare calls do not.
    """
    chosen = subject(inputs)
    by_batch: dict[str, Any] = {}
    for batch in BATCHES:
        photos = chosen.photos(batch)
        with chosen.runner(wait=Wait.SPIN) as runner, chosen.session() as (cuda, session):
            bare = BareCalls(cuda, session, chosen, photos, copies_in_graph=True)
            buffer = runner.input_buffer(batch)
            buffer[:] = photos
            gap = float(np.abs(runner.infer(photos) - bare.run()).max())
            calls = {"bare": bare.run, "infer": partial(runner.infer, photos), "slot": partial(runner.infer, buffer)}
            medians = by_turns(calls, inputs.seconds)  # type: ignore[arg-type]
            captured = bare.captured
            bare.close()
        by_batch[str(batch)] = {
            **{f"{name}_ms": value for name, value in medians.items()},
            "ratio": medians["slot"] / medians["bare"],
            "ratio_with_copy": medians["infer"] / medians["bare"],
            "worst_difference": gap,
            "graph": captured,
        }
    return {
        "runs": chosen.title,
        "batches": by_batch,
        "goal_met": all(result["ratio"] <= WITHIN for result in by_batch.values()),
    }


def copies_in_graph(inputs: QuestionInputs) -> dict[str, Any]:
    """Compare the bare calls with the copies inside and outside the CUDA graph."""
    chosen = subject(inputs)
    by_batch: dict[str, Any] = {}
    for batch in BATCHES:
        photos = chosen.photos(batch)
        with chosen.session() as (cuda, session):
            inside = BareCalls(cuda, session, chosen, photos, copies_in_graph=True)
            with chosen.session() as (other_cuda, other_session):
                around = BareCalls(other_cuda, other_session, chosen, photos, copies_in_graph=False)
                medians = by_turns({"inside": inside.run, "around": around.run}, inputs.seconds)
                by_batch[str(batch)] = {
                    "inside_ms": medians["inside"],
                    "around_ms": medians["around"],
                    "graph": [inside.captured, around.captured],
                }
                around.close()
            inside.close()
    return {"runs": chosen.title, "batches": by_batch}


def two_slots(inputs: QuestionInputs) -> dict[str, Any]:
    """Measure photos per second with one batch at a time and with several in flight."""
    chosen = subject(inputs)
    by_batch: dict[str, Any] = {}
    with chosen.runner() as runner:
        for batch in BATCHES:
            photos = chosen.photos(batch)

            def both(photos: np.ndarray = photos) -> None:
                tickets = [runner.submit(photos) for _ in range(max(runner.slots, 2))]
                for ticket in tickets:
                    runner.collect(ticket)

            medians = by_turns({"one": partial(runner.infer, photos), "two": both}, inputs.seconds)
            rate = max(runner.slots, 2) * 1000 * batch / medians["two"]
            by_batch[str(batch)] = {"one_after_the_other": 1000 * batch / medians["one"], "with_slots": rate}
        slots = runner.slots
    return {"runs": chosen.title, "slots": slots, "photos_per_s": by_batch}


def waiting(inputs: QuestionInputs) -> dict[str, Any]:
    """Measure latency of one photo and CPU utilisation for each way of waiting for the GPU."""
    chosen = subject(inputs)
    photos = chosen.photos(1)
    by_wait: dict[str, Any] = {}
    for wait in (Wait.AUTO, Wait.SPIN, Wait.BLOCKING):
        with chosen.runner(wait=wait) as runner:
            timed(partial(runner.infer, photos), min(SETTLE_SECONDS, inputs.seconds))
            start, used = time.perf_counter(), time.process_time()
            spans = timed(partial(runner.infer, photos), inputs.seconds)
            elapsed = time.perf_counter() - start
            by_wait[wait.value] = {
                "p50_ms": float(np.percentile(spans, 50)),
                "p99_ms": float(np.percentile(spans, 99)),
                "processor_share": (time.process_time() - used) / elapsed,
                "holds": runner.waits.value,
            }
    return {"runs": chosen.title, "ways": by_wait}
