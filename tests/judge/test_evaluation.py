"""Scores of a few photos whose judgement can be counted by hand, and the road from files to scores."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.runner_ids import FAKE, runner
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadInput, BadPhoto, PhotoChanged, RunFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches, photo_to_array
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Photo, Split
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge import evaluation
from trtpoets.judge.evaluation import SAMPLES, DecodedPhotos, evaluation_from_scores, scores_from_runner

LABELS = ("ant", "bee", "cow")


def photos_of(*labels: str) -> list[Photo]:
    return [Photo(Path(f"{i}.jpg"), label, Split.TEST, f"{i:064}") for i, label in enumerate(labels)]


def scores_for(*answers: int, sure: float = 0.8) -> np.ndarray:
    scores = np.full((len(answers), 3), (1 - sure) / 2, dtype=np.float32)
    scores[np.arange(len(answers)), list(answers)] = sure
    return scores


def test_an_evaluation_counted_by_hand() -> None:
    photos = photos_of("ant", "ant", "bee", "cow", "cow")
    got = evaluation_from_scores(runner("tensorflow"), scores_for(0, 1, 1, 2, 0), photos, LABELS)
    assert (got.photos, got.labelled, got.correct, got.accuracy) == (5, 5, 3, 0.6)
    assert got.accuracy_low == pytest.approx(0.2307, abs=1e-4)
    assert got.accuracy_high == pytest.approx(0.8824, abs=1e-4)
    assert got.recall == {"ant": 0.5, "bee": 1.0, "cow": 0.5}
    assert got.confusion == ((0, 0, 1), (0, 1, 1), (1, 1, 1), (2, 0, 1), (2, 2, 1))
    assert [(a.path, a.label, a.predicted) for a in got.mistakes] == [("1.jpg", "ant", "bee"), ("4.jpg", "cow", "ant")]
    assert [a.path for a in got.right] == ["0.jpg", "2.jpg", "3.jpg"]
    assert got.cross_entropy == pytest.approx(-(3 * np.log(0.8) + 2 * np.log(0.1)) / 5, rel=1e-5)
    assert got.agreement is got.comparison is got.top5_accuracy is None


def test_agreement_with_the_reference() -> None:
    photos = photos_of("ant", "ant", "bee", "cow")
    reference, scores = scores_for(0, 0, 1, 1), scores_for(0, 1, 1, 2, sure=0.7)
    got = evaluation_from_scores(runner("onnxruntime-int8"), scores, photos, LABELS, reference)
    compared = got.comparison
    assert compared is not None
    assert (got.agreement, compared.agreed) == (0.5, 2)
    assert (compared.only_reference, compared.only_runner, compared.accuracy_change) == (1, 1, 0.0)
    assert compared.p_value == 1.0
    assert compared.max_abs == pytest.approx(0.65)
    assert [(c.path, c.reference, c.predicted) for c in compared.changed] == [
        ("1.jpg", "ant", "bee"),
        ("3.jpg", "bee", "cow"),
    ]
    assert compared.changed[0].score == pytest.approx(0.7)
    assert compared.changed[0].reference_score == pytest.approx(0.8)


def test_the_surest_mistake_comes_first_and_right_answers_take_turns() -> None:
    photos = photos_of("ant", "ant", "ant", "bee", "cow", "bee")
    scores = scores_for(0, 0, 1, 1, 0, 1)
    scores[4] = [0.98, 0.01, 0.01]
    got = evaluation_from_scores(FAKE, scores, photos, LABELS)
    assert [a.path for a in got.mistakes] == ["4.jpg", "2.jpg"]
    assert [a.path for a in got.right] == ["0.jpg", "3.jpg", "1.jpg", "5.jpg"]


def test_labels_from_elsewhere_are_judged_by_agreement(caplog: pytest.LogCaptureFixture) -> None:
    photos = photos_of("tulip", "rose")
    with caplog.at_level(logging.WARNING):
        got = evaluation_from_scores(FAKE, scores_for(0, 1), photos, LABELS, scores_for(0, 2))
    assert "2 labels of the photos are not among the classifier's 3, for example 'rose'" in caplog.text
    assert (got.photos, got.labelled, got.accuracy, got.agreement) == (2, 0, None, 0.5)
    assert got.cross_entropy is None
    assert set(got.recall.values()) == {None}
    assert got.comparison is not None
    assert got.comparison.accuracy_change is None
    assert got.mistakes == got.right == got.confusion == ()
    json.dumps(to_json(got), allow_nan=False)


def test_some_labels_from_elsewhere_count_for_agreement_only() -> None:
    got = evaluation_from_scores(
        FAKE, scores_for(0, 1, 2), photos_of("ant", "moth", "bee"), LABELS, scores_for(0, 1, 1)
    )
    assert (got.labelled, got.accuracy, got.agreement) == (2, 0.5, pytest.approx(2 / 3))
    assert [m.path for m in got.mistakes] == ["2.jpg"]
    assert got.comparison is not None
    assert got.comparison.accuracy_change == -0.5


def test_top5_only_where_it_says_something() -> None:
    labels = [f"c{i}" for i in range(20)]
    scores = np.tile(np.arange(20, dtype=np.float32)[::-1], (20, 1))
    got = evaluation_from_scores(FAKE, scores, photos_of(*labels), labels)
    assert (got.accuracy, got.top5_accuracy) == (0.05, 0.25)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 9999))
def test_the_counts_of_an_evaluation_are_consistent(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [f"c{i}" for i in range(classes)]
    photos = photos_of(*(labels[i] for i in rng.integers(0, classes, count)))
    scores, reference = (rng.dirichlet(np.ones(classes), count).astype(np.float32) for _ in range(2))
    got = evaluation_from_scores(FAKE, scores, photos, labels, reference)
    base = evaluation_from_scores(runner("tensorflow"), reference, photos, labels)
    assert got.comparison is not None
    assert sum(cell[2] for cell in got.confusion) == count
    assert sum(n for row, column, n in got.confusion if row == column) == got.correct
    assert len(got.mistakes) + got.correct == count == len(got.right) + len(got.mistakes)
    assert got.correct - base.correct == got.comparison.only_runner - got.comparison.only_reference
    assert len(got.comparison.changed) == count - got.comparison.agreed
    assert json.loads(json.dumps(to_json(got), allow_nan=False))["runner"] == "fake"


def test_samples_are_bounded() -> None:
    photos = photos_of(*["ant"] * 500)
    got = evaluation_from_scores(FAKE, scores_for(*[1] * 500), photos, LABELS, scores_for(*[0] * 500))
    assert got.comparison is not None
    assert len(got.mistakes) == len(got.comparison.changed) == SAMPLES


def test_two_thousand_classes() -> None:
    labels = [f"class {i}" for i in range(2000)]
    scores = np.eye(2000, dtype=np.float32)
    got = evaluation_from_scores(FAKE, scores, photos_of(*labels), labels)
    assert (got.accuracy, len(got.confusion)) == (1.0, 2000)


def test_wrong_input_is_named() -> None:
    photos = photos_of("ant", "bee")
    with raises(BadInput, "TP5033") as caught:
        evaluation_from_scores(FAKE, np.zeros((0, 3), np.float32), [], LABELS)
    assert "--test-percent" in caught.value.hint
    with raises(BadInput, "TP5034", "fake", "(2, 3)", "(3, 3)"):
        evaluation_from_scores(FAKE, scores_for(0, 1, 2), photos, LABELS)
    broken = scores_for(0, 1)
    broken[1, 2] = np.nan
    with raises(RunFailed, "TP5035", "fake", "1"):
        evaluation_from_scores(FAKE, broken, photos, LABELS)
    with raises(RunFailed, "TP5035", "the reference"):
        evaluation_from_scores(FAKE, scores_for(0, 1), photos, LABELS, broken)


def test_scores_come_in_the_photos_order_and_report_progress(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path, {"ant": 3, "bee": 4})
    photos = [Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))]
    seen: list[tuple[str, int, int]] = []
    with FakeRunner(tiny_spec()) as runner:
        scores = scores_from_runner(runner, photos, 3, lambda *call: seen.append(call))
        alone = np.concatenate([runner.infer(photo_to_array(p.path, runner.spec.preprocess)[None]) for p in photos])
    np.testing.assert_array_equal(scores, alone)
    assert scores.dtype == np.float32
    assert seen == [("evaluate fake", done, 7) for done in (0, 3, 6, 7)]


@pytest.mark.parametrize("kept", [7, 5, 3, 2, 0])
def test_photos_are_decoded_once_as_far_as_they_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    folder = photo_folder(tmp_path, {"ant": 3, "bee": 4})
    photos = [Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))]
    preprocess = tiny_spec().preprocess
    asked: list[int] = []

    def counted(some: Sequence[Photo], *given: Any, **more: Any) -> Generator[np.ndarray, None, None]:
        asked.append(len(some))
        yield from photo_batches(some, *given, **more)

    monkeypatch.setattr(evaluation, "photo_batches", counted)
    decoded = DecodedPhotos(photos, preprocess, kept * preprocess.height * preprocess.width * 3)
    with FakeRunner(tiny_spec()) as runner:
        alone = scores_from_runner(runner, photos, 3)
        asked.clear()
        for _ in range(3):
            np.testing.assert_array_equal(scores_from_runner(runner, photos, 3, decoded=decoded), alone)
    again = 7 if kept < 3 else 4 if kept < 7 else 0
    assert asked == [7, again, again]
    # An interrupted pass leaves what it decoded, and the next one goes on from there.
    broken = DecodedPhotos(photos, preprocess)
    with closing(broken.batches(3)) as batches:
        next(batches)
    np.testing.assert_array_equal(np.concatenate(list(broken.batches(2))), np.concatenate(list(decoded.batches(3))))


def test_scores_from_a_runner_that_breaks(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path, {"ant": 2})
    photos = [Photo(path, "ant", Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))]
    with (
        FakeRunner(tiny_spec(), lambda batch: np.full((len(batch), 3), np.nan)) as runner,
        raises(RunFailed, "TP4078", "fake"),
    ):
        scores_from_runner(runner, photos)
    with FakeRunner(tiny_spec()) as runner:
        with raises(BadInput, "TP5032"):
            scores_from_runner(runner, [])
        (folder / "ant" / "0001.jpg").write_bytes(b"")
        with raises(PhotoChanged, "TP1014", "0001.jpg"):
            scores_from_runner(runner, photos)
        with raises(BadPhoto, "TP1060", "0001.jpg"):
            scores_from_runner(runner, [photos[0], replace(photos[1], sha256=hashlib.sha256(b"").hexdigest())])
