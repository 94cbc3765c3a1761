"""Runners that crash, hang and answer wrongly: each makes its own rows invalid, and no others."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.benchmarks import QUICK, scripted
from trtpoets.core.progress import PARTS, silent
from trtpoets.core.types import Photo


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "killed": (None, "its process was ended by SIGKILL, probably because memory ran out"),
            "leave": (None, "its process ended with code 7; its last output: last words"),
            "not at 4": (4, "ValueError: batch 4 is too much"),
        },
        pytest.param(
            {
                "crash": (None, "its process was ended by SIGSEGV"),
                "will not load": (None, "ValueError: no kernel image"),
                "raise": (1, "KeyError: 'scores'"),
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=", ".join,
)
def test_a_failing_runner_invalidates_only_its_own_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo], wrong: dict[str, tuple[int | None, str]]
) -> None:
    behaviours = dict(zip(("fp32", "fp16", "int8"), wrong, strict=True))
    got = scripted(monkeypatch, tmp_path, photos, QUICK, silent, **behaviours)
    rows = [row.runner.name for row in got.measurements]
    assert rows[:2] == ["tensorflow"] * 2
    for precision, behaviour in behaviours.items():
        name = f"onnxruntime-{precision}"
        assert [(f.batch, f.why) for f in got.failures if f.runner.name == name][:1] == [wrong[behaviour]]
        assert rows.count(name) == (1 if behaviour == "not at 4" else 0)


def test_bad_scores_are_invalid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, batches=(1,)), fp32="nan", fp16="shape")
    assert [(row.valid, row.reason) for row in got.measurements[1:]] == [
        (False, "returned a score that is not a number"),
        (False, "returned float32 (1, 2) instead of float32 (1, 3)"),
    ]


def test_runners_that_hang_are_ended_and_say_how_far_they_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    config = replace(QUICK, batches=(1,), max_seconds=2.5, timeout_seconds=3)
    before = time.monotonic()
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="hang", int8="hang after 40")
    assert time.monotonic() - before < 25
    early, late = got.failures
    assert early.why == "hung: no reply within 3 s, before its first round"
    assert re.fullmatch(r"hung: no reply within 3 s, after \d of 10 rounds", late.why)
    assert [row.runner.name for row in got.measurements] == ["tensorflow"]
    assert children() == []


def test_a_wrong_runner_is_called_wrong_however_busy_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    config = replace(QUICK, batches=(1,), max_others=-1.0)  # as if there were always somebody else
    got = scripted(monkeypatch, tmp_path, photos, config, classifier="slow", fp16="wrong and slow", int8="slow")
    assert [row.reason[:20] for row in got.measurements] == [
        "other processes used",
        "wrong: 0% of the tim",
        "other processes used",
    ]


def children() -> list[str]:
    """The benchmark's processes that still run."""
    running = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in running.splitlines() if line.split()[0] == str(os.getpid()) and "bench_runn" in line]


def test_ctrl_c_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    def press(task: str, done: int, total: int) -> None:
        if done == PARTS * (2 + 10 + 7) // 22:
            raise KeyboardInterrupt

    config = replace(QUICK, min_count=100)
    got = scripted(monkeypatch, tmp_path, photos, config, progress=press, fp16="good")
    assert got.incomplete == "at batch 4, in round 8 of 10"
    assert [(row.batch, row.valid, len(row.round_p50_ms)) for row in got.measurements] == [
        (1, True, 10),
        (4, False, 7),
    ] * 2
    assert got.measurements[1].reason == "interrupted after 7 of 10 rounds"
    assert got.failures == ()
    assert children() == []
