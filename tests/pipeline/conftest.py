"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.photos import photo_folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", {"ant": 3, "bee": 2})
