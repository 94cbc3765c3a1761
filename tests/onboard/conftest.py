"""Bundles and devices for tests of the programs of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.board_bundle import PYTHONS, Board


@pytest.fixture(params=PYTHONS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path, request.param)


@pytest.fixture
def here(tmp_path: Path) -> Board:
    return Board(tmp_path)
