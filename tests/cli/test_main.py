"""The command-line program: output, streams and exit codes. The pipeline functions are replaced."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from trtpoets.cli import main
from trtpoets.core.errors import BadInput, GateFailed, GateUndecided
from trtpoets.core.shared_options import BATCH_RANGE


def program(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trtpoets", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def call_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trtpoets", *arguments])
    with pytest.raises(SystemExit) as caught:
        main.main()
    code = caught.value.code
    return code if isinstance(code, int) else 0


def test_version() -> None:
    result = program("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, "trtpoets 0.1.0\n", "")


def test_summaries_of_commands_are_not_truncated_in_80_columns() -> None:
    from typer.testing import CliRunner

    summaries = CliRunner().invoke(main.app, ["--help"], env={"COLUMNS": "80"}).output.partition("Commands:")[2]
    assert all(line.endswith(".") and not line.endswith("...") for line in summaries.strip().splitlines()), summaries


@pytest.mark.parametrize("command", [info.callback.__name__ for info in main.app.registered_commands if info.callback])
def test_help_groups_the_options_of_a_command_with_more_than_ten(command: str) -> None:
    from typer.testing import CliRunner

    output = CliRunner().invoke(main.app, [command, "--help"], env={"COLUMNS": "80"}).output
    sections = re.findall(r"^(\S.*):$", output, re.MULTILINE)
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)", output, re.MULTILINE)
    assert len(set(options)) == len(options)
    assert "Options" in sections
    if len(options) > 10:
        assert len(sections) >= 3, sections


def test_help_names_the_defaults_of_the_head_configuration() -> None:
    from trtpoets.core.training import HeadConfig

    by_name = {parameter.name: parameter for parameter in typer.main.get_command(main.app).commands["retrain"].params}  # type: ignore[attr-defined]
    defaults = HeadConfig()
    for name in ("learning_rate", "l2"):
        assert by_name[name].help.endswith(f"default: {getattr(defaults, name)}.")
    assert by_name["optimizer"].help.endswith(f"default: {defaults.optimizer.value}.")
    assert by_name["label_smoothing"].help.endswith(f"default: {defaults.label_smoothing:g}.")


def completions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str) -> list[str]:
    """What bash offers after `words`, whose last word is incomplete."""
    monkeypatch.setattr(sys, "argv", ["trtpoets"])
    monkeypatch.setenv("_TRTPOETS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        main.app(prog_name="trtpoets")
    return capsys.readouterr().out.split()


def test_the_shell_completes_commands_and_names_of_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for run in ("engines/flowers", "engines/cells", "my-runs/fleet"):
        (tmp_path / run).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert completions(monkeypatch, capsys, "trtpoets bu") == ["build", "bundle"]
    assert completions(monkeypatch, capsys, "trtpoets evaluate fl") == ["flowers"]
    assert completions(monkeypatch, capsys, "trtpoets build --engines my-runs fl") == ["fleet"]


def test_wrong_usage_exits_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result = program("sing")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Error" in result.stderr
    assert "Traceback" not in result.stderr
    for arguments in (["run"], ["build", "x", "--precision", "int4"], ["build", "x", "--flavour", "mint"]):
        assert call_main(monkeypatch, *arguments) == 2, arguments
        stdout, stderr = capsys.readouterr()
        assert stdout == ""
        assert "Error" in stderr
        assert "Traceback" not in stderr


def test_a_user_error_prints_two_lines_and_no_traceback(tmp_path: Path) -> None:
    result = program("export", "flowers", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Error: engines/flowers holds no trained classifier [TP8001]",
        "  try: trtpoets retrain PHOTOS --name flowers",
    ]
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".flowers.lock", "engines"]


@pytest.mark.parametrize("name", ["../up", "a/b", "", "\t"])
def test_invalid_run_names_are_rejected(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call_main(monkeypatch, "export", name) == 1
    assert "the name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_fails_exits_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise GateFailed("int8 loses 2.1 points", hint="ship fp16")

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", fail)
    assert call_main(monkeypatch, "evaluate", "flowers") == 3
    assert capsys.readouterr().err == "Error: int8 loses 2.1 points\n  try: ship fp16\n"


def test_an_undecided_gate_exits_4(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def undecided(*args: Any, **kwargs: Any) -> None:
        raise GateUndecided("the gate cannot tell: 40 photos are too few", hint="--allow-undecided")

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", undecided)
    assert call_main(monkeypatch, "evaluate", "flowers") == 4
    assert capsys.readouterr().err.startswith("Error: the gate cannot tell")


def test_an_interrupt_prints_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", interrupt)
    assert call_main(monkeypatch, "evaluate", "flowers") == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", bug)
    monkeypatch.setattr(sys, "argv", ["trtpoets", "evaluate", "flowers"])
    with pytest.raises(ZeroDivisionError):
        main.main()


def test_a_name_that_is_not_utf8_is_printed_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise BadInput("photos/\udcff is empty")

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", fail)
    assert call_main(monkeypatch, "evaluate", "flowers") == 1
    assert capsys.readouterr().err == "Error: photos/\\xff is empty\n"


def test_json_is_one_document_on_stdout() -> None:
    result = program("models", "--json")
    assert result.returncode == 0, result.stderr
    names = [row["name"] for row in json.loads(result.stdout)]
    assert "efficientnet_lite0" in names
    assert "mobilenet_0.50_224" in names


def test_options_have_the_defaults_of_the_configurations() -> None:
    from trtpoets.convert.int8.calibration import CalibrationConfig
    from trtpoets.convert.onnx_export import ExportConfig
    from trtpoets.core.types import BatchRange
    from trtpoets.device.build.engine_config import EngineConfig
    from trtpoets.judge.bench.benchmark import BenchConfig
    from trtpoets.pipeline.retrain import RetrainConfig
    from trtpoets.pipeline.stage_options import batch_range, bench_config, calibration_config, retrain_config

    def defaults(command: str) -> dict[str, Any]:
        function = getattr(main, command)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        return dict(zip(names[-len(function.__defaults__) :], function.__defaults__, strict=True))

    retrain, quantize = defaults("retrain"), defaults("quantize")
    config = retrain_config(
        retrain["backbone"],
        retrain["weights"],
        retrain["resize"],
        retrain["device"],
        validation_percent=retrain["validation_percent"],
        test_percent=retrain["test_percent"],
        strict=retrain["strict"],
        **{name: retrain[name] for name in ("steps", "batch_size", "seed", "learning_rate", "optimizer", "l2")},
        **{name: retrain[name] for name in ("label_smoothing", "class_weights", "early_stop")},
    )
    assert config == RetrainConfig()
    run = defaults("run")
    assert {name: run[name] for name in run.keys() & retrain.keys()} == {
        name: retrain[name] for name in run.keys() & retrain.keys()
    }
    assert calibration_config(quantize["photos"], quantize["method"], quantize["seed"]) == CalibrationConfig()
    assert defaults("export")["opset"] == ExportConfig().opset
    assert defaults("build")["workspace"] == EngineConfig.workspace_mib
    stated = re.search(r"default: ([0-9:]+), or the network's batch", BATCH_RANGE.help)
    assert defaults("build")["batch"] is None and stated and batch_range(stated.group(1)) == BatchRange()
    bench = defaults("bench")
    assert bench_config(bench["batches"], bench["seconds"], bench["threads"]) == BenchConfig()


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:3:4", "1:2:x"])
def test_an_invalid_batch_range_is_rejected(text: str) -> None:
    from trtpoets.pipeline.stage_options import batch_range

    with pytest.raises(BadInput, match="must be minimum:optimum:maximum"):
        batch_range(text)


def test_markdown_is_printed_to_stdout_unchanged(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    def work(name: str, engines: Path) -> dict[str, Any]:
        (engines / name).mkdir()
        (engines / name / "report.md").write_bytes("# n\u00e4me\n".encode())
        return {}

    monkeypatch.setattr("trtpoets.pipeline.report.report", work)
    assert call_main(monkeypatch, "report", "x", "--markdown", "--engines", str(tmp_path)) == 0
    assert capfdbinary.readouterr().out == "# n\u00e4me\n".encode()
