"""Stores of bottlenecks survive damage, crowds and death."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput, StorageFailed
from trtpoets.train import feature_cache as store_module
from trtpoets.train.feature_cache import FeatureCache, feature_caches_in, prune_feature_caches

WIDTH = 7


def names(*numbers: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]


def rows_of(*numbers: int) -> np.ndarray:
    return np.array([[number + 0.25 * column for column in range(WIDTH)] for number in numbers], dtype=np.float32)


def opened(folder: Path, key: str = "key") -> FeatureCache:
    return FeatureCache(folder, key, WIDTH)


def found_in(folder: Path, *numbers: int) -> list[bool]:
    """Which of these rows are found; those that are must be right."""
    rows = np.full((len(numbers), WIDTH), -1, dtype=np.float32)
    filled = opened(folder).fill(names(*numbers), rows)
    assert np.array_equal(rows[filled], rows_of(*numbers)[filled])
    assert (rows[~filled] == -1).all()
    return filled.tolist()


def test_rows_come_back_in_any_order_and_more_than_once(tmp_path: Path) -> None:
    assert found_in(tmp_path, 1, 2) == [False, False]
    opened(tmp_path).append(names(1, 2, 3), rows_of(1, 2, 3))
    opened(tmp_path).append(names(4), rows_of(4))
    assert found_in(tmp_path, 4, 2, 9, 2, 1) == [True, True, False, True, True]


def test_windows_have_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_WINDOW", 3)
    opened(tmp_path).append(names(*range(20)), rows_of(*range(20)))
    wanted = [19, 0, 3, 2, 7, 8, 9, 10, 15]
    assert all(found_in(tmp_path, *wanted))


def test_extractors_have_stores_of_their_own(tmp_path: Path) -> None:
    opened(tmp_path, "one").append(names(1), rows_of(1))
    opened(tmp_path, "two").append(names(1, 2), rows_of(5, 6))
    rows = np.zeros((1, WIDTH), dtype=np.float32)
    assert opened(tmp_path, "one").fill(names(1), rows).all()
    assert np.array_equal(rows, rows_of(1))
    assert sorted((info.key, info.width, info.photos) for info in feature_caches_in(tmp_path)) == [
        *(("one", WIDTH, 1), ("two", WIDTH, 2))
    ]


def file_of(folder: Path, name: str) -> Path:
    return opened(folder).path / name


@pytest.mark.parametrize("place", [0, 40, 83])
def test_a_damaged_row_counts_as_missing(tmp_path: Path, place: int) -> None:
    opened(tmp_path).append(names(1, 2, 3), rows_of(1, 2, 3))
    content = bytearray(file_of(tmp_path, "features").read_bytes())
    content[place] ^= 1
    file_of(tmp_path, "features").write_bytes(content)
    hit = place // (4 * WIDTH)
    assert found_in(tmp_path, 1, 2, 3) == [number != hit for number in range(3)]
    opened(tmp_path).append(names(hit + 1), rows_of(hit + 1))
    assert all(found_in(tmp_path, 1, 2, 3))


def test_every_byte_of_the_index_may_be_damaged(tmp_path: Path) -> None:
    opened(tmp_path).append(names(1, 2, 3), rows_of(1, 2, 3))
    whole = file_of(tmp_path, "index").read_bytes()
    for place in [*range(0, 512, 20), *range(512, len(whole))]:
        content = bytearray(whole)
        content[place] ^= 0x10
        file_of(tmp_path, "index").write_bytes(content)
        kept = found_in(tmp_path, 1, 2, 3)
        assert kept.count(False) == (3 if place < 512 else 1)


@pytest.mark.parametrize("name", ["index", "features"])
def test_files_may_be_cut_anywhere(tmp_path: Path, name: str) -> None:
    opened(tmp_path).append(names(1, 2, 3), rows_of(1, 2, 3))
    whole = {item: file_of(tmp_path, item).read_bytes() for item in ("index", "features")}
    for length in [*range(0, len(whole[name]), 5), 512, 548, len(whole[name]) - 1]:
        for item, content in whole.items():
            file_of(tmp_path, item).write_bytes(content)
        os.truncate(file_of(tmp_path, name), length)
        kept = found_in(tmp_path, 1, 2, 3)
        assert kept == sorted(kept, reverse=True)
        opened(tmp_path).append(names(4), rows_of(4))
        assert found_in(tmp_path, 1, 2, 3, 4) == [*kept, True]


@pytest.mark.parametrize("name", ["index", "features"])
def test_a_missing_file_is_made_again(tmp_path: Path, name: str) -> None:
    opened(tmp_path).append(names(1), rows_of(1))
    file_of(tmp_path, name).unlink()
    assert found_in(tmp_path, 1) == [False]
    opened(tmp_path).append(names(1), rows_of(1))
    assert found_in(tmp_path, 1) == [True]


def test_a_damaged_header_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path).append(names(1), rows_of(1))
    file_of(tmp_path, "index").write_bytes(b"garbage" * 100)
    opened(tmp_path).append(names(2), rows_of(2))
    assert "are damaged and will be computed again" in caplog.text
    assert found_in(tmp_path, 1, 2) == [False, True]


def append_many(folder: Path, start: int, count: int) -> None:
    for number in range(start, start + count):
        opened(folder).append(names(number), rows_of(number))


def test_processes_append_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(tmp_path, 1000 * n, 100)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert all(found_in(tmp_path, *(1000 * n + k for n in range(4) for k in range(100))))
    assert feature_caches_in(tmp_path)[0].photos == 400


def test_a_writer_killed_at_any_moment_loses_at_most_its_last_rows(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.train.test_feature_cache import append_many
append_many(Path({str(tmp_path)!r}), int(sys.argv[1]), 10**6)
"""
    total = 0
    for attempt in range(4):
        start = 10**6 * attempt
        writer = subprocess.Popen([sys.executable, "-c", code, str(start)])
        while not (infos := feature_caches_in(tmp_path)) or infos[0].photos <= total:
            time.sleep(0.01)
        time.sleep(0.02 + 0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        done = feature_caches_in(tmp_path)[0].photos - total
        assert all(found_in(tmp_path, *range(start, start + done)))
        total += done
    append_many(tmp_path, 10**8, 1)
    assert found_in(tmp_path, 0, 10**8) == [True, True]
    assert feature_caches_in(tmp_path)[0].photos == total + 1


def test_pruning_by_age(tmp_path: Path) -> None:
    opened(tmp_path, "old").append(names(1), rows_of(1))
    opened(tmp_path, "new").append(names(1), rows_of(1))
    week_ago = time.time() - 7 * 86400
    os.utime(opened(tmp_path, "old").path / "index", (week_ago, week_ago))
    assert [info.key for info in feature_caches_in(tmp_path)] == ["new", "old"]
    assert prune_feature_caches(tmp_path, older_than_days=8) == ()
    assert [info.key for info in prune_feature_caches(tmp_path, older_than_days=6)] == ["old"]
    assert [info.key for info in feature_caches_in(tmp_path)] == ["new"]
    assert [info.photos for info in prune_feature_caches(tmp_path)] == [1]
    assert feature_caches_in(tmp_path) == prune_feature_caches(tmp_path) == ()
    opened(tmp_path, "new").append(names(1), rows_of(1))
    assert len(feature_caches_in(tmp_path)) == 1
    for days in (-1, float("nan")):
        with raises(BadInput, "TP2021", days):
            prune_feature_caches(tmp_path, days)
    next_year = time.time() + 365 * 86400
    os.utime(opened(tmp_path, "new").path / "index", (next_year, next_year))
    assert len(prune_feature_caches(tmp_path)) == 1


def test_reading_marks_a_store_as_used(tmp_path: Path) -> None:
    opened(tmp_path).append(names(1), rows_of(1))
    os.utime(file_of(tmp_path, "index"), (0, 0))
    assert found_in(tmp_path, 1) == [True]
    assert time.time() - feature_caches_in(tmp_path)[0].used < 60


def test_files_that_are_not_stores_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index").write_text("hello")
    assert feature_caches_in(tmp_path) == prune_feature_caches(tmp_path) == ()
    assert (tmp_path / "other" / "index").exists()
    assert feature_caches_in(tmp_path / "gone") == ()


def test_a_folder_that_can_not_hold_stores(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with raises(StorageFailed, "TP1085", tmp_path / "file") as caught:
        found_in(tmp_path / "file", 1)
    assert "TRTPOETS_CACHE" in caught.value.hint
    with raises(StorageFailed, "TP2022", tmp_path / "file") as caught:
        opened(tmp_path / "file").append(names(1), rows_of(1))
    assert "TRTPOETS_CACHE" in caught.value.hint


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).append(names(1), rows_of(1))
    write = os.pwrite

    def full(handle: int, content: bytes, offset: int) -> int:
        if len(content) > 20:
            return write(handle, content[:20], offset)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "pwrite", full)
    with raises(StorageFailed, "TP2022", "No space left on device") as caught:
        opened(tmp_path).append(names(2), rows_of(2))
    assert caught.value.hint.startswith("free some space (trtpoets cache --prune)")
    monkeypatch.undo()
    assert found_in(tmp_path, 1, 2) == [True, False]
    opened(tmp_path).append(names(2), rows_of(2))
    assert found_in(tmp_path, 1, 2) == [True, True]


