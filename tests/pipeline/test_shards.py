"""Shards: their option, and which photos belong to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.pipeline.shards import (
    Shard,
    ShardState,
    delete_records,
    records,
    require_complete,
    shard_from_option,
    shard_number,
    state_text,
)


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("1/1", {}, (1, 1)),
        ("3/8", {"SLURM_ARRAY_TASK_ID": "5"}, (3, 8)),
        ("auto/8", {"SLURM_ARRAY_TASK_ID": "5"}, (5, 8)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "0"}, (1, 8)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, (8, 8)),
    ],
)
def test_the_option(text: str, environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert shard_from_option(text, environment) == Shard(*expected)


@pytest.mark.parametrize("text", ["", "3", "3/", "/8", "-1/8", "a/8", "3/8/2", "1.5/8", "٣/8"])
def test_what_is_no_shard(text: str) -> None:
    with raises(BadInput, "TP8310", repr(text)):
        shard_from_option(text, {})


@pytest.mark.parametrize(
    ("text", "environment"),
    [("0/8", {}), ("9/8", {}), ("1/0", {}), ("auto/8", {"SLURM_ARRAY_TASK_ID": "0"})],
)
def test_numbers_outside(text: str, environment: dict[str, str]) -> None:
    with raises(BadInput, "TP8311", text.rpartition("/")[2]):
        shard_from_option(text, environment)


def test_auto_outside_of_a_cluster() -> None:
    with raises(BadInput, "TP8312", "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"):
        shard_from_option("auto/8", {})


def test_each_photo_has_one_shard_of_about_equal_size() -> None:
    names = [f"class {number % 7}/photo {number}.jpg" for number in range(4000)] + ["a/\udcff.jpg"]
    sizes = [sum(Shard(number, 8).has(name) for name in names) for number in range(1, 9)]
    assert sum(sizes) == len(names)
    assert max(sizes) < 1.2 * min(sizes)
    assert shard_number("roses/1.jpg", 8) == shard_number("roses/1.jpg", 8)


def test_incomplete_shards_are_named(tmp_path: Path) -> None:
    states = (ShardState(1, 2, 1000, 0), ShardState(2, 2, 1234, 1000, "it was not started"))
    assert state_text(states[1]) == "shard 2/2 lacks 1,000 of 1,234 photos (it was not started)"
    require_complete(states[:1], "trtpoets bottlenecks p --backbone b")
    with raises(MissingArtefact, "TP8313", "1 of 2", "shard 2/2") as caught:
        require_complete(states, "trtpoets bottlenecks p --backbone b")
    assert caught.value.hint.endswith("trtpoets bottlenecks p --backbone b --shard 2/2")


def test_damaged_records_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path))
    assert records() == []
    (tmp_path / "shards").mkdir()
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"folder": 3}')):
        (tmp_path / "shards" / name).write_text(text)
    assert records() == []
    delete_records(1)
    assert len(list((tmp_path / "shards").iterdir())) == 3
    delete_records()
    assert list((tmp_path / "shards").iterdir()) == []
