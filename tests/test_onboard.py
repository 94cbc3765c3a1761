"""A bundle on a board of paper: built with the fallback that was told, checked, measured; in Python 3.8 and in ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paper_bundle import PYTHONS, Board, as_json, paper_bundle, python_3_8
from trtpoets.core.spec import Precision


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_bundle(tmp_path_factory.mktemp("made") / "tiny-jetson")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tiny-jetson"))


@pytest.fixture(params=PYTHONS, ids=["this", "3.8"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path, request.param)


def test_build_and_selftest(board: Board, bundle: Path) -> None:
    result = board.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    (engine,) = as_json(result)
    assert engine["path"] == str(bundle / "built" / "int8.tensorrt.engine")
    assert (engine["card"]["precision"], engine["card"]["calibration_hash"]) == ("int8", "c" * 64)
    record = json.loads((bundle / "built" / "build.json").read_text())
    assert (record["engine"], len(record["attempts"])) == ("int8.tensorrt.engine", 1)
    assert record["attempts"][0]["verdict"]["passed"] is True
    # Again: nothing to do, and the same words as in a workspace.
    again = board.run(bundle, "trtpoets", "build", "tiny", "--json")
    assert as_json(again) == [engine]
    assert "build " not in again.stderr
    found = as_json(board.run(bundle, "selftest", "--json"))
    assert (found["runner"], found["verdict"]["passed"], found["verdict"]["same_answers"]) == ("tensorrt-int8", True, 4)
    assert 0 < found["latency"]["median_ms"] <= found["latency"]["worst_ms"]
    assert "one photo at a time" in found["latency"]["conditions"]


if __name__ == "__main__":
    sys.exit(0)
