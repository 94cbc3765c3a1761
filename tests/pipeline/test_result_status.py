"""Which results are up to date with the files of a run."""

from __future__ import annotations

from dataclasses import replace

from tests.support.benchmarks import QUICK
from trtpoets.core.types import Precision, TfliteModel
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.pipeline.lineage import onnx_models_in
from trtpoets.pipeline.result_status import benchmark_key, evaluation_of, photos_to_judge


def test_the_key_of_a_benchmark_has_the_option_only_where_it_is_set() -> None:
    with_pairs = replace(QUICK, qdq_on_cpu=True)
    assert benchmark_key(["a"], [], QUICK) != benchmark_key(["a"], [], with_pairs)


def test_an_evaluation_is_current_for_the_files_that_it_includes(tiny_space: Workspace) -> None:
    models = onnx_models_in(tiny_space)
    assert evaluation_of(tiny_space, models) is not None
    added = TfliteModel(tiny_space.tflite(Precision.INT8), Precision.INT8, models[0].spec)
    added.path.write_bytes(b"another file")
    assert evaluation_of(tiny_space, models) is not None
    assert evaluation_of(tiny_space, (*models, added)) is None


def test_an_evaluation_is_not_current_for_other_groups_photos_or_classifiers(tiny_space: Workspace) -> None:
    details = open_card(tiny_space.evaluation) or {}
    judged = details["judged"]
    one_group = [0] * len(photos_to_judge(tiny_space))
    for change in (
        {"groups": one_group},
        {"judged": {**judged, "photos": "others"}},
        {"judged": {**judged, "artefacts": judged["artefacts"][1:]}},
        {"judged": {**judged, "version": judged["version"] - 1}},
    ):
        seal_card(tiny_space.evaluation, key="k", files=[], details={**details, **change})
        assert evaluation_of(tiny_space, onnx_models_in(tiny_space)) is None
    seal_card(tiny_space.evaluation, key="k", files=[], details=details)
    assert evaluation_of(tiny_space, onnx_models_in(tiny_space)) is not None
