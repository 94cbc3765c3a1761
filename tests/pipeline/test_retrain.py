"""`retrain` and the details of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photos import photo_folder
from trtpoets.core.errors import BadInput, MissingArtefact, TrtPoetsError
from trtpoets.core.fine_tuning import FineTuneConfig
from trtpoets.core.training import HeadConfig, Training
from trtpoets.pipeline.retrain import RetrainConfig, retrain, training_of, warn_of_guesses
from trtpoets.train.dataset import DatasetConfig


def test_an_unknown_backbone_leaves_no_run(tmp_path: Path) -> None:
    with raises(TrtPoetsError, "TP2001", "swirl"):
        retrain(tmp_path, "flowers", RetrainConfig(backbone="swirl"), engines=tmp_path / "engines")
    assert not (tmp_path / "engines" / "flowers" / "classifier").exists()


def test_more_layers_than_there_are_are_refused_before_any_photo_is_read_by_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    from tests.support.fine_tuning import tiny_network

    monkeypatch.setattr("trtpoets.pipeline.retrain.network_from_backbone", lambda *_: tiny_network())
    monkeypatch.setattr("trtpoets.pipeline.retrain.extractor_from_network", lambda *_: pytest.fail("too late"))
    photos = photo_folder(tmp_path / "photos", {"roses": 30, "tulips": 30})
    config = RetrainConfig(
        backbone="mobilenet_v2", dataset=DatasetConfig(30, 30), fine_tuning=FineTuneConfig(unfreeze="999")
    )
    with raises(BadInput, "TP2110", "tiny", "3", "999") as caught:
        retrain(photos, "flowers", config, engines=tmp_path / "engines")
    assert caught.value.hint == "give --unfreeze all, or a number from 1 to 3"
    assert not (tmp_path / "engines" / "flowers" / "classifier").exists()


def test_a_run_that_does_not_exist_was_not_trained(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact) as caught:
        training_of("flowers", engines=tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(("lowest", "warned"), [(0.68, False), (0.7, True), (5e7, True)])
def test_a_head_that_is_no_better_than_guessing_is_warned_of(
    lowest: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Equal scores for two classes have a cross-entropy of 0.693."""
    config = HeadConfig(learning_rate=0.5)
    curve = (2 * lowest, lowest)
    warn_of_guesses(Training(config, 20, 1.0, (10, 20), (0.5, 0.5), curve, (0.5, 0.5), curve), 2)
    assert [("0.693" in record.message, "than 0.5" in record.message) for record in caplog.records] == (
        [(True, True)] if warned else []
    )
