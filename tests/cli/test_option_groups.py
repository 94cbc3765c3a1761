"""Groups of options: their fields become parameters of the command, at the place of the group."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trtpoets.cli import options as opt
from trtpoets.cli.application import Application
from trtpoets.cli.option_groups import HeadOptions, NetworkOptions, PhotoOptions, RaceOptions, with_groups
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Precision, Resize

RECEIVED: list[tuple[object, ...]] = []


@with_groups
def command(
    photos: opt.Photos, *, race: RaceOptions, photo: PhotoOptions, seed: opt.Seed = 0, network: NetworkOptions
) -> None:
    """Record what was received."""
    RECEIVED.append((photos, race, photo, seed, network))


def received(*arguments: str) -> tuple[object, ...]:
    application = Application()
    application.command()(command)
    result = CliRunner().invoke(application, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return RECEIVED.pop()


def test_options_that_are_not_given_have_the_defaults_of_the_groups() -> None:
    assert received("photos") == (Path("photos"), RaceOptions(), PhotoOptions(), 0, NetworkOptions())


def test_options_arrive_in_their_group_and_paths_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    given = ["--candidate", "a", "--candidate", "b=c", "--max-ms", "3", "--precision", "fp16", "--labels", "~/a.csv"]
    _, race, photo, seed, network = received("photos", *given, "--seed", "7", "--resize", "letterbox")
    assert race == RaceOptions(["a", "b=c"], 3.0, None, Precision.FP16)
    assert photo == PhotoOptions(labels=Path("/somewhere/a.csv"))
    assert seed == 7 and network == NetworkOptions(resize=Resize.LETTERBOX)


def test_the_fields_stand_where_the_group_stood() -> None:
    names = list(inspect.signature(command).parameters)
    assert names[:3] == ["photos", "candidates", "max_ms"]
    assert names[-4:] == ["seed", "resize", "device", "workers"]


def test_the_defaults_of_the_head_are_those_of_its_training() -> None:
    given = {name: value for name, value in vars(HeadOptions()).items() if value is not None}
    assert HeadConfig(**given) == HeadConfig()
