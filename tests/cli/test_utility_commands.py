"""Commands that are not stages: their options reach the functions that do the work, which are replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trtpoets.cli import utility_commands
from trtpoets.cli.main import app
from trtpoets.cli.utility_commands import UTILITY_COMMANDS

Call = tuple[tuple[Any, ...], dict[str, Any]]


def invoked(monkeypatch: pytest.MonkeyPatch, function: str, *arguments: str) -> Call:
    """Run a command with `function` replaced; returns the arguments that the function was given."""
    calls: list[Call] = []

    def replacement(*values: Any, **named: Any) -> dict[str, str]:
        calls.append((values, named))
        return {"answer": "yes"}

    monkeypatch.setattr(function, replacement)
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"answer": "yes"}
    (call,) = calls
    return call


PIPELINE = "trtpoets.pipeline"


@pytest.mark.parametrize(
    ("function", "arguments", "call"),
    [
        (f"{PIPELINE}.pretrained.models", ["models"], ((), {})),
        (f"{PIPELINE}.cache.cache", ["cache"], ((), {})),
        (f"{PIPELINE}.cache.prune_cache", ["cache", "--prune", "--older-than", "30"], ((30,), {})),
        (f"{PIPELINE}.cache.prune_cache", ["cache", "--prune"], ((0,), {})),
        (f"{PIPELINE}.inspect.inspect", ["inspect", "net.onnx"], ((Path("net.onnx"),), {})),
        (f"{PIPELINE}.trust.trust", ["trust", "cells"], (("cells",), {"engines": Path("engines")})),
        (f"{PIPELINE}.trust.trust", ["trust", "cells", "--engines", "runs"], (("cells",), {"engines": Path("runs")})),
        ("trtpoets.device.doctor.doctor", ["doctor"], ((), {})),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_calls_its_function(
    function: str, arguments: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoked(monkeypatch, function, *arguments) == call


def test_tensorboard_runs_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, Any, bool]] = []
    monkeypatch.setattr(utility_commands, "show_until_interrupt", lambda *values: shown.append(values))
    monkeypatch.setattr(f"{PIPELINE}.tensorboard.tensorboard", lambda *values, **named: (values, named))
    assert CliRunner().invoke(app, ["tensorboard", "cells", "--port", "7000"]).exit_code == 0
    assert shown == [("board", (("cells",), {"port": 7000, "engines": Path("engines")}), False)]


def test_label_prints_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Call] = []

    def label_stream(*values: Any, **named: Any) -> list[int]:
        calls.append((values, {**named, "stdin": named["stdin"].read()}))
        return [7]

    monkeypatch.setattr(f"{PIPELINE}.label.label_stream", label_stream)
    shown: list[tuple[Any, bool]] = []
    monkeypatch.setattr(utility_commands, "show_labelled_photos", lambda *values: shown.append(values))
    result = CliRunner().invoke(app, ["label", "cells", "a.jpg", "--top", "2", "--trust", "--strict"], input=b"b.jpg")
    assert result.exit_code == 0, result.output
    ((values, named),) = calls
    assert values == ("cells", [Path("a.jpg")])
    assert (named["top"], named["trust"], named["strict"], named["engines"]) == (2, True, True, Path("engines"))
    assert named["stdin"] == b"b.jpg"
    assert shown == [([7], False)]


def test_help_lists_the_commands_in_their_order() -> None:
    names = [info.callback.__name__ for info in app.registered_commands if info.callback]
    listed = [command.__name__ for command in UTILITY_COMMANDS]
    assert [name for name in names if name in listed] == listed
    assert listed == ["tensorboard", "label", "models", "cache", "inspect", "trust", "doctor"]
