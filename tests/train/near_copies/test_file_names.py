"""Near-copies by the names of their files."""

from __future__ import annotations

import pytest

from trtpoets.train.near_copies.file_names import pairs_by_name, stem_of


@pytest.mark.parametrize(
    "name",
    [
        "rose.jpg",
        "rose_jpg.rf.0123456789abcdef0123456789abcdef.jpg",
        "rose_aug3.jpg",
        "rose (2).jpg",
        "rose-copy.png",
        "Rose - Copy (3).jpg",
        "rose_flipped_copy.jpg",
        "Copy of rose.jpg",
    ],
)
def test_marks_of_copies_are_left_out_of_names(name: str) -> None:
    assert stem_of(name) == "rose"


def test_frames_in_a_row_are_candidates_and_numbered_photos_are_not() -> None:
    frames = [("a", f"frame_{number:04}.jpg") for number in (1, 2, 3, 50)]
    assert pairs_by_name(frames) == {(0, 1), (0, 2), (1, 2)}
    assert not pairs_by_name([("a", f"IMG_{number:04}.jpg") for number in range(9)])
    assert not pairs_by_name([("a", "frame_1.jpg"), ("b", "frame_2.jpg")])
