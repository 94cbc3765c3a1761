"""Every command of the README and the documents under docs/ runs as it is written, or states what it needs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.photos import photo_folder
from tests.test_structure import COMMANDS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
GENERATED = ROOT / "docs" / "reference" / "commands"

# The README first, since it creates the run that guides use, then the guides in the order of the index.
DOCUMENTS = [
    README,
    *(INDEX.parent / name for name in re.findall(r"\]\(([^)#]+\.md)\)", INDEX.read_text()) if ".." not in name),
]


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: `mark` is the first word of the comment above it, `need` the text behind."""

    document: Path
    mark: str
    need: str
    language: str
    text: str


def blocks_of(document: Path) -> list[Block]:
    pattern = r"(?:<!-- (\w+)(?:: ([^\n]*))? -->\n *)?```(\w*)\n(.*?)```"
    return [Block(document, *groups) for groups in re.findall(pattern, document.read_text(), re.DOTALL)]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
SHELL = [block for block in BLOCKS if block.language == "bash"]


def test_the_index_lists_every_document() -> None:
    written = {path for path in INDEX.parent.rglob("*.md") if path.parent != GENERATED} - {INDEX}
    assert set(DOCUMENTS) - {README, GENERATED / "README.md"} == written


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1000


def test_the_screenshot_is_a_small_png() -> None:
    (name,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text())
    picture = (ROOT / name).read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) <= 300_000


def test_every_command_is_in_the_readme_and_runs_or_says_what_it_needs() -> None:
    assert SHELL
    assert {block.language for block in BLOCKS} <= {"", "bash", "python"}
    for block in BLOCKS:
        if block.language:
            assert block.mark in {"run", "tests", "first", "needs"}, f"no test runs this:\n{block.text}"
            assert block.mark != "needs" or block.need, f"{block.document.name} does not say what this needs"
    named = {word for block in SHELL for word in re.findall(r"(?<![/\w])trtpoets (\w+)", block.text)}
    assert named == set(COMMANDS)
    assert set(re.findall(r"\[`(\w+)`\]\(docs/reference/commands/", README.read_text())) == set(COMMANDS)


def test_the_first_commands_set_up_for_themselves() -> None:
    for mark in ("first", "tests"):
        (text,) = [block.text for block in blocks_of(README) if block.mark == mark]
        assert len(text.strip().splitlines()) == 1
        assert text.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_every_command_has_the_options_that_documents_give_it() -> None:
    """Blocks that need a machine which the tests lack are at least parsed: names, options and values exist."""
    import typer

    from trtpoets.cli.main import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    call = re.compile(r"(?:^|&& |\| |\n *)(?:\.venv/bin/)?trtpoets ((?:'[^']*'|\"[^\"]*\"|[^\n|>&])+)")
    calls = [shlex.split(words, comments=True) for block in SHELL for words in call.findall(block.text)]
    assert len(calls) >= 50
    for name, *arguments in calls:
        commands[name].make_context(name, arguments)


def test_shell_blocks_are_valid_bash() -> None:
    script = "\n".join(f"function block_{number} {{\n{block.text}\n}}" for number, block in enumerate(SHELL))
    result = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_scripts_and_tests_that_are_named_exist() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"\b((?:benchmarks|tests|trtpoets)/[\w/]+\.py)\b", document.read_text()):
            assert (ROOT / name).is_file(), f"{document.name} names {name}"


@pytest.mark.slow
def test_the_rest_runs_as_it_is_pasted(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", {"daisy": 40, "tulip": 40}, size=(160, 120))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = 0
    for block in BLOCKS:
        if block.mark != "run":
            continue
        shell = ["bash", "-euo", "pipefail", "-c", block.text]
        command = [sys.executable, "-c", block.text] if block.language == "python" else shell
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False
        )
        assert result.returncode == 0, f"{block.document}\n{block.text}\n{result.stdout}\n{result.stderr}"
        ran += 1
    assert ran >= 18
    report = json.loads((tmp_path / "engines" / "flowers" / "report.json").read_text())
    assert report["backbone"] == "efficientnet_lite0"
    assert json.loads((tmp_path / "bench.json").read_text())["measurements"]
    assert json.loads((tmp_path / "evaluation.json").read_text())["evaluations"]
