"""What the tests of builds share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.build_requests import RTX
from tests.support.tiny import tiny_onnx
from trtpoets.core.types import Engine, OnnxModel
from trtpoets.device.build.engine import (
    engine_from_onnx,
)


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return tiny_onnx(tmp_path / "tiny" / "fp32.onnx")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tiny" / "fp32.rtx.engine"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine that the tests of cards may copy, never change."""
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("built")
    return engine_from_onnx(tiny_onnx(folder / "fp32.onnx"), RTX, folder / "fp32.rtx.engine")
