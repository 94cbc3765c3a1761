"""The options of the programs of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.board_bundle import Board
from trtpoets.onboard.bundle_options import parser

COMMANDS: dict[str, Any] = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr, assignment]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_a_terminal(command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = (parser() if command is None else COMMANDS[command]).format_help().splitlines()
    assert max(map(len, lines)) <= 80


def test_usage_errors_exit_2(board: Board, bundle: Path) -> None:
    assert board.run(bundle, "trtpoets").returncode == 2
    assert board.run(bundle, "build", "--precision", "int4").returncode == 2
    assert board.run(bundle, "trtpoets", "--version").stdout == "trtpoets 0.1.0\n"


def test_the_options_are_those_of_trtpoets() -> None:
    from typer.main import get_command

    from trtpoets.cli.main import app

    theirs = get_command(app).commands  # type: ignore[attr-defined]
    extra = {"build": {"--strict"}, "bench": set()}
    for name in ("build", "bench"):
        words = {word for action in COMMANDS[name]._actions for word in action.option_strings if word.startswith("--")}
        known = {word for parameter in theirs[name].params for word in parameter.opts}
        assert words - extra[name] - {"--help"} <= known, name
    build = {action.dest: action.default for action in COMMANDS["build"]._actions}
    defaults = {parameter.name: parameter.default for parameter in theirs["build"].params}
    assert (build["batch"], build["workspace"]) == (defaults["batch"], defaults["workspace"])
