"""The documents under docs/: generated pages are current, links work, and the CI workflow runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.photos import photo_folder
from tests.support.scripts import docs_script
from tests.test_structure import COMMANDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return docs_script("write_commands")


def test_the_pages_of_the_commands_are_current(writer: ModuleType) -> None:
    there = {path.name: path.read_text() for path in (DOCS / "reference" / "commands").glob("*.md")}
    expected = writer.pages()
    assert set(expected) == {f"{command}.md" for command in COMMANDS} | {"README.md"}
    stale = sorted(name for name in {*there, *expected} if there.get(name) != expected.get(name))
    assert not stale, f"{stale} are not current: python docs/write_commands.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_names_every_option_that_help_names_and_no_other(command: str) -> None:
    from typer.testing import CliRunner

    from trtpoets.cli.main import app

    value = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output.partition("Options:")[2]
    in_help = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", value, re.MULTILINE)) - {"--help"}
    page = (DOCS / "reference" / "commands" / f"{command}.md").read_text()
    in_page = set(re.findall(r"^\| `(--[\w-]+)[`\s]", page, re.MULTILINE))
    assert in_help
    assert in_page == in_help


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            name, _, heading = target.partition("#")
            page = path.parent / name if name else path
            assert page.exists(), f"{path.name} links to {target}"
            assert not heading or heading in headings(page), f"{path.name} links to {target}"


def headings(page: Path) -> set[str]:
    """The headings of a page, as links spell them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", item.lower()).replace(" ", "-") for item in titles}


def workflow() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    definition: dict[str, Any] = yaml.safe_load((DOCS / "guides" / "github-actions.yml").read_text())
    return definition


def test_the_workflow_is_one() -> None:
    result = workflow()
    (job,) = result["jobs"].values()
    assert result["permissions"] == {"contents": "read"}
    assert job["timeout-minutes"] <= 60
    for step in job["steps"]:
        assert ("run" in step) != ("uses" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
    commands = [word for step in job["steps"] for word in re.findall(r"trtpoets (\w+)", step.get("run", ""))]
    assert commands == ["run", "evaluate", "bench", "report"]


@pytest.mark.slow
def test_the_workflow_runs(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", {"daisy": 40, "tulip": 40}, size=(160, 120))
    summary = tmp_path / "summary.md"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": str(summary)}
    (job,) = workflow()["jobs"].values()
    ran = 0
    for step in job["steps"]:
        if "run" in step and step["name"] != "Install" and "QUIET_RUNNER" not in str(step.get("if")):
            command = ["bash", "-euo", "pipefail", "-c", step["run"]]
            result = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
            )
            assert result.returncode == 0, f"{step['run']}\n{result.stdout}\n{result.stderr}"
            ran += 1
    assert ran == 3
    assert "flowers" in summary.read_text()


def test_every_extra_that_is_named_exists() -> None:
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    declared = set(re.findall(r"^([a-z0-9-]+) = \[", section, re.MULTILINE))
    named = re.compile(r"(?:trtpoets|[\"' ]\.)\[([a-z][a-z0-9,-]+)\]")
    programs = (*(ROOT / "trtpoets").rglob("*.py"), *ROOT.glob("Dockerfile*"))
    values = {
        name for path in (*WRITTEN, *programs) for names in named.findall(path.read_text()) for name in names.split(",")
    }
    assert {"quickstart", "dev", "tensorrt-cu12", "train"} <= values
    assert values <= declared
