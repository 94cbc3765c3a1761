"""`retrain` passes the options of fine-tuning on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.test_main import call_main
from trtpoets.cli import main
from trtpoets.core.fine_tuning import Distortions, FineTuneConfig
from trtpoets.pipeline.retrain import RetrainConfig


class Called(Exception):
    pass


def configured(monkeypatch: pytest.MonkeyPatch, *words: str) -> RetrainConfig:
    """The configuration that the pipeline is called with."""
    configs: list[RetrainConfig] = []

    def work(photos: Path, name: str, config: RetrainConfig, **options: Any) -> None:
        configs.append(config)
        raise Called

    monkeypatch.setattr("trtpoets.pipeline.retrain.retrain", work)
    with pytest.raises(Called):
        call_main(monkeypatch, "retrain", "photos", "--name", "flowers", *words)
    return configs[0]


def test_without_unfreeze_nothing_is_fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured(monkeypatch).fine_tuning is None


def test_the_options_of_fine_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = ["--unfreeze", "12", "--fine-tuning-epochs", "3", "--seed", "5", "--random-rotation", "15"]
    words = [*numbers, "--no-flip-left-right"]
    assert configured(monkeypatch, *words).fine_tuning == FineTuneConfig(
        unfreeze="12", epochs=3, seed=5, distortions=Distortions(False, 0, 15, 10, 15)
    )


def test_help_names_the_defaults_of_fine_tuning() -> None:
    command = typer.main.get_command(main.app).commands["retrain"]  # type: ignore[attr-defined]
    by_name = {parameter.name: parameter for parameter in command.params}
    assert by_name["fine_tuning_epochs"].help.endswith(f"default: {FineTuneConfig.epochs}.")
    assert by_name["fine_tuning_rate"].help.endswith(f"default: {FineTuneConfig.learning_rate}.")


@pytest.mark.parametrize("verb", ["retrain", "run", "race", "sweep"])
def test_the_workers_are_passed_on(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def work(*arguments: Any, workers: str, **options: Any) -> None:
        given.append(workers)
        raise Called

    monkeypatch.setattr(f"trtpoets.pipeline.{verb}.{verb}", work)
    for words in ((), ("--workers", "ray://head:10001")):
        with pytest.raises(Called):
            call_main(monkeypatch, verb, "photos", "--name", "flowers", *words)
    assert given == ["", "ray://head:10001"]
