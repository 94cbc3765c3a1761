"""What the tests of builds share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny import tiny_onnx
from trtpoets.core.types import OnnxModel


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """The tiny network as an ONNX file in a folder of its own."""
    return tiny_onnx(tmp_path / "tiny" / "fp32.onnx")
