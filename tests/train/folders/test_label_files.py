"""Label files: dialects of CSV, JSON lines, and how columns are recognised."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from tests.support.photo_folders import HALVES, STRICT, counts, flat, labels_by_name, table
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.folders.label_files import read_rows, table_from_file


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_dialects_of_csv(tmp_path: Path, delimiter: str, encoding: str) -> None:
    truth = flat(tmp_path, 20)
    lines = ["id,label", *(f'"{name}","{label}"' for name, label in truth.items())]
    (tmp_path / "l.csv").write_text("\r\n".join(lines).replace(",", delimiter) + "\r\n", encoding=encoding)
    assert labels_by_name(dataset_from_folder(tmp_path, HALVES)) == truth


def test_one_hot_columns_as_roboflow_exports_them(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        truth = flat(tmp_path / part, 6 - number, 20 * number)
        rows = [(name, int(label == "rose"), int(label == "tulip")) for name, label in truth.items()]
        table(tmp_path / part / "_classes.csv", [("filename", "rose", "tulip"), *rows])
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert counts(dataset) == {"train": 12, "validation": 10, "test": 8}
    table(tmp_path / "train" / "_classes.csv", [("filename", "rose", "tulip"), ("r000.jpg", 1, 1)])
    with raises(BadInput, "TP2043"):
        dataset_from_folder(tmp_path, DatasetConfig(labels="train/_classes.csv"))


def test_a_column_with_several_labels_a_photo(tmp_path: Path) -> None:
    rows = [(name, label, 30) for name, label in flat(tmp_path / "images", 20).items()]
    table(tmp_path / "entries.csv", [("Image Index", "Finding Labels", "Age"), *rows])
    assert dataset_from_folder(tmp_path, HALVES).layout.label_column == "Finding Labels"
    table(
        tmp_path / "entries.csv", [("Image Index", "Finding Labels", "Age"), *rows[1:], (rows[0][0], "rose|tulip", 1)]
    )
    with raises(BadInput, "TP2044"):
        dataset_from_folder(tmp_path, HALVES)


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        table_from_file(path, lambda cell: cell.startswith("a"))
    except BadInput as error:
        assert error.hint


_CELL = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), min_size=1, max_size=12
).map(lambda text: "a" + text.strip())


@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8), st.sampled_from(",;\t"))
def test_written_rows_are_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = table(tmp_path_factory.getbasetemp() / "rows.csv", [("id", "label"), *rows], delimiter)
    assert read_rows(path) == (["id", "label"], [list(row) for row in rows])
