"""What the tests of GPUs share."""

from __future__ import annotations

import pytest

from tests.fakes.nvml import Driver


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    result = Driver()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", result)
    return result
