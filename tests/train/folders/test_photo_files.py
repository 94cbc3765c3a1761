"""Labelled files that are usable photos, and the reasons why others are not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.photo_folders import photos
from trtpoets.core.types import Split
from trtpoets.train.folders.layout import LabelledFile
from trtpoets.train.folders.photo_files import checked_files


def test_a_photo_has_the_hash_of_its_bytes_its_label_and_its_split(tmp_path: Path) -> None:
    (path,) = photos(tmp_path, 0, 1)
    (checked,) = checked_files([LabelledFile(path, "rose", Split.TEST)])
    assert checked.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (checked.path, checked.label, checked.split, checked.reason) == (path, "rose", Split.TEST, "")
    assert checked.levels == 0


def test_16_bit_photos_suggest_their_white(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.linspace(0, 4000, 64).astype(np.uint16).reshape(8, 8)).save(path)
    (checked,) = checked_files([LabelledFile(path, "rose")])
    assert (checked.reason, checked.levels) == ("", 4000)


def test_unusable_files_have_a_reason_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "text.jpg").write_text("not a photo")
    names = ("gone.jpg", "folder.jpg", "text.jpg")
    checked = checked_files([LabelledFile(tmp_path / name, "rose") for name in names])
    assert [file.reason for file in checked[:2]] == ["is a broken link", "is not a regular file"]
    assert checked[2].reason and str(tmp_path) not in checked[2].reason
    assert all(file.remedy and not file.sha256 for file in checked)


def test_results_are_in_the_order_of_the_files_and_progress_counts_them(tmp_path: Path) -> None:
    files = [LabelledFile(path, "rose") for path in photos(tmp_path, 0, 12)]
    counted: list[tuple[str, int, int]] = []
    checked = checked_files(files, lambda what, done, total: counted.append((what, done, total)))
    assert [file.path for file in checked] == [file.path for file in files]
    assert counted[0] == ("photos", 1, 12) and counted[-1] == ("photos", 12, 12)
