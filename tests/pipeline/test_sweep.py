"""`sweep` on features of classes that are far apart: what it writes, which photos decide, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.test_main import call_main
from tests.conftest import SMALL
from tests.support.clouds import clouds
from tests.support.errors import raises
from tests.support.photos import photo_folder
from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import Distortions, FineTuneConfig, PairedResult
from trtpoets.core.serialization import from_json
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.judge.cross_fit import CrossFitConfig, folds_of_photos
from trtpoets.judge.sweep import DEFAULT, SETTINGS, SettingsComparison, Sweep
from trtpoets.pipeline import sweep as module
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.sweep import _why, fold_result, sweep
from trtpoets.train.backbones import backbone_named
from trtpoets.train.dataset import Dataset, DatasetConfig
from trtpoets.train.photo_table import table_of

QUICK = RetrainConfig(head=HeadConfig(steps=20, eval_interval=10, batch_size=16))
FEATURES, TRUTH = clouds(200, 1)
LABELS = ("ant", "bee", "cow")


def dataset_of(truth: np.ndarray, labels: tuple[str, ...] = LABELS) -> Dataset:
    splits = (*[Split.TRAIN] * 7, Split.VALIDATION, Split.VALIDATION, Split.TEST)
    photos = tuple(
        Photo(Path(f"{number}.jpg"), labels[label], splits[number % 10], f"{number:064x}")
        for number, label in enumerate(truth.tolist())
    )
    return Dataset(Path("photos"), labels, table_of(photos, Path("photos")), (), (), (), DatasetConfig())


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """`sweep` reads FEATURES instead of photos; the list has an entry for each time."""
    times: list[int] = []

    def features(dataset: Dataset, *_: Any) -> tuple[Dataset, np.ndarray]:
        times.append(len(dataset.photos))
        return dataset, FEATURES

    backbone = backbone_named("mobilenet_v2")
    monkeypatch.setattr(module, "photos_and_backbone", lambda *_: (dataset_of(TRUTH), backbone, "weights"))
    monkeypatch.setattr(module, "extractor_from_backbone", lambda *_: (None, "weights"))
    monkeypatch.setattr(module, "dataset_with_features", features)
    return times


def test_the_result_is_written_and_found_again(tmp_path: Path, given: list[int]) -> None:
    result = sweep("photos", "insects", QUICK, engines=tmp_path)
    space = Workspace(tmp_path, "insects")
    assert from_json(Sweep, json.loads(json.dumps(open_card(space.sweep))), "sweep.json") == result
    assert [one.setting for one in result.settings] == list(SETTINGS)
    assert result.gain.photos == 180  # none of the test photos
    assert (result.recommended is None) == ("default" in result.why.partition(")")[2])
    assert "--learning-rate" in result.next and result.next.startswith("trtpoets retrain ")
    (logs,) = space.logs.iterdir()
    names = [folder.name.rpartition("_")[2] for folder in logs.iterdir()]
    assert sorted(names) == ["sgd-0.005", "sgd-0.01", "sgd-1"]
    assert sweep("photos", "insects", QUICK, engines=tmp_path) == result
    assert len(given) == 1
    longer = replace(QUICK, head=replace(QUICK.head, steps=30))
    assert sweep("photos", "insects", longer, engines=tmp_path).config.steps == 30
    again = sweep("photos", "insects", longer, engines=tmp_path, force=True)
    assert len(given) == 3
    assert replace(again, seconds=0) == replace(sweep("photos", "insects", longer, engines=tmp_path), seconds=0)


@pytest.mark.parametrize(
    ("low", "high", "ending"),
    [
        (-0.01, 0.02, "as good as can be told"),
        (-0.05, -0.01, "recommended"),
        (0.01, 0.03, "over all folds the default setting is the best"),
    ],
)
def test_the_reason_follows_from_the_interval_of_the_gain(low: float, high: float, ending: str) -> None:
    middle = (low + high) / 2
    gain = PairedResult(200, 200, 0.8, 0.8 + middle, low, high, 0.5)
    assert _why(SettingsComparison((), DEFAULT, gain)).endswith(ending)


def test_the_settings_of_the_configuration_are_replaced(tmp_path: Path, given: list[int]) -> None:
    other = replace(QUICK, head=replace(QUICK.head, learning_rate=0.5, label_smoothing=0.4))
    assert sweep("photos", "insects", other, engines=tmp_path).config == DEFAULT.applied_to(QUICK.head)


@pytest.mark.parametrize("task", ["32 heads", "heads"])
def test_an_interrupted_sweep_leaves_nothing(tmp_path: Path, given: list[int], task: str) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == task:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep("photos", "insects", QUICK, engines=tmp_path, progress=interrupt)
    assert not [path for path in (tmp_path / "insects").rglob("*") if path.is_file()]


def test_a_fold_is_answered_by_heads_that_have_not_seen_it() -> None:
    """The labels of a fold have no influence on what is answered or chosen there, only on whether it is right."""
    folds = folds_of_photos(TRUTH, np.arange(len(TRUTH)), [f"{n}" for n in range(len(TRUTH))], CrossFitConfig(5))
    assert folds is not None
    before = fold_result(FEATURES, TRUTH, folds, 2, len(LABELS), QUICK.head)
    other = TRUTH.copy()
    other[before.rows] = (other[before.rows] + 1) % len(LABELS)
    after = fold_result(FEATURES, other, folds, 2, len(LABELS), QUICK.head)
    assert np.array_equal(before.accuracy, after.accuracy)
    assert np.array_equal(before.cross_entropy, after.cross_entropy)
    assert not (before.right & after.right).any()
    assert len(np.unique(before.cross_entropy)) == len(SETTINGS)  # each setting has an effect


def test_a_class_with_few_independent_photos_is_refused(
    tmp_path: Path, given: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.where((TRUTH == 2) & (np.cumsum(TRUTH == 2) > 4), 0, TRUTH)
    backbone = backbone_named("mobilenet_v2")
    monkeypatch.setattr(module, "photos_and_backbone", lambda *_: (dataset_of(truth), backbone, "weights"))
    with raises(BadInput, "TP8071", "cow", 5) as caught:
        sweep("photos", "insects", QUICK, engines=tmp_path)
    assert caught.value.hint
    assert not (tmp_path / "insects" / "sweep.json").exists()


def test_few_photos_are_refused(tmp_path: Path, given: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    few = dataset_of(np.arange(24) % 3)
    monkeypatch.setattr(module, "dataset_with_features", lambda *_: (few, FEATURES[:24]))
    with raises(BadInput, "TP8072", 22, 30):
        sweep("photos", "insects", QUICK, engines=tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        RetrainConfig(fine_tuning=FineTuneConfig(unfreeze="3")),
        RetrainConfig(distortions=Distortions(flip_left_right=True)),
        RetrainConfig(try_distortions=True),
    ],
)
def test_only_heads_are_compared(tmp_path: Path, config: RetrainConfig) -> None:
    with raises(BadInput, "TP8070"):
        sweep("photos", "insects", config, engines=tmp_path)


def test_an_unknown_backbone_a_wrong_name_and_one_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo_folder(tmp_path / "photos", {"ant": 3})
    for words, message in (
        (["--name", "insects", "--backbone", "swirl"], "swirl"),
        (["--name", "../insects"], "../insects"),
        (["--name", "insects"], "has only one class, 'ant'"),
    ):
        status = call_main(monkeypatch, "sweep", str(tmp_path / "photos"), *words, "--engines", str(tmp_path))
        assert status == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_of_photos_is_shown_by_the_report(
    tmp_path: Path, finished: Path, small_photos: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from trtpoets.pipeline.report import report

    engines = tmp_path / "engines"
    shutil.copytree(finished, engines)
    config = RetrainConfig(backbone=SMALL, weights=small_weights, head=HeadConfig(steps=100))
    result = sweep(small_photos, "small", config, engines=engines)
    assert report("small", engines=engines).sweep == result
    assert "Sweep" in (engines / "small" / "report.html").read_text(encoding="utf-8")
