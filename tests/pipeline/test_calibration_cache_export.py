"""The calibration cache of a run is refused before long-running work where it cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.errors import BadInput, MissingArtefact, StorageFailed
from trtpoets.pipeline.calibration_cache_export import calibration_cache, check_cache


def test_versions_of_tensorrt_and_folders(tmp_path: Path) -> None:
    check_cache(None, "10.3")
    check_cache(tmp_path / "int8.cache", "8.6.1")
    with pytest.raises(BadInput):
        check_cache(None, "11.0")
    (tmp_path / "file").write_text("")
    with pytest.raises((BadInput, StorageFailed)):
        check_cache(tmp_path / "file" / "int8.cache", "10.3")


def test_a_run_without_an_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact):
        calibration_cache("flowers", tmp_path / "int8.cache", engines=tmp_path / "engines")
    assert not (tmp_path / "int8.cache").exists()
