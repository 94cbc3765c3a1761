"""Opening the page in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises


def test_open_page_raises_without_a_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from trtpoets.cli.terminal import open_page
    from trtpoets.core.errors import MissingDependency

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) == 1)
    open_page(tmp_path / "a report.html")
    assert opened == [f"{tmp_path.as_uri()}/a%20report.html"]
    with raises(MissingDependency, "TP9003"):
        open_page(tmp_path / "a report.html")
