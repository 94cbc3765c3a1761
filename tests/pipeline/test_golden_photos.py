"""The golden photos of a run: chosen and scored once, for all its ONNX files."""

from __future__ import annotations

import shutil

import numpy as np

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.judge.golden import COUNT, read_golden
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.golden_photos import golden_in
from trtpoets.pipeline.lineage import onnx_models_in

FP32, FP16, INT8 = Precision


def test_test_photos_with_the_scores_of_every_file(tiny_space: Workspace) -> None:
    models = onnx_models_in(tiny_space)
    golden = golden_in(tiny_space, models)
    tests = {photo.sha256: photo for photo in dataset_in(tiny_space).in_split(Split.TEST)}
    assert len(golden.photos) == min(COUNT, len(tests))
    assert [photo.label for photo in golden.photos][:3] == ["ant", "bee", "cow"]
    assert list(golden.expected) == ["fp32", "fp16", "int8"]
    assert golden.cpu_form is None
    pixels = np.stack([photo.pixels for photo in golden.photos])
    for model in models:
        with open_runner(model) as runner:
            scores = runner.infer(pixels)
        np.testing.assert_allclose(golden.expected[model.precision.value].scores, scores, atol=1e-5)


def test_they_are_kept_until_a_file_or_a_photo_changes(tiny_space: Workspace) -> None:
    models = onnx_models_in(tiny_space)
    golden = golden_in(tiny_space, models)
    stamp = (tiny_space.golden / "golden.json").stat().st_mtime_ns
    golden_in(tiny_space, models)
    assert (tiny_space.golden / "golden.json").stat().st_mtime_ns == stamp
    shutil.rmtree(tiny_space.golden)
    assert to_json(golden_in(tiny_space, models).expected) == to_json(golden.expected)
    assert list(golden_in(tiny_space, models[:1]).expected) == ["fp32"]
    assert list(read_golden(tiny_space.golden).expected) == ["fp32"]


def test_a_run_without_test_photos(tiny_space: Workspace) -> None:
    details = dict(open_card(tiny_space.dataset) or {})
    photos = [{**photo, "split": "train"} for photo in details["photos"]]
    models = onnx_models_in(tiny_space)
    seal_card(tiny_space.dataset, key="photos", files=[], details={**details, "photos": photos})
    with raises(BadInput, "TP5043"):
        golden_in(tiny_space, models)
    assert not card_of(tiny_space.golden).exists()
