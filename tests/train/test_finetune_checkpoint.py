"""A checkpoint gives back what was written for the same training, and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import StorageFailed
from trtpoets.train.finetune_checkpoint import Checkpoint

ARRAYS = {"value_0": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array([0, 10])}


def test_the_arrays_come_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "a")
    assert checkpoint.read() is None
    checkpoint.write(ARRAYS)
    state = checkpoint.read()
    assert state is not None
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(state[name], values)
    checkpoint.delete()
    checkpoint.delete()
    assert checkpoint.read() is None


def test_that_of_another_training_is_not_read(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "state", "a").write(ARRAYS)
    assert Checkpoint(tmp_path / "state", "b").read() is None


@pytest.mark.parametrize("place", [0, 30, 1100, -1])
def test_a_damaged_one_is_not_read(tmp_path: Path, place: int) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "a")
    checkpoint.write(ARRAYS)
    content = bytearray(checkpoint.path.read_bytes())
    content[place] ^= 1
    checkpoint.path.write_bytes(content)
    assert checkpoint.read() is None
    checkpoint.path.write_bytes(content[:700])
    assert checkpoint.read() is None


def test_one_with_the_key_of_another_user_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_KEY", str(tmp_path / "other key"))
    checkpoint = Checkpoint(tmp_path / "state", "a")
    checkpoint.write(ARRAYS)
    monkeypatch.undo()
    assert checkpoint.read() is None


def test_a_full_disk_keeps_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "a")
    checkpoint.write(ARRAYS)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with raises(StorageFailed, "TP1085", "No space left") as caught:
        checkpoint.write({"steps": np.array([0, 10, 20])})
    assert "--engines" in caught.value.hint
    monkeypatch.undo()
    state = checkpoint.read()
    assert state is not None
    assert state["steps"].tolist() == [0, 10]
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
