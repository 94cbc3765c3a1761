"""`retrain` and the details of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import MissingArtefact, TrtPoetsError
from trtpoets.pipeline.retrain import RetrainConfig, retrain, training_of


def test_an_unknown_backbone_leaves_no_run(tmp_path: Path) -> None:
    with raises(TrtPoetsError, "TP2001", "swirl"):
        retrain(tmp_path, "flowers", RetrainConfig(backbone="swirl"), engines=tmp_path / "engines")
    assert not (tmp_path / "engines" / "flowers" / "classifier").exists()


def test_a_run_that_does_not_exist_was_not_trained(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact) as caught:
        training_of("flowers", engines=tmp_path)
    assert caught.value.hint
