"""Writes curves, the graph and histograms for TensorBoard: event files, one folder per run, never deleted."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.errors import StorageFailed
from trtpoets.core.files import storage_errors
from trtpoets.core.optional import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Values = dict[str, tuple[float, float]]
"""Accuracy and cross-entropy of each split: {"train": (0.93, 0.21), "validation": (0.88, 0.35)}."""


Histograms = dict[str, np.ndarray]
"""Arrays to show as histograms, by name; empty for none at this step."""


@contextmanager
def curve_writer(
    logs: Path | None, name: str = "", graph: Any = None
) -> Iterator[Callable[[int, Values, Histograms], None]]:
    """Yield a function that writes the values and histograms of a step to a new folder of `logs`; None writes nothing.

    The folder's name contains the time and `name`. Each split has its own folder in it, so that TensorBoard draws them
    in one plot. The TensorFlow `graph` and the histograms are written with the training split. Raises StorageFailed.
    """
    if logs is None:
        yield lambda step, values, histograms: None
        return
    folder = _new_folder(logs, name)
    writers = _Writers(folder)
    try:
        if graph is not None:
            writers.graph(graph)
        yield writers.write
    finally:
        writers.close()


class _Writers:
    """One event file writer per split."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tf = tensorflow()
        self._by_split: dict[str, Any] = {}

    def graph(self, graph: Any) -> None:
        with self._storing(), self._split("train").as_default(0):
            self._tf.summary.graph(graph)

    def write(self, step: int, values: Values, histograms: Histograms) -> None:
        with self._storing():
            for split, (accuracy, cross_entropy) in values.items():
                with self._split(split).as_default(step):
                    self._tf.summary.scalar("accuracy", accuracy)
                    self._tf.summary.scalar("cross_entropy", cross_entropy)
            with self._split("train").as_default(step):
                for name, numbers in histograms.items():
                    self._tf.summary.histogram(name, numbers)

    def _split(self, split: str) -> Any:
        if split not in self._by_split:
            self._by_split[split] = self._tf.summary.create_file_writer(str(self._folder / split))
        return self._by_split[split]

    def close(self) -> None:
        with self._storing():
            for writer in self._by_split.values():
                writer.close()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except self._tf.errors.OpError as error:
            reason = error.message.splitlines()[0].rpartition("; ")[2]
            raise StorageFailed(
                f"{self._folder} cannot be written: {reason}", hint="free some space on its disk", code="TP2079"
            ) from error


def _new_folder(logs: Path, name: str) -> Path:
    """Create logs/2026-01-31_17-05-09_adam-0.001, or the same with -2, -3 if that exists; return its path."""
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
