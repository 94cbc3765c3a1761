"""`retrain` and the details of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photos import photo_folder
from trtpoets.core.errors import BadInput, MissingArtefact, TrtPoetsError
from trtpoets.core.fine_tuning import FineTuneConfig
from trtpoets.pipeline.retrain import RetrainConfig, retrain, training_of
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
