"""A setting is recommended only if choosing it proves to be better on photos that took no part in the choice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.sweeps import sweep_result
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.judge.sweep import CODELAB_RATES, DEFAULT, SETTINGS, FoldResult, Setting, Sweep, compared

FOLDS, PHOTOS = 5, 60
GROUPS = np.arange(FOLDS * PHOTOS)


def folds_of(true_accuracy: np.ndarray, seed: int = 0) -> list[FoldResult]:
    """Folds in which each setting is right on a share of the photos, drawn independently on both kinds of photos."""
    random = np.random.default_rng(seed)
    return [
        FoldResult(
            rows=np.arange(fold * PHOTOS, (fold + 1) * PHOTOS),
            right=random.random((len(true_accuracy), PHOTOS)) < true_accuracy[:, None],
            accuracy=random.binomial(PHOTOS, true_accuracy) / PHOTOS,
            cross_entropy=1 - true_accuracy + random.uniform(0, 0.01, len(true_accuracy)),
            choosing=PHOTOS,
        )
        for fold in range(FOLDS)
    ]


def test_there_are_32_settings_with_the_default_and_the_rates_of_the_codelab() -> None:
    assert len(SETTINGS) == len(set(SETTINGS)) == 32
    assert DEFAULT in SETTINGS and DEFAULT.applied_to(HeadConfig()) == HeadConfig()
    assert {setting.learning_rate for setting in SETTINGS} > set(CODELAB_RATES)
    assert {setting.optimizer for setting in SETTINGS} == set(Optimizer)
    assert len({setting.l2 for setting in SETTINGS}) == len({setting.label_smoothing for setting in SETTINGS}) == 2


def test_a_setting_that_is_much_better_is_recommended() -> None:
    true = np.full(len(SETTINGS), 0.7)
    true[9] = 0.95
    comparison = compared(SETTINGS, folds_of(true), GROUPS)
    assert comparison.recommended == comparison.best == SETTINGS[9]
    assert comparison.gain.low > 0.1
    assert (comparison.settings[9].chosen, sum(result.chosen for result in comparison.settings)) == (5, 5)


def test_equal_settings_are_hardly_ever_recommended() -> None:
    """The highest of 32 accuracies is far above the default one by chance; the nested gain is not."""
    true = np.full(len(SETTINGS), 0.8)
    recommended, apparent = 0, []
    for seed in range(60):
        comparison = compared(SETTINGS, folds_of(true, seed), GROUPS)
        recommended += comparison.recommended is not None
        by_setting = {result.setting: result.accuracy for result in comparison.settings}
        apparent.append(max(by_setting.values()) - by_setting[DEFAULT])
    assert recommended <= 5  # 2.5 % are expected
    assert np.mean(apparent) > 0.03


def test_the_photos_that_are_answered_take_no_part_in_the_choice() -> None:
    true = np.full(len(SETTINGS), 0.8)
    folds = folds_of(true)
    before = compared(SETTINGS, folds, GROUPS)
    other = [FoldResult(fold.rows, ~fold.right, fold.accuracy, fold.cross_entropy, fold.choosing) for fold in folds]
    after = compared(SETTINGS, other, GROUPS)
    assert before.best == after.best
    assert [result.chosen for result in before.settings] == [result.chosen for result in after.settings]


def test_a_training_that_diverged_is_never_chosen() -> None:
    folds = folds_of(np.full(len(SETTINGS), 0.6))
    for fold in folds[:2]:
        fold.accuracy[3], fold.cross_entropy[3], fold.right[3] = 0, np.inf, False
    result = compared(SETTINGS, folds, GROUPS).settings[3]
    assert result.diverged == 2 and result.accuracy < 0.5


def test_equal_accuracies_are_decided_by_the_cross_entropy() -> None:
    fold = FoldResult(np.arange(2), np.ones((3, 2), bool), np.array([0.5, 0.9, 0.9]), np.array([0.1, 0.5, 0.4]), 2)
    assert fold.best == 2


@pytest.mark.parametrize("recommended", [None, Setting(0.01, Optimizer.SGD)])
def test_a_sweep_is_read_as_it_was_written(recommended: Setting | None) -> None:
    result = sweep_result(recommended)
    assert from_json(Sweep, json.loads(json.dumps(to_json(result))), "sweep.json") == result


def test_a_setting_as_text() -> None:
    assert str(Setting(0.005, Optimizer.SGD, 0.0, 0.1)) == "sgd at 0.005, penalty 0, smoothing 0.1"
