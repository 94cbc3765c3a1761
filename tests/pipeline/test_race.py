"""`race` on features of classes: the rounds, what is written, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.clouds import clouds
from tests.support.errors import raises
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Photo, Precision, Split
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.judge.race import RaceConfig
from trtpoets.pipeline import race as module
from trtpoets.pipeline.race import race, with_winner
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.train.backbones import Backbone
from trtpoets.train.dataset import Dataset, DatasetConfig
from trtpoets.train.photo_table import table_of

LABELS = ("ant", "bee", "cow")
FEATURES, TRUTH = clouds(400, 1)
FOUR = ("efficientnet_lite0", "mobilenet_v2", "mobilenet_0.25_128", "resnet50")
LATENCIES = {"efficientnet_lite0": 5.0, "mobilenet_v2": 4.0, "mobilenet_0.25_128": 1.0, "resnet50": 30.0}
NOISE = {"efficientnet_lite0": 0.0, "mobilenet_v2": 0.0, "mobilenet_0.25_128": 30.0, "resnet50": 0.0}


def dataset() -> Dataset:
    splits = (*[Split.TRAIN] * 7, Split.VALIDATION, Split.VALIDATION, Split.TEST)
    photos = tuple(
        Photo(Path(f"{number}.jpg"), LABELS[label], splits[number % 10], f"{number:064x}")
        for number, label in enumerate(TRUTH.tolist())
    )
    return Dataset(Path("photos"), LABELS, table_of(photos, Path("photos")), (), (), (), DatasetConfig())


@dataclass
class Recorded:
    """What a race asked for: photos by network and round, and the finalists."""

    judged: list[tuple[str, list[Photo]]] = field(default_factory=list)
    finalists: list[str] = field(default_factory=list)
    right: dict[str, float] = field(default_factory=dict)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Networks whose features are FEATURES with noise; `right` are the shares of right answers of finalists."""
    recorded = Recorded()
    own = dataset()

    def network(backbone: Backbone, weights: Path | None) -> Any:
        if weights is not None:
            raise MissingArtefact(f"{weights} is damaged", hint="", code="TP9999")
        return SimpleNamespace(backbone=backbone, weights_id=backbone.name)

    def features(photos: Sequence[Photo], extractor: str, *_: Any, **__: Any) -> np.ndarray:
        recorded.judged.append((extractor, list(photos)))
        rows = [int(photo.sha256, 16) for photo in photos]
        noise = np.random.default_rng(0).normal(size=FEATURES.shape) * NOISE[extractor]
        return np.asarray(FEATURES[rows] + noise[rows], np.float32)

    def answers(_: Any, space: Workspace, config: RetrainConfig, precision: Precision, *__: Any) -> Any:
        recorded.finalists.append(config.backbone)
        assert precision is Precision.INT8
        assert space.folder.parent.name == "race"
        photos = [photo for photo in own.photos if photo.split is not Split.TEST]
        limit = recorded.right.get(config.backbone, 0.9) * len(photos)
        return {photo.sha256: (row < limit, row) for row, photo in enumerate(photos)}

    def latencies(files: Mapping[int, Path], *_: Any) -> dict[int, float]:
        return {number: LATENCIES[path.name] for number, path in files.items()}

    monkeypatch.setattr(module, "read_dataset", lambda *_: own)
    monkeypatch.setattr(module, "network_from_backbone", network)
    monkeypatch.setattr(module, "onnx_in_cache", lambda network: Path(network.backbone.name))
    monkeypatch.setattr(module, "extractor_from_network", lambda network, _: network.backbone.name)
    monkeypatch.setattr(module, "bottlenecks_from_photos", features)
    monkeypatch.setattr(module, "latencies_ms", latencies)
    monkeypatch.setattr(module, "answers_of_finalist", answers)
    return recorded


def config(*candidates: str, **options: Any) -> RetrainConfig:
    head = HeadConfig(steps=40, eval_interval=20, batch_size=32, learning_rate=0.01)
    return RetrainConfig(head=head, race=RaceConfig(candidates or FOUR, **options))


def test_fewer_networks_are_judged_on_more_photos_and_test_photos_never(tmp_path: Path, given: Recorded) -> None:
    result = race("photos", "x", config(), engines=tmp_path)
    sizes = {name: len(photos) for name, photos in given.judged}
    assert len(given.judged) == 4 and len(set(sizes.values())) == 1
    assert all(photo.split is not Split.TEST for _, photos in given.judged for photo in photos)
    assert len(given.finalists) == 2 and "mobilenet_0.25_128" not in given.finalists
    assert result.winner.backbone == "mobilenet_v2"  # as accurate as the default network, and faster
    outcomes = {own.backbone: own.outcome for own in result.contestants}
    assert outcomes["mobilenet_v2"] == "chosen"
    assert outcomes["mobilenet_0.25_128"] == "out in round 1"
    assert {len(own.rounds) for own in result.contestants} == {1, 2}
    assert result.winner.rounds[-1].precision is Precision.INT8
    assert "--backbone mobilenet_v2" in result.next
    assert "--candidate resnet50" in result.command


