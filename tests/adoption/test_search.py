"""The search for a contract: what is known, a trial if there are photos, and the decision."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.errors import raises
from tests.support.foreign import ColourNetwork, bgr, colour_photos, foreign_model
from tests.support.tflite_files import tflite_classifier
from trtpoets.adoption import search
from trtpoets.adoption.contract import RAW, UNIT, Pixels
from trtpoets.adoption.contract_options import contract_options
from trtpoets.adoption.facts import Fact
from trtpoets.adoption.loaded import LoadedModel
from trtpoets.adoption.search import facts_about, find_contract
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Evidence, Format, Source

LABELS = tuple(map(str, range(5)))


def loaded(network: ColourNetwork | None = None, side: int = 16) -> LoadedModel:
    """A file whose network is `network`; with None it must not be run."""

    def run() -> ColourNetwork:
        assert network is not None, "the network must not be run"
        return network

    return SimpleNamespace(model=foreign_model(side=side), network=run)


def stated(pixels: Pixels) -> Fact:
    return Fact(Evidence("pixels", Source.METADATA, "the file says so"), pixels)


def test_without_photos_the_facts_decide_and_nothing_is_run() -> None:
    result = find_contract(loaded(), [stated(UNIT)], (16, 16), (), (), contract_options(resize="stretch"))
    assert result.trial is None
    assert result.decision.contract.pixels == UNIT


def test_without_photos_options_decide() -> None:
    options = contract_options(preprocess="raw", channels="bgr", resize="stretch")
    assert find_contract(loaded(), (), (16, 16), (), (), options).decision.contract.pixels == bgr(RAW)


def test_without_photos_and_facts_the_candidates_are_listed() -> None:
    with pytest.raises(BadInput) as caught:
        find_contract(loaded(), (), (16, 16), (), (), contract_options())
    assert any("--preprocess" in line for line in caught.value.details)


@pytest.mark.parametrize("side", [16, 0], ids=["fixed", "any size"])
def test_photos_decide_by_their_labels(side: int, tmp_path: Path) -> None:
    photos, truth = colour_photos(tmp_path, 40, size=(16, 16), noise=30)
    network = ColourNetwork(bgr(UNIT))
    options = contract_options(resize="stretch")
    result = find_contract(loaded(network, side), [stated(bgr(UNIT))], (16, 16), photos, LABELS, options)
    assert result.trial is not None
    assert result.decision.contract.pixels == bgr(UNIT)
    assert sorted(result.trial.truth) == sorted(truth)
    assert result.trial.best.count > 30
    assert network.photos > 0


def test_labels_that_the_file_lacks_are_no_truth(tmp_path: Path) -> None:
    photos, _ = colour_photos(tmp_path, 10, size=(16, 16))
    with raises(BadInput, "TP9421", "10"):
        find_contract(loaded(ColourNetwork(UNIT)), (), (16, 16), photos, ("cat",), contract_options())


def test_a_sibling_in_integers_is_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    tflite_classifier(dtype="uint8").write(tmp_path / "net_quant.tflite")
    model = foreign_model(tmp_path / "net.h5", format_=Format.KERAS, side=8, classes=4)
    sources = [fact.evidence.source for fact in facts_about(SimpleNamespace(model=model))]
    monkeypatch.setattr(search, "sibling_pixels", lambda _: None)
    without = facts_about(SimpleNamespace(model=model))
    assert sources == [Source.SIBLING, *(fact.evidence.source for fact in without)]
