"""The head learns, keeps its best step, writes its curves, and refuses what nothing can be learnt from."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.clouds import CLASSES, WIDTH, clouds
from tests.support.errors import raises
from trtpoets.core.errors import BadInput, StorageFailed
from trtpoets.core.optional import tensorflow
from trtpoets.core.serialization import to_json
from trtpoets.core.training import HeadConfig, Optimizer, Training
from trtpoets.train.head import Diverged, Head, head_from_bottlenecks, head_scores, heads_from_bottlenecks
from trtpoets.train.head_loop import standardisation

QUICK = HeadConfig(steps=120, batch_size=32, learning_rate=0.01, eval_interval=20)


TRAIN, VALIDATION, TEST = clouds(400, 1), clouds(100, 2), clouds(1000, 3)


def trained(config: HeadConfig = QUICK, logs: Path | None = None) -> tuple[Head, Training]:
    return head_from_bottlenecks(*TRAIN, *VALIDATION, CLASSES, config, logs)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Head, Training, Path]:
    """A head of QUICK, its training, and the folder of its event files."""
    logs = tmp_path_factory.mktemp("head") / "logs"
    return *trained(logs=logs), logs


def accuracy(head: Head) -> float:
    return float(np.mean(head_scores(head, TEST[0]).argmax(axis=1) == TEST[1]))


@pytest.mark.parametrize("optimizer", Optimizer)
def test_it_learns_as_much_as_there_is(optimizer: Optimizer) -> None:
    head, training = trained(replace(QUICK, optimizer=optimizer))
    assert head.weights.shape == (WIDTH, CLASSES) and head.weights.dtype == np.float32
    assert head.bias.shape == (CLASSES,) and head.bias.dtype == np.float32
    # The best that any rule can do: the nearest class middle in the features' own scales.
    middles = np.random.default_rng(99).normal(0, 0.8, (CLASSES, WIDTH))
    plain = np.delete((TEST[0] - 5) / np.logspace(-3, 3, WIDTH), 7, axis=1)
    best = np.mean(((plain[:, None] - np.delete(middles, 7, axis=1)) ** 2).sum(axis=2).argmin(axis=1) == TEST[1])
    assert accuracy(head) > best - 0.06
    assert training.config.optimizer is optimizer


def test_it_finds_the_minimum_of_the_loss() -> None:
    """With a penalty the loss has one minimum: there its gradient, written out here in numpy, is zero."""
    features, labels = TRAIN
    config = HeadConfig(steps=3000, batch_size=400, learning_rate=0.01, l2=0.02, label_smoothing=0.1, eval_interval=500)
    config = replace(config, class_weights=True)
    head, _ = head_from_bottlenecks(features, labels, features, labels, CLASSES, config)
    mean, scale = standardisation(features)
    x = (features.astype(np.float64) - mean) * scale
    used = scale > 0
    weights = np.where(used[:, None], head.weights / np.where(used, scale, 1)[:, None], 0)
    target = np.eye(CLASSES)[labels] * 0.9 + 0.1 / CLASSES
    weight = (len(labels) / (CLASSES * np.bincount(labels)))[labels][:, None]
    error = (head_scores(head, features) - target) * weight / len(labels)
    assert np.abs(x.T @ error + 2 * 0.02 * weights).max() < 2e-4
    assert np.abs(error.sum(axis=0)).max() < 2e-4


def test_the_same_seed_gives_the_same_head(quick: tuple[Head, Training, Path]) -> None:
    (one, first, _), (two, second) = quick, trained()
    assert np.array_equal(one.weights, two.weights) and np.array_equal(one.bias, two.bias)
    assert replace(first, seconds=0) == replace(second, seconds=0)
    other, _ = trained(replace(QUICK, seed=1))
    assert not np.array_equal(one.weights, other.weights)


def test_the_head_is_that_of_the_best_step() -> None:
    config = replace(QUICK, steps=210, learning_rate=0.3)
    head, training = trained(config)
    assert training.steps == (*range(20, 201, 20), 210)
    place = int(np.argmin(training.validation_cross_entropy))
    assert training.best_step == training.steps[place] < 210
    scores = head_scores(head, VALIDATION[0])
    assert np.mean(scores.argmax(axis=1) == VALIDATION[1]) == pytest.approx(training.validation_accuracy[place])
    nats = -np.log(scores[np.arange(len(scores)), VALIDATION[1]]).mean()
    assert nats == pytest.approx(training.validation_cross_entropy[place], rel=1e-4)
    shorter, _ = trained(replace(config, steps=training.best_step))
    assert np.array_equal(shorter.weights, head.weights)


def test_early_stop() -> None:
    config = replace(QUICK, steps=4000, learning_rate=0.3, early_stop=100)
    _, training = trained(config)
    assert training.steps[-1] == training.best_step + 100 < 4000


def test_class_weights_help_the_rare_class() -> None:
    train, validation = clouds(300, 5, (10, 10, 1)), clouds(100, 6, (10, 10, 1))
    test, labels = clouds(1500, 7)
    recall = []
    for class_weights in (False, True):
        config = replace(QUICK, class_weights=class_weights, l2=0.01)
        head, _ = head_from_bottlenecks(*train, *validation, CLASSES, config)
        recall.append(np.mean(head_scores(head, test).argmax(axis=1)[labels == 2] == 2))
    assert recall[1] > recall[0] + 0.1


def test_a_penalty_and_smoothing_make_it_less_sure(quick: tuple[Head, Training, Path]) -> None:
    sure = head_scores(quick[0], TEST[0]).max(axis=1).mean()
    for config in (replace(QUICK, l2=0.1), replace(QUICK, label_smoothing=0.3)):
        assert head_scores(trained(config)[0], TEST[0]).max(axis=1).mean() < sure - 0.05


def test_batches_may_be_larger_than_the_photos_are_many() -> None:
    features, labels = TRAIN[0][:10], np.arange(10) % CLASSES
    head, _ = head_from_bottlenecks(features, labels, *VALIDATION, CLASSES, replace(QUICK, batch_size=64))
    assert np.isfinite(head.weights).all()


def test_scores_are_probabilities_even_for_wild_features() -> None:
    head = Head(np.array([[1000.0, -1000.0]], np.float32), np.zeros(2, np.float32))
    scores = head_scores(head, np.array([[1.0], [-1.0], [0.0]], np.float32))
    assert scores.dtype == np.float32
    assert scores.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]


def test_curves_go_to_tensorboard_and_to_json(quick: tuple[Head, Training, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, training, logs = quick
    again = json.loads(json.dumps(to_json(training)))
    assert again["config"]["optimizer"] == "adam"
    (run,) = logs.iterdir()
    for split in ("train", "validation"):
        events = EventAccumulator(str(run / split))
        events.Reload()
        for name in ("accuracy", "cross_entropy"):
            curve = [
                (event.step, float(tensorflow().make_ndarray(event.tensor_proto))) for event in events.Tensors(name)
            ]
            expected = list(zip(again["steps"], again[f"{split}_{name}"], strict=True))
            assert curve == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


def test_the_graph_and_a_few_histograms_stand_beside_the_curves(quick: tuple[Head, Training, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    head, _, logs = quick
    (run,) = logs.iterdir()
    assert run.name.endswith(f"_adam-{QUICK.learning_rate:g}")
    events = EventAccumulator(str(run / "train"))
    events.Reload()
    nodes = [node.name for node in events.Graph().node]
    for scope in ("bottlenecks/", "labels/", "head/", "loss/"):
        assert any(name.startswith(scope) for name in nodes), scope
    for name in ("head/weights", "head/bias", "validation/top_score"):
        tensors = events.Tensors(name)
        assert 2 <= len(tensors) <= 11
        assert tensors[-1].step == QUICK.steps
    buckets = tensorflow().make_ndarray(events.Tensors("head/weights")[-1].tensor_proto)  # (left, right, count)
    assert buckets[:, 2].sum() == head.weights.size


def test_heads_side_by_side_have_curves_but_no_graph(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    configs = [replace(QUICK, steps=20, learning_rate=rate) for rate in (0.01, 0.1)]
    heads_from_bottlenecks(*TRAIN, *VALIDATION, CLASSES, configs, [tmp_path] * 2)
    runs = sorted(tmp_path.iterdir())
    assert len(runs) == 2
    for run in runs:
        events = EventAccumulator(str(run / "train"))
        events.Reload()
        assert "accuracy" in events.Tags()["tensors"] and not events.Tags()["graph"]


def test_runs_never_share_a_folder(tmp_path: Path) -> None:
    for _ in range(3):
        trained(replace(QUICK, steps=1), tmp_path)
    runs = sorted(path.name for path in tmp_path.iterdir())
    assert len(runs) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_adam-[\d.]+(-\d)?", name) for name in runs)
    assert all(len(list(path.glob("*/events*"))) == 2 for path in tmp_path.iterdir())


def test_logs_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("x")
    with raises(StorageFailed, "TP1085", "write", "logs"):
        trained(logs=tmp_path / "logs")


def test_progress() -> None:
    seen = []
    head_from_bottlenecks(
        *TRAIN, *VALIDATION, CLASSES, replace(QUICK, steps=50), progress=lambda *state: seen.append(state)
    )
    assert seen == [("head", 20, 50), ("head", 40, 50), ("head", 50, 50)]


def test_the_progress_of_a_training_that_ends_early_is_complete_once() -> None:
    seen = []
    config = replace(QUICK, steps=1000, learning_rate=1.0, early_stop=20)
    head_from_bottlenecks(*TRAIN, *VALIDATION, CLASSES, config, progress=lambda *state: seen.append(state))
    assert seen[0] == ("head", 20, 1000) and len(seen) < 50
    assert [done for _, done, total in seen if done == total] == [1000] == [seen[-1][1]]


def test_a_learning_rate_that_is_too_high_is_an_error() -> None:
    with raises(BadInput, "TP2067") as caught:
        trained(replace(QUICK, learning_rate=1e38, optimizer=Optimizer.SGD))
    assert "smaller --learning-rate" in caught.value.hint


def test_unusable_arrays_are_refused() -> None:
    nan = TRAIN[0].copy()
    nan[3, 3] = np.nan
    none = np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64)
    cases = [
        ((*TRAIN, *VALIDATION, 1), "TP2068", ("1",)),
        ((*none, *VALIDATION, CLASSES), "TP2069", ("training",)),
        ((*TRAIN, *none, CLASSES), "TP2069", ("validation",)),
        ((nan, TRAIN[1], *VALIDATION, CLASSES), "TP2072", ("training",)),
        ((*TRAIN, nan, TRAIN[1], CLASSES), "TP2072", ("validation",)),
        ((*TRAIN, *VALIDATION, 4), "TP2073", ("class 3",)),
        ((*TRAIN, *VALIDATION, 2), "TP2071", ("training", "0 to 2", "2 classes")),
        (
            (TRAIN[0], TRAIN[1][:5], *VALIDATION, 3),
            "TP2070",
            ("training", "(400, 24)", "(5,)"),
        ),
        (
            (*TRAIN, VALIDATION[0][:, :5], VALIDATION[1], 3),
            "TP2070",
            ("validation", "(100, 5)", "(100,)"),
        ),
    ]
    for arguments, code, values in cases:
        with raises(BadInput, code, *values):
            head_from_bottlenecks(*arguments, QUICK)


def test_a_full_disk_while_curves_are_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.flush", full)
    with raises(StorageFailed, "TP1085", "/logs/2", "No space left on device"):
        trained(replace(QUICK, steps=1), tmp_path / "logs")


GRID = [
    replace(QUICK, learning_rate=rate, optimizer=optimizer, l2=l2, label_smoothing=smoothing)
    for rate in (0.005, 0.1)
    for optimizer in Optimizer
    for l2 in (0.0, 0.05)
    for smoothing in (0.0, 0.2)
]


def test_heads_side_by_side_are_those_that_are_trained_alone() -> None:
    together = heads_from_bottlenecks(*TRAIN, *VALIDATION, CLASSES, GRID)
    every = []
    for config, trained_one in zip(GRID, together, strict=True):
        assert not isinstance(trained_one, Diverged)
        head, training = trained_one
        alone, own = trained(config)
        used = np.abs(alone.weights).max(axis=1, keepdims=True) + 1e-9  # the scales of the features differ by 10^6
        np.testing.assert_allclose(head.weights / used, alone.weights / used, atol=1e-5)
        np.testing.assert_allclose(head_scores(head, TEST[0]), head_scores(alone, TEST[0]), atol=1e-5)
        assert (training.best_step, training.steps, training.config) == (own.best_step, own.steps, config)
        assert training.validation_accuracy == own.validation_accuracy
        every.append(head_scores(head, TEST[0]))
    # Each setting has an effect: no two heads are the same.
    different = [np.abs(one - other).max() for place, one in enumerate(every) for other in every[:place]]
    assert min(different) > 1e-3


def test_a_head_that_ends_does_not_end_the_others() -> None:
    configs = [
        replace(QUICK, steps=400, early_stop=60, learning_rate=rate, optimizer=Optimizer.SGD)
        for rate in (1e-4, 1e38, 0.3)
    ]
    slow, astray, fast = heads_from_bottlenecks(*TRAIN, *VALIDATION, CLASSES, configs)
    assert isinstance(astray, Diverged) and astray.step == 20 and not np.isfinite(astray.cross_entropy)
    assert not isinstance(slow, Diverged) and not isinstance(fast, Diverged)
    assert slow[1].steps[-1] == 400
    assert fast[1].steps[-1] == fast[1].best_step + 60 < 400
    alone, _ = trained(configs[0])
    np.testing.assert_allclose(head_scores(slow[0], TEST[0]), head_scores(alone, TEST[0]), atol=1e-5)


def test_heads_side_by_side_share_batches_and_steps() -> None:
    with raises(BadInput, "TP2230", "batch_size"):
        heads_from_bottlenecks(*TRAIN, *VALIDATION, CLASSES, [QUICK, replace(QUICK, batch_size=7)])
