"""Published networks become classifiers of ImageNet."""

from __future__ import annotations

from pathlib import Path

from tests.support.errors import raises
from trtpoets.core.errors import TrtPoetsError
from trtpoets.pipeline.pretrained import models, pretrained
from trtpoets.pipeline.retrain import RetrainConfig


def test_each_network_has_a_name_of_its_own() -> None:
    names = [backbone.name for backbone in models()]
    assert RetrainConfig().backbone in names
    assert len(set(names)) == len(names)


def test_an_unknown_network_leaves_no_run(tmp_path: Path) -> None:
    with raises(TrtPoetsError, "TP2001", "'swirl'"):
        pretrained("swirl", "flowers", engines=tmp_path)
    assert not list(tmp_path.iterdir())
