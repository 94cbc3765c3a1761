"""A run that is killed again and again ends as one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMALL

KILLS = 20


def start(photos: Path, weights: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "trtpoets", "run", str(photos), "--name", "small", "--backbone", SMALL),
            *("--weights", str(weights), "--steps", "300", "--engines", str(folder / "engines")),
        ],
        env={**os.environ, "TRTPOETS_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(photos: Path, weights: Path, folder: Path) -> float:
    began = time.monotonic()
    with start(photos, weights, folder) as process:
        _, result = process.communicate(timeout=600)
    assert process.returncode == 0, result.decode()
    return time.monotonic() - began


def outcome(folder: Path) -> dict[str, Any]:
    space = folder / "engines" / "small"
    report = json.loads((space / "report.json").read_text())
    return {
        "files": {path.name: path.read_bytes() for path in space.glob("*.onnx")},
        # TensorRT-RTX orders some of its own names by chance, so equal builds may differ in a few bytes.
        "engines": [(engine["file"], engine["onnx_sha256"], engine["targets"]) for engine in report["engines"]],
        **{word: report[word] for word in ("dataset", "accuracy", "agreement", "parity", "confusion")},
        "left over": [path.name for path in space.iterdir() if path.name.startswith(".")],
    }


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(tmp_path: Path, small_photos: Path, small_weights: Path) -> None:
    seconds = finish(small_photos, small_weights, tmp_path / "undisturbed")
    chance = random.Random(0)
    killed = 0
    while killed < KILLS:
        with start(small_photos, small_weights, tmp_path / "killed") as process:
            time.sleep(chance.uniform(0.2, min(seconds, 14)))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            else:  # it was done before its turn: begin again from nothing
                assert process.returncode == 0
                subprocess.run(["rm", "-rf", str(tmp_path / "killed")], check=True)
    finish(small_photos, small_weights, tmp_path / "killed")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "undisturbed")


def fine_tuning(photos: Path, weights: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "trtpoets", "retrain", str(photos), "--name", "small", "--backbone", SMALL),
            *("--weights", str(weights), "--steps", "100", "--unfreeze", "4", "--engines", str(folder / "engines")),
        ],
        env={**os.environ, "TRTPOETS_CACHE": str(folder / "cache")},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_fine_tuning_that_is_stopped_ends_with_the_same_curve(
    tmp_path: Path, small_photos: Path, small_weights: Path, how: signal.Signals
) -> None:
    curves = []
    for name in ("undisturbed", "stopped"):
        state = tmp_path / name / "engines" / "small" / "fine-tuning"
        if name == "stopped":
            with fine_tuning(small_photos, small_weights, tmp_path / name) as process:
                while not state.exists():
                    time.sleep(0.05)
                    assert process.poll() is None
                process.send_signal(how)
            assert process.returncode == (-how if how is signal.SIGKILL else 130)
            assert state.exists()
        with fine_tuning(small_photos, small_weights, tmp_path / name) as process:
            process.wait(timeout=600)
        assert process.returncode == 0
        assert [path.name for path in state.parent.glob("fine-tuning*")] == []
        ends = [folder.name.partition("_")[2].partition("_")[2] for folder in (state.parent / "logs").iterdir()]
        assert sorted(ends) == ["adam-0.0003", "unfreeze-4"]  # TensorBoard shows one curve of each training
        details = json.loads((state.parent / "training.json").read_text())["details"]["fine_tuning"]
        curves.append([details["validation_cross_entropy"], details["train_cross_entropy"], details["best_step"]])
    assert curves[0] == curves[1]
