"""`race` on networks with known features: what is written, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.race_networks import GivenNetworks, dataset, given_networks
from tests.support.race_networks import race_config as config
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.types import Precision, Split
from trtpoets.core.workspace import open_card
from trtpoets.judge.race import RaceConfig
from trtpoets.pipeline import race as module
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.race import race, with_winner


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> GivenNetworks:
    return given_networks(monkeypatch)


def test_fewer_networks_are_judged_on_more_photos_and_test_photos_never(tmp_path: Path, given: GivenNetworks) -> None:
    result = race("photos", "x", config(), engines=tmp_path)
    assert all(photo.split is not Split.TEST for _, photos in given.judged for photo in photos)
    first = [photos for name, photos in given.judged if name == "mobilenet_0.25_128"]
    assert len(first) == 1 and len(first[0]) < 200
    assert result.winner.backbone == "mobilenet_v2"  # as accurate as the default network, and faster
    outcomes = {own.backbone: own.outcome for own in result.contestants}
    assert outcomes["mobilenet_v2"] == "chosen"
    assert outcomes["mobilenet_0.25_128"] == "out in round 1"
    assert [name for name, _ in given.quantised] == ["mobilenet_v2"]
    assert result.winner.rounds[-1].precision is Precision.INT8
    assert "--backbone mobilenet_v2" in result.next
    assert "--candidate resnet50" in result.command


def test_the_same_race_is_not_held_twice(tmp_path: Path, given: GivenNetworks) -> None:
    first = race("photos", "x", config(), engines=tmp_path)
    held = len(given.judged)
    assert race("photos", "x", config(), engines=tmp_path) == first
    assert len(given.judged) == held
    assert race("photos", "x", config(), engines=tmp_path, force=True).winner == first.winner
    assert len(given.judged) > held


def test_the_workers_compute_the_features_of_all_networks(
    tmp_path: Path, given: GivenNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.pipeline.ray_workers.require_workers", lambda name: None)
    workers_named = "trtpoets.pipeline.ray_workers.workers_named"
    monkeypatch.setattr(workers_named, lambda name, folder: nullcontext((name, folder)))
    race("photos", "x", config(), engines=tmp_path, workers="ray")
    assert set(given.workers) == {("ray", Path("photos"))}
    with raises(BadInput, "TP8327", "ray"):
        race("photos", "y", replace(config(), device=Device.GPU), engines=tmp_path, workers="ray")


def test_a_race_that_was_held_needs_no_cluster(
    tmp_path: Path, given: GivenNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = race("photos", "x", config(), engines=tmp_path)
    monkeypatch.setattr("trtpoets.pipeline.ray_workers.require_workers", lambda _: pytest.fail("it is not needed"))
    assert race("photos", "x", config(), engines=tmp_path, workers="ray://head:10001") == result


def test_networks_that_are_too_slow_take_no_part(tmp_path: Path, given: GivenNetworks) -> None:
    result = race("photos", "x", config(max_ms=4.5), engines=tmp_path)
    outcomes = {own.backbone: own.outcome for own in result.contestants}
    assert outcomes["efficientnet_lite0"] == outcomes["resnet50"] == "too slow"
    assert {name for name, _ in given.judged} == {"mobilenet_0.25_128", "mobilenet_v2"}


def test_a_limit_that_nothing_reaches_names_the_fastest_network(tmp_path: Path, given: GivenNetworks) -> None:
    with raises(BadInput, "TP8094", "0.5", "mobilenet_0.25_128", "1") as error:
        race("photos", "x", config(max_ms=0.5), engines=tmp_path)
    assert error.value.hint == "give --max-ms 1.1"
    assert open_card(tmp_path / "x" / "race.json") is None


def test_a_network_whose_weights_do_not_load_is_named(
    tmp_path: Path, given: GivenNetworks, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = f"resnet50={tmp_path / 'r.h5'}"
    result = race("photos", "x", config("efficientnet_lite0", "mobilenet_v2", damaged), engines=tmp_path)
    assert result.winner.backbone == "mobilenet_v2"
    assert result.contestants[2].outcome == f"failed: {tmp_path / 'r.h5'} is damaged"
    assert "resnet50 takes no part in the race" in caplog.text
    with raises(MissingArtefact, "TP9999"):
        race("photos", "y", config(damaged), engines=tmp_path)


def test_one_network_wins_without_a_comparison(tmp_path: Path, given: GivenNetworks) -> None:
    result = race("photos", "x", config("mobilenet_v2"), engines=tmp_path)
    assert result.winner.backbone == "mobilenet_v2"
    assert result.why == "mobilenet_v2 is the only network at hand, so nothing was compared"
    assert not given.quantised and not given.judged


def test_without_names_all_networks_at_hand_take_part(
    tmp_path: Path, given: GivenNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    result = race("photos", "x", replace(config(), race=RaceConfig()), engines=tmp_path)
    assert [own.backbone for own in result.contestants] == ["efficientnet_lite0", "mobilenet_v2"]


@pytest.mark.parametrize(
    ("candidates", "code", "word"),
    [
        (("mobilenet_v2", "mobilenet_v2"), "TP8093", "mobilenet_v2"),
        (("mobilenet_v2=",), "TP8092", "mobilenet_v2"),
        (("swirl",), "TP2001", "swirl"),
    ],
)
def test_wrong_candidates_are_refused(
    tmp_path: Path, given: GivenNetworks, candidates: tuple[str, ...], code: str, word: str
) -> None:
    with raises(BadInput, code, word):
        race("photos", "x", config(*candidates), engines=tmp_path)


def test_weights_need_the_name_of_their_network(tmp_path: Path, given: GivenNetworks) -> None:
    with raises(BadInput, "TP8090") as error:
        race("photos", "x", replace(config(), weights=Path("w.h5")), engines=tmp_path)
    assert error.value.hint == "give --candidate NAME=w.h5"


def test_too_few_photos_are_refused(tmp_path: Path, given: GivenNetworks, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(dataset(), photos=dataset().photos[:20])
    monkeypatch.setattr(module, "read_dataset", lambda *_: few)
    with raises(BadInput, "TP8096", "18"):
        race("photos", "x", config(), engines=tmp_path)


def test_the_configuration_of_the_winner_has_its_weights(tmp_path: Path, given: GivenNetworks) -> None:
    result = race("photos", "x", config("mobilenet_v2"), engines=tmp_path)
    assert with_winner(config(), result).backbone == "mobilenet_v2"
    given_file = replace(result.winner, weights="/w/m.h5")
    own = replace(result, contestants=(given_file,))
    assert with_winner(config(), own).weights == Path("/w/m.h5")
