"""The stores of bottlenecks on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.pipeline.cache import bottleneck_folder, cache, prune_cache


def test_without_stores_there_is_nothing_to_list_or_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    assert bottleneck_folder() == tmp_path / "cache" / "bottlenecks"
    assert cache() == prune_cache() == ()


def test_other_folders_are_no_stores_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path))
    (tmp_path / "bottlenecks" / "notes").mkdir(parents=True)
    (tmp_path / "bottlenecks" / "notes" / "a.txt").write_text("mine")
    assert cache() == prune_cache() == ()
    assert (tmp_path / "bottlenecks" / "notes" / "a.txt").read_text() == "mine"
