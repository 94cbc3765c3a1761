"""`build` refuses what no TensorRT can build, before it loads one."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.types import Flavour
from trtpoets.pipeline.build import build


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact):
        build("flowers", flavour=Flavour.TENSORRT, engines=tmp_path)
    assert not (tmp_path / "flowers" / "fp32.onnx").exists()


def test_a_file_that_is_no_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(BadArtefact):
        build(str(path), flavour=Flavour.TENSORRT, engines=tmp_path)
    with pytest.raises(MissingArtefact):
        build(str(tmp_path / "none.onnx"), flavour=Flavour.TENSORRT, engines=tmp_path)
