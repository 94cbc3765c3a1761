"""Long lists in JSON documents are written, hashed and read as ordinary ones are, but never as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core import files, long_lists
from trtpoets.core.errors import BadArtefact
from trtpoets.core.files import read_long_json, write_json
from trtpoets.core.long_lists import LongList, canonical_chunks, document_from_blocks, indented_chunks
from trtpoets.core.serialization import to_json
from trtpoets.core.types import hash_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "BLOCK_ITEMS", 3)


def long(items: list[Any]) -> LongList[Any]:
    return LongList(len(items), items.__getitem__)


def in_blocks(text: str, size: int) -> Iterator[bytes]:
    content = text.encode("utf-8", "surrogateescape")
    return (content[start : start + size] for start in range(0, len(content), size))


def test_a_long_list_is_a_sequence() -> None:
    squares = LongList(5, lambda index: index * index)
    assert list(squares) == [0, 1, 4, 9, 16] == squares
    assert (squares[2], squares[-1], squares[1:4]) == (4, 16, [1, 4, 9])
    assert squares.mapped(str) == ["0", "1", "4", "9", "16"]
    assert squares != [0, 1, 4, 9] and squares != 3
    with pytest.raises(IndexError):
        squares[5]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_the_text_is_that_of_an_ordinary_list(count: int) -> None:
    items: list[Any] = [{"path": f"é {number}\n", "b": [1, {"c": []}], "a": 0.5} for number in range(count)]
    for wrap in (lambda rows: {"z": 1, "details": {"photos": rows, "a": [1]}}, lambda rows: [["a"], rows], lambda x: x):
        ordinary, lazy = wrap(items), wrap(long(items))
        assert "".join(indented_chunks(lazy)) == json.dumps(ordinary, indent=2, ensure_ascii=False)
        assert "".join(canonical_chunks(lazy)) == "".join(canonical_chunks(ordinary))
        assert hash_of(lazy) == hash_of(ordinary)


def test_rows_become_json_one_by_one() -> None:
    made = []
    rows = to_json(LongList(10, lambda index: made.append(index) or Path(str(index))))
    assert not made
    assert rows[4] == "4"
    assert made == [4]


@given(VALUES, st.integers(1, 30), st.booleans())
def test_a_document_is_read_from_any_blocks(value: Any, size: int, indented: bool) -> None:
    text = json.dumps(value, indent=2 if indented else None, ensure_ascii=False)
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert document_from_blocks(in_blocks(text, size), json.JSONDecoder()) == value


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_lists_in_the_outer_objects_are_long(size: int) -> None:
    value = {"details": {"photos": [[number, "caf\udce9", 1e5] for number in range(8)], "few": [1, 2, 3]}, "x": {}}
    read = document_from_blocks(in_blocks(json.dumps(value, ensure_ascii=False), size), json.JSONDecoder())
    photos = read["details"]["photos"]
    assert isinstance(photos, LongList) and isinstance(read["details"]["few"], list)
    assert read == value and photos[6] == [6, "caf\udce9", 1e5]
    deeper = document_from_blocks([json.dumps({"a": {"b": {"c": [0] * 9}}}).encode()], json.JSONDecoder())
    assert isinstance(deeper["a"]["b"]["c"], list)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"', '{"a": ', '{"a": [1', '{"a": [1,]}', "{1: 2}", '{"a": 1} x', '{"a" 1}', "[1e]", '{"a": tru'],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    for size in (1, 100):
        with pytest.raises(ValueError, match=r"Expecting|Extra|Unterminated"):
            document_from_blocks(in_blocks(text, size), json.JSONDecoder())


def test_a_file_is_written_and_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"path": f"{number}.jpg"} for number in range(10)]
    write_json(tmp_path / "x.json", {"photos": long(rows)})
    assert (tmp_path / "x.json").read_text() == json.dumps({"photos": rows}, indent=2) + "\n"
    assert isinstance(read_long_json(tmp_path / "x.json", 1 << 20)["photos"], list)
    monkeypatch.setattr(files, "_LONG_JSON", 10)
    read = read_long_json(tmp_path / "x.json", 1 << 20)
    assert isinstance(read["photos"], LongList) and read["photos"] == rows
    for text in ('{"photos": [1, 2', '{"photos": [1, 2, NaN]}', '{"photos": 1e999}'):
        (tmp_path / "x.json").write_text(text)
        with raises(BadArtefact, "TP1013", "x.json"):
            read_long_json(tmp_path / "x.json", 1 << 20)
