"""Event files for TensorBoard: a new folder for each run, one folder in it for each split."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from trtpoets.core.errors import StorageFailed
from trtpoets.core.optional import tensorflow
from trtpoets.train import tensorboard_events
from trtpoets.train.tensorboard_events import curve_writer, new_log_folder


def tags_of(folder: Path) -> dict[str, list[int]]:
    """The steps of each tag in the event file of a folder."""
    from tensorflow.core.util.event_pb2 import Event

    steps: dict[str, list[int]] = {}
    paths = [str(path) for path in sorted(folder.glob("events.out.tfevents.*"))]
    for record in tensorflow().data.TFRecordDataset(paths).as_numpy_iterator():
        event = Event.FromString(record)
        for value in event.summary.value:
            steps.setdefault(value.tag, []).append(event.step)
    return steps


def test_each_split_has_its_folder_with_values_by_step(tmp_path: Path) -> None:
    with curve_writer(new_log_folder(tmp_path / "logs", "adam-0.1")) as write:
        write(0, {"train": (0.5, 0.7), "validation": (0.4, 0.8)}, {})
        write(10, {"train": (0.9, 0.2), "validation": (0.8, 0.3)}, {"head/weights": np.arange(6.0)})
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name.endswith("_adam-0.1")
    assert sorted(path.name for path in folder.iterdir()) == ["train", "validation"]
    curves = {"accuracy": [0, 10], "cross_entropy": [0, 10]}
    assert tags_of(folder / "validation") == curves
    assert tags_of(folder / "train") == {**curves, "head/weights": [10]}


def test_runs_of_the_same_second_have_different_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        @staticmethod
        def now() -> Any:
            from datetime import datetime

            return datetime(2026, 1, 31, 17, 5, 9)

    monkeypatch.setattr(tensorboard_events, "datetime", Clock)
    for _ in range(3):
        new_log_folder(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["2026-01-31_17-05-09", "2026-01-31_17-05-09-2", "2026-01-31_17-05-09-3"]


def test_a_training_that_continues_adds_event_files_to_its_folder(tmp_path: Path) -> None:
    """Twice in the same second, as where a program is started again at once."""
    for step in (1, 2, 3):
        with curve_writer(tmp_path) as write:
            write(step, {"train": (0.5, 0.7)}, {})
    assert len(list((tmp_path / "train").iterdir())) == 3
    assert tags_of(tmp_path / "train") == {"accuracy": [1, 2, 3], "cross_entropy": [1, 2, 3]}


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with curve_writer(None) as write:
        write(0, {"train": (0.5, 0.7)}, {"x": np.zeros(3)})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with raises(StorageFailed, "TP1085", tmp_path / "logs"):
        new_log_folder(tmp_path / "logs")


def test_a_failing_event_writer_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with raises(StorageFailed, "TP1085") as caught, curve_writer(tmp_path) as write:
        (tmp_path / "train").write_text("a file")
        write(0, {"train": (0.5, 0.7)}, {})
    assert str(tmp_path) in caught.value.message
