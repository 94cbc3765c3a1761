"""A finalist of a race, trained and exported in a run of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import small_config
from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.types import Precision, Split
from trtpoets.core.workspace import Workspace
from trtpoets.judge.all_photos import AllPhotos
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.pipeline import race_finalist as module
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.race_finalist import answers_of_finalist


def test_training_and_validation_photos_are_answered(
    tmp_path: Path, exported: Path, small_photos: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported, tmp_path / "engines")
    space = Workspace(tmp_path / "engines", "small")
    config = small_config(small_weights).retrain
    answers = answers_of_finalist(small_photos, space, config, Precision.FP32)
    dataset = dataset_in(space)
    allowed = {photo.sha256 for photo in dataset.photos if photo.split is not Split.TEST}
    assert set(answers) == allowed
    assert sum(right for right, _ in answers.values()) > 0.5 * len(answers)

    nothing = AllPhotos(CrossFitConfig(), "", skipped="12 photos are too few")
    monkeypatch.setattr(module, "fitted_for_choices", lambda *_: nothing)
    with raises(BadInput, "TP8096", "12 photos are too few"):
        answers_of_finalist(small_photos, space, config, Precision.FP32)


@pytest.mark.slow
def test_the_winner_of_a_real_race_is_trained(
    tmp_path: Path, small_photos: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import trtpoets
    from trtpoets.judge.race import RaceConfig
    from trtpoets.pipeline.retrain import race_of

    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    names = tuple(f"mobilenet_0.25_{pixels}={small_weights}" for pixels in (128, 160, 192))
    config = replace(
        small_config(small_weights).retrain, backbone="auto", weights=None, race=RaceConfig(names, board="orin-nano")
    )
    classifier = trtpoets.retrain(small_photos, "x", config, engines=tmp_path / "engines")
    result = race_of("x", config, engines=tmp_path / "engines")
    assert result is not None
    assert classifier.spec.backbone == result.winner.backbone
    assert result.winner.rounds[-1].precision is Precision.INT8
    assert len(result.contestants) == 3
    assert trtpoets.report("x", engines=tmp_path / "engines").race == result
