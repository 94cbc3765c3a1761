"""The application expands `~` in paths, and its help has a section for each group of options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from trtpoets.cli.application import Application


def test_paths_are_expanded_and_options_grouped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    app, received = Application(rich_markup_mode=None), []

    @app.command()
    def pack(
        files: list[Path],
        text: str = "",
        out: Annotated[Path, typer.Option(rich_help_panel="Output options")] = Path("~/out"),
    ) -> None:
        received.append((files, text, out))

    assert CliRunner().invoke(app, ["~/a.jpg", "b.jpg", "--text", "~/c"]).exit_code == 0
    assert received == [([tmp_path / "a.jpg", Path("b.jpg")], "~/c", tmp_path / "out")]
    lines = CliRunner().invoke(app, ["--help"]).stdout.splitlines()
    sections = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Arguments:", "Options:", "Output options:"]