def segments_of(folder: Path) -> list[str]:
    return sorted(path.name for path in opened(folder).path.iterdir() if path.name.startswith("index"))


def test_writers_at_once_have_segments_of_their_own_which_are_read_side_by_side(tmp_path: Path) -> None:
    opened(tmp_path).append(names(1, 2), rows_of(1, 2))
    first, second, third = (opened(tmp_path) for _ in range(3))
    with first._own_segment() as one, second._own_segment() as two, third._own_segment() as three:
        assert (one, two, three) == ("", ".1", ".2")
    second.append(names(3), rows_of(3))
    third.append(names(4, 1), rows_of(4, 1))
    first.append(names(5), rows_of(5))
    assert segments_of(tmp_path) == ["index", "index.1", "index.2"]
    assert all(found_in(tmp_path, 5, 4, 3, 2, 1))
    (info,) = feature_caches_in(tmp_path)
    assert info.photos == 6
    opened(tmp_path).append(names(6), rows_of(6))  # a later writer takes a segment that is there
    assert len(segments_of(tmp_path)) == 3
    assert [info.photos for info in prune_feature_caches(tmp_path)] == [7]
    assert not opened(tmp_path).path.exists()


def test_a_damaged_segment_leaves_the_others(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.append(names(1), rows_of(1))
    with first._own_segment():
        second.append(names(2), rows_of(2))
    file_of(tmp_path, "index").write_bytes(b"garbage" * 100)
    assert found_in(tmp_path, 1, 2) == [False, True]
    assert [info.photos for info in feature_caches_in(tmp_path)] == [1]


def test_on_a_disk_without_locks_each_writer_has_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    opened(tmp_path).append(names(1), rows_of(1))
    monkeypatch.setattr("trtpoets.core.locks.fcntl.flock", unsupported)
    first, second = opened(tmp_path), opened(tmp_path)
    for number, cache in ((2, first), (3, second), (4, first)):
        cache.append(names(number), rows_of(number))
    assert len(segments_of(tmp_path)) == 3
    assert all(found_in(tmp_path, 1, 2, 3, 4))


def test_many_equal_and_unknown_photos(tmp_path: Path) -> None:
    opened(tmp_path).append(names(*range(50)), rows_of(*range(50)))
    wanted = [7, 7, 99, 7, 3, 99, 0, 49, 3]
    assert found_in(tmp_path, *wanted) == [number < 50 for number in wanted]
