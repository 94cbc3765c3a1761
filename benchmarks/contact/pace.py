"""Questions about speed: what the harness adds to the same work by hand, copies in graphs, two slots, ways to wait."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any, Callable

import numpy as np

from contact.asked import Given
from contact.subject import Subject, subject
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME
from trtpoets.device.gpu.gpu_wait import Wait

BATCHES = (1, 8, 32)

WITHIN = 1.05
"""The goal: `infer` takes at most this many times the bare loop."""

SETTLE_SECONDS = 0.5
"""Work before anything is timed: an idle GPU lowers its clock."""

TURNS = 5
"""Times that things which are compared take turns."""


class ByHand:
    """One batch size with nothing around it: pinned memory, memory of the GPU, a context, a stream, a graph."""

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
        """Whether a graph is replayed."""
        return self._graph is not None

    def run(self) -> np.ndarray:
        """One batch: the scores, in pinned memory."""
        if self._graph is not None and self._whole:
            self._graph.launch(self._stream)
        else:
            self._queue_all()
        self._cuda.synchronize()
        return self._scores

    def close(self) -> None:
        """Free the graph; the rest is the session's."""
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
    """Milliseconds of each call, for so many seconds; at least 10 calls."""
    spans: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(spans) < 10:
        begun = time.perf_counter()
        call()
        spans.append(1000 * (time.perf_counter() - begun))
    return spans


def by_turns(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The median of each call's medians (ms), measured in turn after the GPU was kept busy."""
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        timed(call, min(SETTLE_SECONDS, seconds))
    for _ in range(TURNS):
        for name, call in calls.items():
            medians[name].append(statistics.median(timed(call, seconds / TURNS)))
    return {name: statistics.median(values) for name, values in medians.items()}


def bare_loop(given: Given) -> dict[str, Any]:
    """`infer` beside the same batch by hand: photos in ordinary memory, photos written into a slot, and by hand.

    By hand the photos lie in pinned memory already. The goal is held against photos that were written into a slot
    (`input_buffer`), since the other copies them, which is work that the loop by hand does not do.
    """
    chosen = subject(given)
    found: dict[str, Any] = {}
    for batch in BATCHES:
        photos = chosen.photos(batch)
        with chosen.runner(wait=Wait.SPIN) as runner, chosen.session() as (cuda, session):
            hand = ByHand(cuda, session, chosen, photos, copies_in_graph=True)
            buffer = runner.input_buffer(batch)
            buffer[:] = photos
            gap = float(np.abs(runner.infer(photos) - hand.run()).max())
            calls = {"bare": hand.run, "infer": partial(runner.infer, photos), "slot": partial(runner.infer, buffer)}
            medians = by_turns(calls, given.seconds)  # type: ignore[arg-type]
            captured = hand.captured
            hand.close()
        found[str(batch)] = {
            **{f"{name}_ms": value for name, value in medians.items()},
            "ratio": medians["slot"] / medians["bare"],
            "ratio_with_copy": medians["infer"] / medians["bare"],
            "worst_difference": gap,
            "graph": captured,
        }
    return {
        "runs": chosen.title,
        "batches": found,
        "goal_met": all(each["ratio"] <= WITHIN for each in found.values()),
    }


def copies_in_graph(given: Given) -> dict[str, Any]:
    """The same batch by hand, with the copies in the graph and around it."""
    chosen = subject(given)
    found: dict[str, Any] = {}
    for batch in BATCHES:
        photos = chosen.photos(batch)
        with chosen.session() as (cuda, session):
            inside = ByHand(cuda, session, chosen, photos, copies_in_graph=True)
            with chosen.session() as (other_cuda, other_session):
                around = ByHand(other_cuda, other_session, chosen, photos, copies_in_graph=False)
                medians = by_turns({"inside": inside.run, "around": around.run}, given.seconds)
                found[str(batch)] = {
                    "inside_ms": medians["inside"],
                    "around_ms": medians["around"],
                    "graph": [inside.captured, around.captured],
                }
                around.close()
            inside.close()
    return {"runs": chosen.title, "batches": found}


def two_slots(given: Given) -> dict[str, Any]:
    """Photos a second, one batch after the other and with two under way."""
    chosen = subject(given)
    found: dict[str, Any] = {}
    with chosen.runner() as runner:
        for batch in BATCHES:
            photos = chosen.photos(batch)

            def both(photos: np.ndarray = photos) -> None:
                tickets = [runner.submit(photos) for _ in range(max(runner.slots, 2))]
                for ticket in tickets:
                    runner.collect(ticket)

            medians = by_turns({"one": partial(runner.infer, photos), "two": both}, given.seconds)
            rate = max(runner.slots, 2) * 1000 * batch / medians["two"]
            found[str(batch)] = {"one_after_the_other": 1000 * batch / medians["one"], "with_slots": rate}
        slots = runner.slots
    return {"runs": chosen.title, "slots": slots, "photos_per_s": found}


def waiting(given: Given) -> dict[str, Any]:
    """Latency of one photo, and processor time per second, by the way in which the thread waits for the GPU."""
    chosen = subject(given)
    photos = chosen.photos(1)
    found: dict[str, Any] = {}
    for wait in (Wait.AUTO, Wait.SPIN, Wait.BLOCKING):
        with chosen.runner(wait=wait) as runner:
            timed(partial(runner.infer, photos), min(SETTLE_SECONDS, given.seconds))
            begun, used = time.perf_counter(), time.process_time()
            spans = timed(partial(runner.infer, photos), given.seconds)
            taken = time.perf_counter() - begun
            found[wait.value] = {
                "p50_ms": float(np.percentile(spans, 50)),
                "p99_ms": float(np.percentile(spans, 99)),
                "processor_share": (time.process_time() - used) / taken,
                "holds": runner.waits.value,
            }
    return {"runs": chosen.title, "ways": found}
