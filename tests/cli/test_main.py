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


def test_a_gate_that_fails_exits_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise GateFailed("int8 loses 2.1 points", hint="ship fp16")

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", fail)
    assert call_main(monkeypatch, "evaluate", "flowers") == 3
    assert capsys.readouterr().err == "Error: int8 loses 2.1 points\n  try: ship fp16\n"


def test_an_undecided_gate_exits_4(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def undecided(*args: Any, **kwargs: Any) -> None:
        raise GateUndecided("the gate cannot tell: 40 photos are too few", hint="add --allow-undecided")

    monkeypatch.setattr("trtpoets.pipeline.evaluate.evaluate", undecided)
    assert call_main(monkeypatch, "evaluate", "flowers") == 4
    assert capsys.readouterr().err.startswith("Error: the gate cannot tell")


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
