"""Bundles and devices for tests of the programs of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fakes.board_bundle import PYTHONS, Board, paper_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_bundle(tmp_path_factory.mktemp("made") / "tiny-jetson")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tiny-jetson"))


@pytest.fixture(params=PYTHONS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path, request.param)


@pytest.fixture
def here(tmp_path: Path) -> Board:
    return Board(tmp_path)