def test_a_network_that_is_better_in_the_deployed_precision_wins(tmp_path: Path, given: Recorded) -> None:
    given.right = {"efficientnet_lite0": 0.95, "mobilenet_v2": 0.8}
    result = race("photos", "x", config("efficientnet_lite0", "mobilenet_v2"), engines=tmp_path)
    assert result.winner.backbone == "efficientnet_lite0"
    assert not given.judged  # two networks need no early round
    assert result.comparison is not None and result.comparison.improves


def test_the_same_race_is_not_held_twice(tmp_path: Path, given: Recorded) -> None:
    first = race("photos", "x", config(), engines=tmp_path)
    held = len(given.judged)
    assert race("photos", "x", config(), engines=tmp_path) == first
    assert len(given.judged) == held
    assert race("photos", "x", config(), engines=tmp_path, force=True).winner == first.winner
    assert len(given.judged) > held
    assert not (tmp_path / "x" / "race").exists()


def test_networks_that_are_too_slow_take_no_part(tmp_path: Path, given: Recorded) -> None:
    result = race("photos", "x", config(max_ms=4.5), engines=tmp_path)
    outcomes = {own.backbone: own.outcome for own in result.contestants}
    assert outcomes["efficientnet_lite0"] == outcomes["resnet50"] == "too slow"
    assert sorted(given.finalists) == ["mobilenet_0.25_128", "mobilenet_v2"]


def test_a_limit_that_nothing_reaches_names_the_fastest_network(tmp_path: Path, given: Recorded) -> None:
    with raises(BadInput, "TP8094", "0.5", "mobilenet_0.25_128", "1") as error:
        race("photos", "x", config(max_ms=0.5), engines=tmp_path)
    assert error.value.hint == "--max-ms 1.1"
    assert open_card(tmp_path / "x" / "race.json") is None


def test_a_network_whose_weights_do_not_load_is_named(
    tmp_path: Path, given: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = f"resnet50={tmp_path / 'r.h5'}"
    result = race("photos", "x", config("efficientnet_lite0", "mobilenet_v2", damaged), engines=tmp_path)
    assert result.winner.backbone == "mobilenet_v2"
    assert result.contestants[2].outcome == f"failed: {tmp_path / 'r.h5'} is damaged"
    assert "resnet50 takes no part in the race" in caplog.text
    with raises(MissingArtefact, "TP9999"):
        race("photos", "y", config(damaged), engines=tmp_path)


def test_one_network_wins_without_a_comparison(tmp_path: Path, given: Recorded) -> None:
    result = race("photos", "x", config("mobilenet_v2"), engines=tmp_path)
    assert result.winner.backbone == "mobilenet_v2"
    assert result.why == "mobilenet_v2 is the only network at hand, so nothing was compared"
    assert not given.finalists and not given.judged


def test_without_names_all_networks_at_hand_take_part(
    tmp_path: Path, given: Recorded, monkeypatch: pytest.MonkeyPatch
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
    tmp_path: Path, given: Recorded, candidates: tuple[str, ...], code: str, word: str
) -> None:
    with raises(BadInput, code, word):
        race("photos", "x", config(*candidates), engines=tmp_path)


def test_weights_need_the_name_of_their_network(tmp_path: Path, given: Recorded) -> None:
    with raises(BadInput, "TP8090") as error:
        race("photos", "x", replace(config(), weights=Path("w.h5")), engines=tmp_path)
    assert error.value.hint == "--candidate NAME=w.h5"


def test_too_few_photos_are_refused(tmp_path: Path, given: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(dataset(), photos=dataset().photos[:20])
    monkeypatch.setattr(module, "read_dataset", lambda *_: few)
    with raises(BadInput, "TP8096", "18"):
        race("photos", "x", config(), engines=tmp_path)


def test_the_configuration_of_the_winner_has_its_weights(tmp_path: Path, given: Recorded) -> None:
    result = race("photos", "x", config("mobilenet_v2"), engines=tmp_path)
    assert with_winner(config(), result).backbone == "mobilenet_v2"
    given_file = replace(result.winner, weights="/w/m.h5")
    own = replace(result, contestants=(given_file,))
    assert with_winner(config(), own).weights == Path("/w/m.h5")
