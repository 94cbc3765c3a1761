"""The rounds of a race: which networks stay, and which one is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.races import race_result
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.race import (
    MIN_PHOTOS_OF_CLASS,
    PRICE,
    TOLERANCE,
    NetworkAnswers,
    Race,
    decide,
    expected_gain,
    frontier,
    photos_of_round,
    rounds_of,
    survivors,
)

NAMES = ("default", "fast", "good")
DIFFICULTY = np.random.default_rng(0).random(1000)
GROUPS = np.arange(1000)


def answers(right: np.ndarray, latency: float) -> NetworkAnswers:
    """A network that is sure of all its answers, so that its rating is its accuracy."""
    return NetworkAnswers(right, right.astype(np.float32), latency)


def judged(accuracy: float, latency: float) -> NetworkAnswers:
    """A network that answers `accuracy` of the photos right."""
    return answers(np.quantile(DIFFICULTY, accuracy) > DIFFICULTY, latency)


def changed(network: NetworkAnswers, latency: float, lost: int, won: int) -> NetworkAnswers:
    """A network that answers some photos wrong that `network` answers right, and some the other way round."""
    right = network.right.copy()
    right[np.flatnonzero(network.right)[:lost]] = False
    right[np.flatnonzero(~network.right)[:won]] = True
    return answers(right, latency)


@pytest.mark.parametrize(
    ("photos", "rounds"),
    [(200, [80, 160, 320]), (1080, [80, 160, 320, 640]), (2000, [80, 160, 320, 640, 1280])],
)
def test_large_sets_have_one_more_round(photos: int, rounds: list[int]) -> None:
    assert rounds_of(np.arange(photos) % 4) == rounds


def test_a_round_that_many_classes_make_as_large_as_the_next_one_is_left_out() -> None:
    assert rounds_of(np.arange(2000) % 10) == [80, 320, 640, 1280]
    assert [len(photos_of_round(np.arange(2000) % 10, np.arange(2000), count, 0)) for count in (80, 160)] == [150, 160]


def test_a_round_has_photos_of_each_class_and_those_of_the_round_before() -> None:
    truth = np.repeat([0, 1, 2], [600, 300, 20])
    groups = np.arange(920) // 2
    first, second = (photos_of_round(truth, groups, count, 0) for count in (115, 230))
    assert np.bincount(truth[first]).tolist() == [75, 38, MIN_PHOTOS_OF_CLASS]
    assert set(first) <= set(second)
    assert (np.diff(first) > 0).all()
    assert len(np.unique(groups[first])) < 0.55 * len(first)  # pairs stay together
    assert np.array_equal(photos_of_round(truth, groups, 2000, 0), np.arange(920))


def test_few_photos_show_nothing_so_that_all_networks_stay() -> None:
    networks = {number: judged(0.85 + 0.01 * number, 1 + number) for number in range(4)}
    few = np.arange(1000) < 60
    kept = survivors({number: own.only(few) for number, own in networks.items()}, GROUPS[few], 60)
    assert set(kept) == set(networks)


def test_a_network_that_is_certainly_worse_leaves() -> None:
    assert survivors({0: judged(0.7, 1), 1: judged(0.9, 2)}, GROUPS, 80) == [1]


def test_a_slower_network_that_is_certainly_not_better_leaves() -> None:
    fast = judged(0.9, 1)
    assert survivors({0: fast, 1: changed(fast, 2, 3, 0)}, GROUPS, 80) == [0]
    assert survivors({0: fast, 1: changed(fast, 2, 4, 8)}, GROUPS, 80) == [0, 1]
    assert survivors({0: fast, 1: changed(fast, 1, 0, 0)}, GROUPS, 80) == [0], "as fast, and as accurate"


def test_the_favourite_is_first_and_stays() -> None:
    """It is the fastest network within the tolerance, although three others are a little more accurate."""
    best = judged(0.8, 9)
    networks = {number: changed(best, 9 - number, 60 + number, 60) for number in range(4)}
    assert survivors(networks, GROUPS, 80)[0] == 3


def test_the_more_photos_the_next_round_adds_the_fewer_networks_stay() -> None:
    fast = judged(0.9, 1)
    slow = changed(fast, 2, 10, 12)
    gain = expected_gain(fast, slow, GROUPS)
    enough = int(gain / PRICE)
    assert survivors({0: fast, 1: slow}, GROUPS, enough - 1) == [0, 1]
    assert survivors({0: fast, 1: slow}, GROUPS, enough + 1) == [0]


def test_the_expected_gain_is_that_of_taking_the_better_network() -> None:
    """The mean over many true differences that the measured one leaves possible."""
    favourite, other = judged(0.8, 1), changed(judged(0.8, 1), 2, 30, 36)
    differences = other.photo_ratings - favourite.photo_ratings
    drawn = np.random.default_rng(0).normal(differences.mean(), differences.std() / np.sqrt(1000), 200_000)
    gain = expected_gain(favourite, other, GROUPS)
    assert gain == pytest.approx(np.maximum(drawn - TOLERANCE, 0).mean(), rel=0.02)
    assert expected_gain(favourite, NetworkAnswers(other.right, other.probabilities, 0.5), GROUPS) > gain + TOLERANCE
    assert expected_gain(favourite, favourite, GROUPS) == 0


def test_copies_of_a_photo_make_the_difference_less_certain() -> None:
    favourite, other = judged(0.8, 1), changed(judged(0.8, 1), 2, 30, 30)
    order = np.argsort(other.photo_ratings - favourite.photo_ratings, kind="stable")
    copies = np.empty(1000, np.int64)
    copies[order] = np.arange(1000) // 2
    assert expected_gain(favourite, other, copies) > 1.2 * expected_gain(favourite, other, GROUPS)


def test_the_probability_of_the_right_label_counts_half() -> None:
    right = np.array([True, True, False, False])
    network = NetworkAnswers(right, np.array([0.9, 0.7, 0.4, 0.0], np.float32), 1)
    assert network.rating == pytest.approx((0.5 + 0.5) / 2)
    surer = NetworkAnswers(right, np.array([0.9, 0.9, 0.4, 0.2], np.float32), 2)
    decision = decide({0: network, 1: surer}, np.arange(4), NAMES, None)
    assert decision.chosen == 1
    assert decision.why.endswith("; its rating is 5.00 points higher, and it takes 2 instead of 1 ms for a photo")


def test_a_network_that_is_better_by_more_than_the_tolerance_wins_although_it_is_slower() -> None:
    decision = decide({0: judged(0.8, 1), 2: judged(0.9, 5)}, GROUPS, NAMES, 0)
    assert decision.chosen == 2
    assert "by more than chance; it takes 5 instead of 1 ms" in decision.why
    assert decision.comparison is not None and decision.comparison.after > decision.comparison.before


@pytest.mark.parametrize(("lost", "chosen"), [(2, 1), (int(1000 * TOLERANCE) - 1, 1), (int(1000 * TOLERANCE) + 1, 2)])
def test_the_faster_network_wins_if_it_loses_less_than_the_tolerance(lost: int, chosen: int) -> None:
    best = judged(0.8, 5)
    decision = decide({2: best, 1: changed(best, 2, 25 + lost, 25)}, GROUPS, NAMES, 0)
    assert decision.chosen == chosen
    if chosen == 1:
        assert f"its rating is {lost / 10:.2f} points lower, which is less than 0.5" in decision.why
        assert "and it takes 2 instead of 5 ms" in decision.why
        assert decision.comparison is not None
        assert decision.comparison.after == pytest.approx(0.8 - lost / 1000)
    else:
        assert "which may be chance" in decision.why


def test_the_default_network_wins_if_both_are_as_fast_and_the_loss_is_small() -> None:
    best = judged(0.8, 2.0)
    decision = decide({0: changed(best, 2.05, 28, 25), 2: best}, GROUPS, NAMES, 0)
    assert decision.chosen == 0
    assert "and it is the default network" in decision.why


def test_the_default_network_wins_for_its_rating_if_it_is_much_slower() -> None:
    decision = decide({0: judged(0.8, 9.0), 2: judged(0.7, 2.0)}, GROUPS, NAMES, 0)
    assert decision.chosen == 0
    assert decision.why.endswith("; it takes 9 instead of 2 ms for a photo")


def test_equally_accurate_networks_are_compared_by_their_time() -> None:
    best = judged(0.8, 2.0)
    decision = decide({0: best, 1: changed(best, 1, 0, 0)}, GROUPS, NAMES, 0)
    assert decision.chosen == 1 and decision.why.endswith("; it takes 1 instead of 2 ms for a photo")


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
