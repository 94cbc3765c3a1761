"""Output files are checked before long work, without writing anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import raises
from trtpoets.cli import main
from trtpoets.core.errors import StorageFailed
from trtpoets.core.outputs import require_writable


def test_what_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "there.cache").write_text("old")
    for path in (tmp_path / "new.cache", tmp_path / "there.cache", tmp_path / "a/b/new.cache"):
        require_writable(path, "--out")
    assert [item.name for item in tmp_path.iterdir()] == ["there.cache"]
    assert (tmp_path / "there.cache").read_text() == "old"


def test_what_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "folder", tmp_path / "fifo", tmp_path / "file/new"):
        with raises(StorageFailed, "TP1085", "write") as caught:
            require_writable(path, "--out")
        assert "something else is in the way" in caught.value.hint
        assert "--out FILE" in caught.value.hint
    monkeypatch.setattr(os, "access", lambda *_: False)
    with raises(StorageFailed, "TP1085", "Permission denied"):
        require_writable(tmp_path / "new", "--out")


def test_quantize_checks_its_output_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("trtpoets.pipeline.quantize.quantize", work)
    argv = ["trtpoets", "quantize", "flowers", "--engines", str(tmp_path), "--calibration-cache", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
