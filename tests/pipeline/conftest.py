"""What the tests of commands share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.bundle_run import bundle_run
from tests.support.photos import photo_folder
from trtpoets.core.workspace import Workspace


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", {"ant": 3, "bee": 2})


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with photos/ and engines/ of a run of the tiny network. Tests that change it take `tiny_space`."""
    folder = tmp_path_factory.mktemp("run")
    bundle_run(folder)
    return folder


@pytest.fixture
def tiny_space(tiny_run: Path, tmp_path: Path) -> Workspace:
    """A copy of the run that a test may change; its photos stay where they are."""
    shutil.copytree(tiny_run / "engines", tmp_path / "engines")
    return Workspace(tmp_path / "engines", "tiny")
