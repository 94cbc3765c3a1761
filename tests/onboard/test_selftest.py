"""The command selftest of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.board_bundle import Board, as_json


def test_scores_that_are_not_the_golden_ones_fail_the_selftest(here: Board, bundle: Path) -> None:
    """The golden scores are the fake GPU's; the ONNX file computes others."""
    pytest.importorskip("onnxruntime")
    result = here.run(bundle, "selftest", "--runner", "onnxruntime", "--json")
    assert result.returncode == 3
    assert as_json(result)["verdict"]["passed"] is False
    assert "Error: onnxruntime-int8: its scores differ from the golden ones" in result.stderr
