"""A table of photos is a sequence of Photos, with columns that agree with them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtpoets.core.types import Photo, Split
from trtpoets.train.photo_table import SPLITS, TableBuilder, files_of, sha256s_of, table_of

FOLDER = Path("/photos")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


PHOTOS = (
    Photo(FOLDER / "rose" / "1.jpg", "rose", Split.TRAIN, "00" * 32),
    Photo(FOLDER / "tulip" / "caf\udce9.jpg", "tulip", Split.TEST, "ab" * 31 + "00", 4080),
    Photo(FOLDER / "rose" / "deep" / "é 3.jpg", "rose", Split.VALIDATION, sha("3")),
    Photo(FOLDER / "4.jpg", "tulip", Split.TRAIN, "ab" * 31 + "00", 65535),
)
TABLE = table_of(PHOTOS, FOLDER)


def test_a_table_is_a_sequence_of_its_photos() -> None:
    assert tuple(TABLE) == PHOTOS == TABLE
    assert len(TABLE) == 4
    assert TABLE[1] == PHOTOS[1] and TABLE[-1] == PHOTOS[-1]
    assert TABLE[1:3] == PHOTOS[1:3] and TABLE[::-1] == PHOTOS[::-1] and TABLE[1:][1:][0] == PHOTOS[2]
    assert PHOTOS[2] in TABLE and TABLE.index(PHOTOS[2]) == 2
    with pytest.raises(IndexError):
        TABLE[4]
    assert len(table_of((), FOLDER)) == 0 and table_of((), FOLDER).label_indices(["rose"]).tolist() == []


def test_columns_agree_with_the_photos() -> None:
    for table in (TABLE, TABLE.at(np.array([3, 1, 1])), TABLE[:0]):
        photos = tuple(table)
        assert table.sha256s == [photo.sha256 for photo in photos] == sha256s_of(photos)
        assert table.files == files_of(photos) == files_of(table)
        assert table.labels == [photo.label for photo in photos]
        assert table.levels.tolist() == [photo.levels for photo in photos]
        assert [SPLITS[number] for number in table.split_numbers.tolist()] == [photo.split for photo in photos]
        assert table.label_indices(["tulip", "x"]).tolist() == [0 if photo.label == "tulip" else -1 for photo in photos]
        assert table.paths_below(FOLDER) == [os.path.relpath(photo.path, FOLDER) for photo in photos]
        assert table.paths_below(Path("/")) == [os.path.relpath(photo.path, "/") for photo in photos]
        assert [FOLDER / folder / name for folder, name in table.names] == [photo.path for photo in photos]
        for split in Split:
            assert table.in_split(split) == tuple(photo for photo in photos if photo.split is split)
        used = (Split.TRAIN, Split.VALIDATION)
        assert table.in_split(*used) == tuple(photo for photo in photos if photo.split in used)
        assert table.in_split() == ()


def test_equal_tables_have_equal_photos() -> None:
    assert table_of(list(PHOTOS), Path("/")) == TABLE and hash(TABLE) == hash(table_of(PHOTOS, Path("/")))
    for changed in (
        replace(PHOTOS[0], path=Path("/photos/x.jpg")),
        replace(PHOTOS[0], label="tulip"),
        replace(PHOTOS[0], split=Split.TEST),
        replace(PHOTOS[0], sha256=sha("x")),
        replace(PHOTOS[0], levels=1),
    ):
        assert table_of((changed, *PHOTOS[1:]), FOLDER) != TABLE != (changed, *PHOTOS[1:])
    assert TABLE[:3] != TABLE and TABLE != "photos"


def test_other_splits_and_labels() -> None:
    splits = [Split.TEST, Split.TEST, Split.TRAIN, Split.VALIDATION]
    assert [photo.split for photo in TABLE.with_splits(splits)] == splits
    assert [photo.split for photo in TABLE[1:3].with_splits(splits[1:3])] == splits[1:3]
    assert tuple(TABLE) == PHOTOS
    assert TABLE.with_labels({"rose": "tulip"}) == tuple(replace(photo, label="tulip") for photo in PHOTOS)


def test_splits_are_taken_from_photos_of_equal_bytes() -> None:
    others = table_of([replace(PHOTOS[3], split=Split.TRAIN), replace(PHOTOS[1], split=Split.VALIDATION)], FOLDER)
    splits = [photo.split for photo in TABLE.with_splits_of(others)]
    assert splits == [Split.TRAIN, Split.VALIDATION, Split.VALIDATION, Split.VALIDATION]
    assert TABLE.with_splits_of(TABLE[:0]) == TABLE


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_splits_of_equal_bytes_are_those_of_a_dictionary(mine: list[int], theirs: list[int]) -> None:
    photos = [replace(PHOTOS[0], sha256=sha(str(number))) for number in mine]
    others = [
        replace(PHOTOS[0], sha256=sha(str(number)), split=SPLITS[place % 3]) for place, number in enumerate(theirs)
    ]
    splits = {photo.sha256: photo.split for photo in others}
    expected = [splits.get(photo.sha256, photo.split) for photo in photos]
    assert [photo.split for photo in table_of(photos, FOLDER).with_splits_of(table_of(others, FOLDER))] == expected


@pytest.mark.parametrize(
    "path", ["a//b.jpg", "./a.jpg", "../a.jpg", "b/../a.jpg", "/elsewhere/a.jpg", "a.jpg", "a..jpg"]
)
def test_paths_that_are_not_plain(path: str) -> None:
    builder = TableBuilder(FOLDER)
    builder.add(path, "rose", Split.TRAIN, sha(path))
    table = builder.table()
    assert table[0].path == FOLDER / path
    assert table.paths_below(FOLDER) == [os.path.relpath(FOLDER / path, FOLDER)]


def test_photos_outside_of_the_folder_keep_their_paths() -> None:
    photos = (*PHOTOS, Photo(Path("elsewhere/1.jpg"), "rose", Split.TRAIN, sha("5")))
    assert table_of(photos, FOLDER) == photos


def test_what_is_no_hash_is_refused() -> None:
    builder = TableBuilder(FOLDER)
    for sha256 in ("", "ab" * 31, "AB" * 32, "x" * 64, "ab" * 32 + "\n"):
        with pytest.raises(ValueError, match="hexadecimal"):
            builder.add("a.jpg", "rose", Split.TRAIN, sha256)
    with pytest.raises(ValueError, match="levels"):
        builder.add("a.jpg", "rose", Split.TRAIN, sha("x"), 2**31)
    assert len(builder.table()) == 0
