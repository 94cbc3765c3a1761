"""Standard streams that are not UTF-8, closed, full, or without a reader: no traceback at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import StorageFailed
from trtpoets.core.streams import writing_results

ROOT = Path(__file__).parents[2]

SHOW = """
import sys
from trtpoets.cli import main
from trtpoets.core.errors import BadInput
from trtpoets.cli.terminal import show_result
def app(standalone_mode):
    show_result("cache", (), "--json" in sys.argv)
    sys.stdout.write("M\\u00f6we \\u6f22 \\udcff\\n" if "--json" not in sys.argv else "")
    if "--fail" in sys.argv:
        raise BadInput("the photo M\\u00f6we \\u6f22", hint="another \\u6f22")
main.app = app
main.main()
"""


def shell(end: str, *arguments: str, code: str = SHOW, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program with its streams redirected by `end`, the end of a shell command."""
    return subprocess.run(
        ["bash", "-c", f'"$0" "$@" {end}; exit ${{PIPESTATUS[0]}}', sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        pytest.param({"PYTHONIOENCODING": "ascii:strict"}, marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"LC_ALL": "en_US", "PYTHONUTF8": "0"}, marks=pytest.mark.slow),
        {"TERM": "dumb", "COLUMNS": "20", "NO_COLOR": "1", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"},
    ],
)
def test_streams_that_lack_characters(environment: dict[str, str]) -> None:
    done = shell("", "--fail", **environment)
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert b"M" in done.stdout and b"we" in done.stdout
    assert b"Error: the photo M" in done.stderr and b"  try: another" in done.stderr


def test_json_stays_json() -> None:
    done = shell("", "--json", PYTHONIOENCODING="ascii:strict")
    assert json.loads(done.stdout) == [] and done.stderr == b""


@pytest.mark.parametrize(
    ("end", "codes"),
    [
        (">/dev/full", {1}),
        ("| true", {0, 141}),
        (">&-", {1}),
        pytest.param("2>&-", {0}, marks=pytest.mark.slow),
        pytest.param("2>/dev/full", {0}, marks=pytest.mark.slow),
        ("<&- >&- 2>&-", {1}),
    ],
)
def test_streams_that_take_nothing(end: str, codes: set[int]) -> None:
    done = shell(end)
    assert done.returncode in codes
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
    if "full" in end and "2" not in end:
        assert done.stderr.startswith(b"Error: can't write to standard output: No space left on device")


PROGRAM = "from trtpoets.cli.main import main; main()"
ONBOARD = "from trtpoets.onboard.__main__ import main; main()"
GONE = "the reader has gone"


@pytest.mark.parametrize(
    ("code", "arguments", "end", "unbuffered", "exit_code", "message"),
    [
        (PROGRAM, ["--help"], ">/dev/full", "1", 1, b"can't write to standard output: No space left on device"),
        (PROGRAM, ["models"], GONE, "", 141, b""),
        (PROGRAM, ["--nonsense"], "2>/dev/full", "", 2, b""),
        (ONBOARD, ["build", "--help"], ">&-", "1", 1, b"can't write to standard output: it is closed"),
        (ONBOARD, ["--help"], GONE, "1", 141, b""),
    ],
)
def test_help_and_usage(
    code: str, arguments: list[str], end: str, unbuffered: str, exit_code: int, message: bytes
) -> None:
    """Output of Click, Typer and argparse, and exceptions that they catch."""
    if end == GONE:
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-c", code, *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        with os.fdopen(writing) as stdout:
            done = subprocess.run(
                command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False
            )
    else:
        done = shell(end, *arguments, code=code, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == exit_code, done.stderr
    assert message in done.stderr and b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_an_error_that_cannot_be_written_to_stderr() -> None:
    assert shell("2>/dev/full", "--fail").returncode == 1
    assert shell("2>&-", "--fail").returncode == 1


def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with raises(StorageFailed, "TP1087"), writing_results():
            full.write("a line\n")
