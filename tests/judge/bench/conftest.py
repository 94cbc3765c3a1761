"""What the tests of benchmarks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.nvml import Driver
from tests.support.benchmarks import photos_in
from trtpoets.core.types import Photo


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return photos_in(tmp_path)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    result = Driver()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", result)
    return result
