"""The command `race`, and its options of `retrain` and `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import call_main
from tests.support.races import race_result
from trtpoets.core.types import Precision
from trtpoets.judge.race import RaceConfig

OPTIONS = ["--candidate", "mobilenet_v2", "--max-ms", "5", "--board", "orin-nano", "--precision", "fp16"]
RACE = RaceConfig(("mobilenet_v2",), 5.0, "orin-nano", Precision.FP16)


def test_the_options_reach_the_race(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls: list[Any] = []

    def held(*arguments: Any, **_: Any) -> Any:
        calls.append(arguments)
        return race_result()

    monkeypatch.setattr("trtpoets.pipeline.race.race", held)
    assert call_main(monkeypatch, "race", str(tmp_path), "--name", "x", *OPTIONS) == 0
    _, name, config = calls[0]
    assert (name, config.backbone, config.race) == ("x", "auto", RACE)
    assert "mobilenet_v2" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["retrain", "run"])
def test_without_auto_the_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    assert call_main(monkeypatch, command, str(tmp_path), "--name", "x", "--max-ms", "5") == 1
    assert "--max-ms would have no effect without --backbone auto" in capsys.readouterr().err
