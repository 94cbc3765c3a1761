"""The command `adopt`: its options reach the pipeline. The pipeline function is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trtpoets.adoption.contract_options import contract_options
from trtpoets.cli.main import app
from trtpoets.pipeline.adopt import AdoptConfig


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of the pipeline."""
    calls: list[dict[str, Any]] = []

    def adopt(model: Path, name: str, **others: Any) -> dict[str, str]:
        calls.append({"model": model, "name": name, **others})
        return {"name": name}

    monkeypatch.setattr("trtpoets.pipeline.adopt.adopt", adopt)
    return calls


def called(calls: list[dict[str, Any]], *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["adopt", "net.onnx", "--name", "cells", "--json", *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"name": "cells"}
    (call,) = calls
    del call["progress"]
    return call


def test_without_options(calls: list[dict[str, Any]]) -> None:
    assert called(calls) == {
        "model": Path("net.onnx"),
        "name": "cells",
        "photos": None,
        "config": AdoptConfig(),
        "engines": Path("engines"),
        "force": False,
    }


@pytest.mark.parametrize(
    ("options", "stated"),
    [
        (["--preprocess", "torch"], {"preprocess": "torch"}),
        (
            ["--mean", "1,2,3", "--std", "4,5,6", "--scale", "1/255"],
            {"mean": "1,2,3", "std": "4,5,6", "scale": "1/255"},
        ),
        (["--channels", "bgr"], {"channels": "bgr"}),
        (["--resize", "crop", "--crop", "0.875"], {"resize": "crop", "crop": 0.875}),
    ],
    ids=["preprocess", "numbers", "channels", "crop"],
)
def test_options_of_the_preprocessing(options: list[str], stated: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    assert called(calls, *options)["config"].contract == contract_options(**stated)
    assert contract_options(**stated) != contract_options()


def test_other_options(calls: list[dict[str, Any]]) -> None:
    call = called(
        calls,
        *("--photos", "photos", "--labels", "names.txt", "--class-folders", "--size", "48x96", "--allow-code"),
        *("--engines", "runs", "--force"),
    )
    assert (call["photos"], call["engines"], call["force"]) == (Path("photos"), Path("runs"), True)
    config = call["config"]
    assert (config.labels, config.size, config.allow_code) == (Path("names.txt"), (48, 96), True)
    assert config.dataset.class_folders
