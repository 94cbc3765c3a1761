"""The rounds of a race: which networks stay, and which one is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.races import race_result
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.race import (
    MIN_PHOTOS_OF_CLASS,
    NetworkAnswers,
    Race,
    decide,
    frontier,
    photos_of_round,
    rounds_before_final,
    survivors,
)

NAMES = ("default", "fast", "good")
DIFFICULTY = np.random.default_rng(0).random(1000)
GROUPS = np.arange(1000)


def judged(accuracy: float, latency: float) -> NetworkAnswers:
    """A network that answers `accuracy` of the photos right."""
    return NetworkAnswers(np.quantile(DIFFICULTY, accuracy) > DIFFICULTY, latency)


def changed(network: NetworkAnswers, latency: float, lost: int, won: int) -> NetworkAnswers:
    """A network that answers some photos wrong that `network` answers right, and some the other way round."""
    right = network.right.copy()
    right[np.flatnonzero(network.right)[:lost]] = False
    right[np.flatnonzero(~network.right)[:won]] = True
    return NetworkAnswers(right, latency)


@pytest.mark.parametrize(("candidates", "left"), [(1, []), (2, []), (3, [2]), (6, [3, 2]), (22, [11, 6, 3, 2])])
def test_half_of_the_networks_stay_until_two_are_left(candidates: int, left: list[int]) -> None:
    assert rounds_before_final(candidates) == left


def test_a_round_has_a_share_of_each_class_and_the_photos_of_the_round_before() -> None:
    truth = np.repeat([0, 1, 2], [600, 300, 20])
    groups = np.arange(920) // 2
    first, second = (photos_of_round(truth, groups, share, 0) for share in (0.125, 0.25))
    assert np.bincount(truth[first]).tolist() == [75, 38, MIN_PHOTOS_OF_CLASS]
    assert set(first) <= set(second)
    assert (np.diff(first) > 0).all()
    assert len(np.unique(groups[first])) < 0.55 * len(first)  # pairs stay together
    assert np.array_equal(photos_of_round(truth, groups, 2.0, 0), np.arange(920))


def test_the_most_accurate_networks_stay() -> None:
    networks = {0: judged(0.7, 3), 1: judged(0.9, 2), 2: judged(0.9, 1), 3: judged(0.8, 1)}
    assert survivors(networks, GROUPS, 2, None) == [2, 1]


def test_the_default_network_stays_unless_another_one_proves_to_be_better() -> None:
    best = judged(0.8, 2)
    equal = {0: changed(best, 9, 40, 35), 1: best, 2: judged(0.799, 1)}
    assert survivors(equal, GROUPS, 2, 0) == [1, 0]
    worse = {0: judged(0.7, 9), 1: judged(0.9, 2), 2: judged(0.89, 1)}
    assert survivors(worse, GROUPS, 2, 0) == [1, 2]


def test_a_network_that_proves_to_be_better_wins_although_it_is_slower() -> None:
    decision = decide({0: judged(0.8, 1), 2: judged(0.9, 5)}, GROUPS, NAMES, 0)
    assert decision.chosen == 2
    assert "better by more than chance" in decision.why
    assert decision.comparison is not None and decision.comparison.after > decision.comparison.before


def test_the_faster_network_wins_if_the_difference_may_be_chance() -> None:
    best = judged(0.8, 5)
    decision = decide({0: best, 1: changed(best, 2, 30, 25)}, GROUPS, NAMES, 0)
    assert decision.chosen == 1
    assert decision.why.endswith("the difference may be chance, and fast is faster")
    assert decision.comparison is not None and decision.comparison.after == pytest.approx(0.795)


def test_the_default_network_wins_if_both_are_as_fast_and_the_difference_may_be_chance() -> None:
    best = judged(0.8, 2.0)
    decision = decide({0: changed(best, 2.05, 30, 25), 2: best}, GROUPS, NAMES, 0)
    assert decision.chosen == 0
    assert "is the default network" in decision.why


def test_a_loss_of_more_than_a_point_is_not_taken_for_speed() -> None:
    best = judged(0.8, 5)
    decision = decide({1: changed(best, 1, 60, 45), 2: best}, GROUPS, NAMES, None)
    assert decision.chosen == 2
    assert "neither faster nor closer" in decision.why
    assert decision.comparison is not None and not decision.comparison.improves


def test_a_single_network_is_chosen_without_a_comparison() -> None:
    decision = decide({1: judged(0.5, 1)}, GROUPS, NAMES, 0)
    assert (decision.chosen, decision.comparison) == (1, None)


def test_the_frontier_has_what_nothing_beats() -> None:
    assert frontier([(1, 0.5), (2, 0.8), (3, 0.7), (4, 0.9), (4, 0.85)]) == [True, True, False, True, False]
    assert frontier([(1, 0.5), (1, 0.5)]) == [True, True]


def test_the_result_survives_json() -> None:
    result = race_result()
    assert from_json(Race, to_json(result), "race.json") == result
    assert result.winner.backbone == "mobilenet_v2"
