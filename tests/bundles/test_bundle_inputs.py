"""The inputs of a bundle, and the files that every bundle contains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.bundle_inputs import tiny_parts
from tests.support.tiny import tiny_spec
from trtpoets.bundles.bundle_inputs import CACHE, BundleInputs, write_shared
from trtpoets.core.types import ModelSpec, Precision


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> BundleInputs:
    return tiny_parts(tmp_path_factory.mktemp("parts"))


def test_shapes_are_in_the_syntax_of_trtexec(inputs: BundleInputs) -> None:
    assert inputs.shape(8) == "photos:8x16x16x3"
    assert inputs.trtexec_shapes() == (
        "--minShapes=photos:1x16x16x3 --optShapes=photos:8x16x16x3 --maxShapes=photos:32x16x16x3"
    )
    assert inputs.model(Precision.INT8).path.name == "int8.onnx"
    with pytest.raises(StopIteration):
        replace(inputs, models=()).model(Precision.INT8)


def test_every_bundle_has_model_labels_and_golden_photos(inputs: BundleInputs, tmp_path: Path) -> None:
    write_shared(inputs, tmp_path)
    assert ModelSpec.from_json((tmp_path / "model.json").read_text(), "model.json") == tiny_spec()
    assert (tmp_path / "labels.txt").read_text() == "ant\nbee\ncow\n"
    for model in inputs.models:
        assert (tmp_path / f"{model.precision.value}.onnx").read_bytes() == model.path.read_bytes()
    assert any((tmp_path / "golden").iterdir())
    assert not (tmp_path / CACHE).exists()


def test_a_calibration_cache_is_copied(inputs: BundleInputs, tmp_path: Path) -> None:
    write_shared(replace(inputs, models=(), calibration_cache=b"TRT-101600"), tmp_path)
    assert (tmp_path / CACHE).read_bytes() == b"TRT-101600"
