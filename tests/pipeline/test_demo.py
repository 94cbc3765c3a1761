from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import MissingDependency
from trtpoets.pipeline.demo import QUICK_PHOTOS, solar_cells

pytest.importorskip("elpv_dataset", reason="the extra demo is not installed")


def test_quick_photos_are_written_once_with_their_licence(tmp_path: Path) -> None:
    folder = solar_cells(tmp_path / "cells", quick=True)
    counts = {path.name: len(list(path.iterdir())) for path in folder.iterdir() if path.is_dir()}
    assert counts == dict.fromkeys(["mono-defective", "mono-ok", "poly-defective", "poly-ok"], QUICK_PHOTOS)
    assert "CC BY-NC-SA 4.0" in (folder / "LICENCE.txt").read_text()
    photo = next((folder / "mono-ok").iterdir())
    before = photo.stat().st_mtime_ns
    seen: list[tuple[str, int, int]] = []
    solar_cells(folder, quick=True, progress=lambda *step: seen.append(step))
    assert photo.stat().st_mtime_ns == before
    assert seen[-1] == ("writing the solar cells", 4 * QUICK_PHOTOS, 4 * QUICK_PHOTOS)


@pytest.mark.slow
def test_all_unambiguous_photos_are_written(tmp_path: Path) -> None:
    folder = solar_cells(tmp_path / "cells")
    counts = {path.name: len(list(path.iterdir())) for path in folder.iterdir() if path.is_dir()}
    assert counts == {"mono-ok": 588, "mono-defective": 313, "poly-ok": 920, "poly-defective": 402}


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with raises(MissingDependency, "TP1050", "elpv_dataset") as caught:
        solar_cells(tmp_path)
    assert caught.value.hint == "pip install 'trtpoets[demo]'"
    assert list(tmp_path.iterdir()) == []
