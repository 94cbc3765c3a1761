"""Arrays that are mapped from a temporary file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import StorageFailed
from trtpoets.train import row_file
from trtpoets.train.row_file import blocks_of, empty_rows, is_mapped, release


def resident(rows: np.ndarray) -> int:
    """The bytes of this process's memory that belong to a mapped array."""
    address = rows.__array_interface__["data"][0]
    for entry in re.split(r"\n(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text()):
        start, stop = (int(word, 16) for word in entry.split()[0].split("-"))
        if start <= address < stop:
            return int(re.search(r"^Rss: +(\d+)", entry, re.MULTILINE)[1]) * 1024  # type: ignore[index]
    raise AssertionError("the array is not mapped")


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(row_file, "IN_MEMORY", 1000)
    rows = empty_rows(2000, 512, np.float32, tmp_path / "rows")
    rows[:] = np.arange(2000, dtype=np.float32)[:, None]
    return rows


def test_small_arrays_are_in_memory(tmp_path: Path) -> None:
    rows = empty_rows(3, 4, np.uint8, tmp_path)
    assert rows.shape == (3, 4) and rows.dtype == np.uint8
    assert not is_mapped(rows)
    release(rows)


def test_a_mapped_array_keeps_its_values_without_its_memory(mapped: np.ndarray) -> None:
    assert is_mapped(mapped) and is_mapped(mapped[5:].reshape(-1))
    assert resident(mapped) >= mapped.nbytes
    release(mapped[100:])
    assert resident(mapped) < mapped.nbytes // 10
    assert (mapped[:, 7] == np.arange(2000)).all()
    mapped[3] = -1
    release(mapped)
    assert (mapped[3] == -1).all()


def test_blocks_are_released(mapped: np.ndarray) -> None:
    release(mapped)
    largest = total = 0
    for block in blocks_of(mapped, size=100):
        total += int(block[:, 0].sum())
        largest = max(largest, resident(mapped))
    assert total == sum(range(2000))
    assert largest < mapped.nbytes // 4
    chosen = np.array([5, 1999, 5, 0])
    assert np.concatenate(list(blocks_of(mapped, chosen, size=3)))[:, 1].tolist() == [5, 1999, 5, 0]


def test_the_file_has_no_name(mapped: np.ndarray, tmp_path: Path) -> None:
    assert is_mapped(mapped)
    assert list((tmp_path / "rows").iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_file, "IN_MEMORY", 1000)
    monkeypatch.setattr("os.posix_fallocate", full)
    with raises(StorageFailed, "TP1085", "No space left on device"):
        empty_rows(2000, 512, np.float32, tmp_path)
