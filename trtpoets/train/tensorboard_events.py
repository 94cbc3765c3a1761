"""Writes curves, the graph and histograms for TensorBoard: event files, one folder per training, never deleted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from trtpoets.core.files import storage_errors
from trtpoets.core.optional import needs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Values = dict[str, tuple[float, float]]
"""Accuracy and cross-entropy of each split: {"train": (0.93, 0.21), "validation": (0.88, 0.35)}."""


Histograms = dict[str, np.ndarray]
"""Arrays to show as histograms, by name; empty for none at this step."""


class CurveFunction(Protocol):
    """Writes the values and histograms of a step."""

    def __call__(self, step: int, values: Values, histograms: Histograms, /) -> None:
        """Raise StorageFailed if the disk is full."""


@contextmanager
def curve_writer(folder: Path | None, graph: Any = None) -> Iterator[CurveFunction]:
    """Yield a function that writes the values and histograms of a step to `folder`; None writes nothing.

    `folder` is that of one training: see `new_log_folder`. If it has event files already, others are added, which
    TensorBoard shows as the continuation. Each split has its own folder in it, so that TensorBoard draws them in one
    plot. The TensorFlow `graph` and the histograms are written with the training split. Raises StorageFailed.
    """
    if folder is None:
        yield lambda step, values, histograms: None
        return
    writers = _Writers(folder)
    try:
        if graph is not None:
            writers.graph(graph)
        yield writers.write
    finally:
        writers.close()


class _Writers:
    """One event file per split."""

    def __init__(self, folder: Path) -> None:
        with needs("convert", reason="writing event files"):
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.plugins.histogram.summary_v2 import histogram_pb
            from tensorboard.plugins.scalar.summary_v2 import scalar_pb
            from tensorboard.summary.writer.record_writer import RecordWriter
        self._event, self._scalar, self._histogram, self._records = Event, scalar_pb, histogram_pb, RecordWriter
        self._folder = folder
        self._by_split: dict[str, Any] = {}

    def graph(self, graph: Any) -> None:
        self._write("train", [self._event(graph_def=graph.as_graph_def().SerializeToString())])

    def write(self, step: int, values: Values, histograms: Histograms) -> None:
        for split, (accuracy, cross_entropy) in values.items():
            summaries = [self._scalar("accuracy", accuracy), self._scalar("cross_entropy", cross_entropy)]
            if split == "train":
                summaries += [self._histogram(name, numbers) for name, numbers in histograms.items()]
            self._write(split, [self._event(step=step, summary=summary) for summary in summaries])

    def close(self) -> None:
        for writer in self._by_split.values():
            with storage_errors(self._folder):
                writer.close()

    def _write(self, split: str, events: Sequence[Any]) -> None:
        with storage_errors(self._folder):
            if split not in self._by_split:
                own = self._folder / split
                own.mkdir(exist_ok=True)
                self._by_split[split] = self._records(_new_event_file(own).open("xb"))
                events = [self._event(file_version="brain.Event:2"), *events]
            writer = self._by_split[split]
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())
            writer.flush()


def _new_event_file(folder: Path) -> Path:
    """Return a path in `folder` that does not exist; TensorBoard reads event files in the order of their names."""
    name = f"events.out.tfevents.{int(time.time())}"
    paths = (folder / (f"{name}.{number}" if number else name) for number in count())
    return next(path for path in paths if not path.exists())


def new_log_folder(logs: Path, name: str = "") -> Path:
    """Create logs/2026-01-31_17-05-09_adam-0.001, or the same with -2, -3 if that exists; return its path.

    Raises StorageFailed.
    """
    name = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S") + (f"_{name}" if name else "")
    number = 1
    with storage_errors(logs):
        logs.mkdir(parents=True, exist_ok=True)
        while True:
            folder = logs / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder
