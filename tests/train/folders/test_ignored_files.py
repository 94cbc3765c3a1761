"""Files that systems, tools and trtpoets leave beside photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import CLASSES, STRICT, classes, photos
from trtpoets.core.errors import BadInput
from trtpoets.core.workspace import Workspace, seal_card
from trtpoets.train.dataset import dataset_from_folder


def litter(folder: Path) -> None:
    for place in (folder, folder / "rose"):
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._000.jpg", "README.txt", "LICENSE", "x.jpg.part"):
            (place / name).write_bytes(b"\0\1")
    (folder / "rose" / "000.xml").write_text("<annotation/>")
    (folder / "rose" / "000.jpg.json").write_text("{}")
    for name in ("__MACOSX", "lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", ".git", ".ipynb_checkpoints"):
        (folder / name / "rose").mkdir(parents=True)
        (folder / name / "x.jpg").write_bytes(b"\0")
    (folder / "rose" / "@eaDir").mkdir()
    (folder / "env").mkdir()
    (folder / "env" / "pyvenv.cfg").write_text("home = /usr")


def test_what_systems_and_tools_write_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    before = dataset_from_folder(classes(tmp_path, 20), STRICT)
    litter(tmp_path)
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert dataset.photos == before.photos and not dataset.left_out
    assert "2 Thumbs.db" in caplog.text


def test_what_trtpoets_writes_is_ignored(tmp_path: Path) -> None:
    before = dataset_from_folder(classes(tmp_path, 20), STRICT)
    for folder in ("engines", "other name"):
        space = Workspace(tmp_path / folder, "flowers")
        space.folder.mkdir(parents=True)
        space.lock.touch()
        assert dataset_from_folder(tmp_path, STRICT).photos == before.photos
        seal_card(space.dataset, key=before.hash, files=[], details=before.document)
        photos(space.golden, 1, 3)
    seal_card(tmp_path / "run" / "training.json", key=before.hash, files=[], details={})
    assert dataset_from_folder(tmp_path, STRICT).photos == before.photos
    with raises(BadInput, "TP2054"):
        dataset_from_folder(tmp_path / "engines", STRICT)


def test_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    listed = os.listdir

    def listdir(path: Path) -> list[str]:
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    classes(tmp_path, 20)
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(os, "listdir", listdir)
    assert dataset_from_folder(tmp_path, STRICT).labels == CLASSES
    assert "private can't be read (Permission denied) and is ignored" in caplog.text
