"""Every command of the README runs, pasted as it is, in the order in which it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.photos import photo_folder
from tests.test_structure import COMMANDS

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"(?:<!-- (\w+)[^\n]*-->\n)?```(\w*)\n(.*?)```", README.read_text(), re.DOTALL)


def test_every_command_is_in_the_readme_and_runs_or_says_what_it_needs() -> None:
    shell = [(mark, text) for mark, language, text in BLOCKS if language == "bash"]
    assert shell
    assert {mark for mark, _ in shell} <= {"run", "tests", "first", "needs"}, "a block that no test runs"
    named = {word for _, text in shell for word in re.findall(r"trtpoets (\w+)", text)}
    assert named == set(COMMANDS)


def test_the_first_commands_set_up_for_themselves() -> None:
    for mark in ("first", "tests"):
        (text,) = [text for each, _, text in BLOCKS if each == mark]
        assert len(text.strip().splitlines()) == 1
        assert text.startswith("python3 -m venv .venv && .venv/bin/pip install ")


@pytest.mark.slow
def test_the_rest_runs_as_it_is_pasted(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", {"daisy": 40, "tulip": 40}, size=(160, 120))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = 0
    for mark, language, text in BLOCKS:
        if mark != "run":
            continue
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
        ran += 1
    assert ran >= 6
    report = json.loads((tmp_path / "engines" / "flowers" / "report.json").read_text())
    assert report["backbone"] == "efficientnet_lite0"  # the last block that ran the whole road
    assert json.loads((tmp_path / "bench.json").read_text())["measurements"]
    assert json.loads((tmp_path / "evaluation.json").read_text())["evaluations"]
