"""Curves for TensorBoard: event files, one folder a run, never deleted."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import StorageFailed
from trtpoets.core.files import storage_errors
from trtpoets.core.optional import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Values = dict[str, tuple[float, float]]
"""Accuracy and cross-entropy of each split: {"train": (0.93, 0.21), "validation": (0.88, 0.35)}."""


@contextmanager
def curve_writer(logs: Path | None) -> Iterator[Callable[[int, Values], None]]:
    """Give a function that writes a step's values below a new folder of `logs`; None writes nothing.

    Each split has its own folder in it, so that TensorBoard draws them in one plot. Raises StorageFailed.
    """
    if logs is None:
        yield lambda step, values: None
        return
    folder = _new_folder(logs)
    writers = _Writers(folder)
    try:
        yield writers.write
    finally:
        writers.close()


class _Writers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tf = tensorflow()
        self._by_split: dict[str, Any] = {}

    def write(self, step: int, values: Values) -> None:
        with self._storing():
            for split, (accuracy, cross_entropy) in values.items():
                if split not in self._by_split:
                    self._by_split[split] = self._tf.summary.create_file_writer(str(self._folder / split))
                with self._by_split[split].as_default(step):
                    self._tf.summary.scalar("accuracy", accuracy)
                    self._tf.summary.scalar("cross_entropy", cross_entropy)

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
            raise StorageFailed(f"can't write {self._folder}: {reason}", hint="free some space on its disk") from error


def _new_folder(logs: Path) -> Path:
    """logs/2026-01-31_17-05-09, or the same with -2, -3: whoever makes the folder owns it."""
    name = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
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
