"""Photos that cells of a label file name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.types import Split
from trtpoets.train.folders.ignored_files import Entries
from trtpoets.train.folders.photo_index import PhotoIndex, counted_by_folder


def index_of(folder: Path, *names: str) -> PhotoIndex:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return PhotoIndex(folder, Entries())


def named(index: PhotoIndex, cell: str, near: str = "", role: Split | None = None) -> str | None:
    path = index.find(cell, index.folder / near, role)
    return path.relative_to(index.folder).as_posix() if path else None


@pytest.mark.parametrize("cell", ["a.jpg", "a", "A.JPG", "./x/a.jpg", "C:\\photos\\a.jpg", "a.png"])
def test_a_photo_is_found_by_its_name(tmp_path: Path, cell: str) -> None:
    assert named(index_of(tmp_path, "x/a.jpg", "x/b.jpg", "labels.csv"), cell) == "x/a.jpg"


@pytest.mark.parametrize("cell", ["", ".", "c.jpg", "a.txt", "labels"])
def test_other_cells_name_no_photo(tmp_path: Path, cell: str) -> None:
    assert named(index_of(tmp_path, "x/a.jpg", "labels.csv"), cell) is None


def test_folders_of_the_cell_the_role_and_the_place_of_the_file_decide_between_equal_names(tmp_path: Path) -> None:
    index = index_of(tmp_path, "train/a.jpg", "test/a.jpg", "one/b.jpg", "two/b.jpg")
    assert named(index, "test/a.jpg") == "test/a.jpg"
    assert named(index, "a.jpg", role=Split.TEST) == "test/a.jpg"
    assert named(index, "a.jpg", near="test") == "test/a.jpg"
    assert named(index, "a.jpg") == "train/a.jpg", "photos outside test folders are preferred"
    assert named(index, "b.jpg") is None, "ambiguous"
    assert named(index, "b.jpg", near="two") == "two/b.jpg"


def test_photos_in_folders_of_masks_are_left_out(tmp_path: Path) -> None:
    index = index_of(tmp_path, "images/a.png", "masks/a.png", "masks/notes.csv")
    assert [path.parent.name for path in index.photos] == ["images"]
    assert [path.name for path in index.others] == ["notes.csv"]
    assert named(index, "a.png") == "images/a.png"


def test_a_link_to_a_folder_above_is_entered_once(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "again").symlink_to(tmp_path)
    assert len(index_of(tmp_path, "x/a.jpg").photos) == 1


def test_the_split_of_a_photo_is_that_of_its_folders(tmp_path: Path) -> None:
    index = index_of(tmp_path, "valid/rose/a.jpg", "rose/b.jpg")
    assert index.split(tmp_path / "valid" / "rose" / "a.jpg") is Split.VALIDATION
    assert index.split(tmp_path / "rose" / "b.jpg") is None


def test_counts_by_folder_begin_with_the_largest(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "x/a", "x/b", "1/a", "2/a", "3/a", "4/a")]
    text = counted_by_folder(paths, tmp_path)
    assert text.startswith("2 in 'x', 1 in '.'")
    assert text.endswith(" and 2 other folders")
    assert counted_by_folder(paths[:-1], tmp_path).endswith(" and 1 other folder")
