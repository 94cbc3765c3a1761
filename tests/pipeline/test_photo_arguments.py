"""Photos that are named on the command line."""

from __future__ import annotations

from pathlib import Path

from tests.support.photo_names import names
from tests.support.photos import make_photo
from trtpoets.pipeline.photo_arguments import photos_from_arguments


def test_a_folder_is_every_photo_below_it_and_nothing_else(photos: Path) -> None:
    make_photo(0, 9).save(photos / "top.png")
    for name in ("Thumbs.db", ".hidden.jpg", "__MACOSX/ant/0.jpg", "@eaDir/x.jpg", ".ipynb_checkpoints/a.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"x")
    (photos / "ant" / "loop").symlink_to(photos)
    (photos / "runs").mkdir()
    make_photo(0, 1).save(photos / "runs" / "golden.png")
    result = photos_from_arguments([photos], skip=[photos / "runs"])
    assert [str(item.path.relative_to(photos)) for item in result] == [
        *("top.png", "ant/0000.jpg", "ant/0001.jpg", "ant/0002.jpg", "bee/0000.jpg", "bee/0001.jpg")
    ]


def test_patterns_are_expanded_unless_a_file_has_that_name(photos: Path) -> None:
    make_photo(0, 0).save(photos / "a[1].jpg")
    make_photo(0, 0).save(photos / "a1.jpg")
    assert names(photos_from_arguments([f"{photos}/*/*1.jpg"])) == ["0001.jpg", "0001.jpg"]
    assert names(photos_from_arguments([f"{photos}/a[1].jpg"])) == ["a[1].jpg"]
    assert names(photos_from_arguments([f"{photos}/a[1-9].jpg"])) == ["a1.jpg"]
    assert len(photos_from_arguments([f"{photos}/**"])) == len(photos_from_arguments([f"{photos}/**/*.jpg"])) == 7
    assert len(photos_from_arguments([f"{photos}/*"])) == 7
    (none,) = photos_from_arguments([f"{photos}/*.gif"])
    assert none.problem is not None and "no file matches" in none.problem.message
