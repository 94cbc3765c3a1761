"""Small text files beside a classifier are read, and damaged ones are ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign import foreign_model
from trtpoets.adoption.neighbours import (
    find_beside,
    folders_of,
    json_beside,
    json_object,
    number_of,
    text_beside,
    triple_of,
)


def test_the_folder_above_belongs_to_a_subfolder_named_onnx(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text('{"a": 1}')
    inside, other = foreign_model(tmp_path / "onnx" / "net.onnx"), foreign_model(tmp_path / "files" / "net.onnx")
    assert folders_of(inside) == (tmp_path / "onnx", tmp_path)
    assert json_beside(inside, "config.json") == {"a": 1}
    assert find_beside(other, ["config.json"]) == []
    (tmp_path / "onnx" / "config.json").write_text('{"a": 2}')
    assert json_beside(inside, "config.json") == {"a": 2}, "the own folder comes first"


def test_a_mark_of_the_byte_order_is_removed_and_other_bytes_are_no_text(tmp_path: Path) -> None:
    model = foreign_model(tmp_path / "net.onnx")
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfdaisy\n")
    assert text_beside(model, "labels.txt") == "daisy\n"
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    assert text_beside(model, "labels.txt") is None
    assert text_beside(model, "nothing.txt") is None


@pytest.mark.parametrize("text", [None, "", "[1]", "{", "[" * 100_000])
def test_what_is_no_json_object_is_empty(text: str | None) -> None:
    assert json_object(text) == {}


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), ("0.5", 0.5), (True, None), ("nan", None), (1e7, None), (10**400, None), ([1], None), ("x", None)],
)
def test_numbers(value: Any, number: float | None) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize(
    ("value", "triple"),
    [
        ([1, 2, 3], (1, 2, 3)),
        ("[1, 2, 3]", (1, 2, 3)),
        ([0.5], (0.5, 0.5, 0.5)),
        ("0.5", (0.5, 0.5, 0.5)),
        ([1, 2], None),
        ([1, 2, "x"], None),
        (5, None),
    ],
)
def test_triples(value: Any, triple: tuple[float, float, float] | None) -> None:
    assert triple_of(value) == triple
