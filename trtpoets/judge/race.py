"""The race of `--backbone auto`: which networks stay, and which one is chosen, by successive halving.

Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization": all candidates
are judged cheaply, the better ones more exactly, and so on. What grows from round to round is the number of photos.

Networks are compared by a rating: the mean of the share of right answers and of the probability that they give to the
right label. The probability varies less from photo to photo than right and wrong do, and it tells earlier which network
will be better with more photos. The fastest network is chosen whose rating is less than TOLERANCE below the best one.

Which networks stay is a question of the value of information (Raiffa and Schlaifer, 1961; "expected improvement" in
Jones, Schonlau and Welch, 1998). The favourite is the network that would be chosen now. What it pays to judge another
network more exactly is the gain to expect if that network takes the favourite's place where it turns out to be better:
E[max(D - needed, 0)]. D is the difference of their ratings, taken as normal with the measured mean and its standard
error; `needed` is TOLERANCE for a slower network, -TOLERANCE for a faster one. A network stays if
this gain is larger than the price of the photos that the next round adds. So a network that is certainly worse leaves
in the first round, and where all are alike, all stay. How many photos are enough follows from the same rule: the race
ends as soon as no other network can bring enough. `benchmarks/README.md` compares rules by simulated races.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Mapping, Sequence

import numpy as np

from trtpoets.core.fine_tuning import PairedResult
from trtpoets.core.formatting import point_interval, points
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Precision
from trtpoets.judge.paired import paired_result

AUTO_BACKBONE = "auto"
"""The value of `--backbone` that asks for a race."""

ROUND_PHOTOS = (80, 160, 320, 640, 1280)
"""The number of photos of each round; a round has more if a class would have fewer than MIN_PHOTOS_OF_CLASS."""

_ALWAYS, _LARGEST_SHARE = 640, 2 / 3
"""Rounds of more photos than the first number take place only if they are at most this share of all photos."""

_LEAST_GROWTH = 1.25
"""A round with fewer photos than so many times those of the round before is left out: many classes enlarge the first
rounds."""

PRICE = 0.004 / 1000
"""The gain to expect, as a share, for each photo that a round adds, below which a network leaves."""

MIN_PHOTOS_OF_CLASS = 15
"""The fewest photos of a class in the first round, if it has so many."""

TOLERANCE = 0.005
"""The loss of rating, as a share, below which the faster network is chosen."""

SAME_SPEED = 0.05
"""Networks whose latencies differ by a smaller share are equally fast."""


@dataclass(frozen=True)
class RaceConfig:
    """What `--backbone auto` is asked for.

    `candidates` are networks, as NAME or NAME=FILE with a weights file; none are all at hand. A network may take at
    most `max_ms` milliseconds for a photo, on this machine or on `board`. `precision` is the one that is deployed; None
    is the one that the device computes fastest.
    """

    candidates: tuple[str, ...] = ()
    max_ms: float | None = None
    board: str | None = None
    precision: Precision | None = None


@dataclass(frozen=True)
class RaceRound:
    """The cross-fitted accuracy of a network on `photos`, 0..1, with its 95 % interval, in a precision.

    `rating` is what networks are compared by: the mean of the accuracy and the probability of the right label.
    """

    photos: int
    precision: Precision
    accuracy: float
    low: float
    high: float
    rating: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Contestant:
    """A network in the race. `weights` is the file that was given, `latency_ms` the time for one photo.

    `outcome` says what happened to it, as a part of a sentence. `on_frontier`: no network that was judged as exactly is
    faster and more accurate.
    """

    backbone: str
    pixels: int
    outcome: str
    weights_id: str = ""
    weights: str | None = field(default=None, metadata=OPTIONAL)
    latency_ms: float | None = field(default=None, metadata=OPTIONAL)
    rounds: tuple[RaceRound, ...] = ()
    on_frontier: bool = False


@dataclass(frozen=True)
class RaceInt8:
    """INT8 of the chosen network, compared with its FP32 on `photos` of the last round outside calibration.

    `agreement` is the share of equal answers, 0..1, with its 95 % interval, `drop` the loss of accuracy, as a share,
    `share` that of the multiply-adds that run in INT8. `doubt` is the reason why `quantize`, which compares on all
    photos, may recommend another precision, as a sentence without its full stop; "" if there is none.
    """

    photos: int
    agreement: float
    low: float
    high: float
    drop: float
    share: float
    doubt: str = ""


@dataclass(frozen=True)
class Race:
    """The content of race.json. `photos` is a hash of the photos and their labels, `why` what was decided.

    `device` is where the latency was measured, or for which it was `estimated`. `chosen` is the index of the network
    that was chosen. `comparison` is the paired comparison of the chosen network (after) with the most accurate other
    one of the last round (before). `int8` is None if INT8 is not deployed, or if there was nothing to compare. `next`
    is the command that trains on the chosen network. Test photos take no part.
    """

    photos: str
    config: RaceConfig
    precision: Precision
    device: str
    estimated: bool
    contestants: tuple[Contestant, ...]
    chosen: int
    why: str
    seconds: float
    next: str
    command: str
    comparison: PairedResult | None = field(default=None, metadata=OPTIONAL)
    int8: RaceInt8 | None = field(default=None, metadata=OPTIONAL)
    schema_version: int = 1

    @property
    def winner(self) -> Contestant:
        """The network that was chosen."""
        return self.contestants[self.chosen]


@dataclass(frozen=True, eq=False)
class NetworkAnswers:
    """What a network answered on photos that all networks of a round answered, and its latency.

    `right` says which answers are right, bool (N,). `probabilities` are those of the right labels, float32 (N,).
    """

    right: np.ndarray
    probabilities: np.ndarray
    latency_ms: float

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right.mean())

    @property
    def photo_ratings(self) -> np.ndarray:
        """What each photo contributes to the rating, float64 (N,)."""
        return (self.right + self.probabilities.astype(np.float64)) / 2

    @property
    def rating(self) -> float:
        """The mean of the accuracy and the probability of the right label."""
        return float(self.photo_ratings.mean())

    @property
    def rank(self) -> tuple[float, float]:
        """A sort key: the network with the highest rating first, of equal ones the fastest."""
        return -self.rating, self.latency_ms

    def only(self, rows: np.ndarray) -> NetworkAnswers:
        """Return the answers on some of the photos, bool (N,)."""
        return NetworkAnswers(self.right[rows], self.probabilities[rows], self.latency_ms)


def rounds_of(truth: np.ndarray) -> list[int]:
    """Return the numbers of photos that are asked of the rounds, for a set with labels `truth`, int (N,)."""
    rounds: list[int] = []
    before = 0.0
    for count in ROUND_PHOTOS:
        photos = sum(_photos_of_classes(truth, count).values())
        if count <= max(_ALWAYS, _LARGEST_SHARE * len(truth)) and photos >= _LEAST_GROWTH * before:
            rounds.append(count)
            before = photos
    return rounds


def _photos_of_classes(truth: np.ndarray, count: int) -> dict[int, int]:
    """Return the number of photos of each class in a round of `count` photos."""
    labels, sizes = np.unique(truth, return_counts=True)
    return {
        label: min(max(round(count / len(truth) * size), MIN_PHOTOS_OF_CLASS), size)
        for label, size in zip(labels.tolist(), sizes.tolist())
    }


def photos_of_round(truth: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the rows of `count` of the photos with labels `truth`, int (N,), ascending: int64 (n,).

    Photos of an independent group, int (N,), follow each other in the order in which photos are taken. Each class gets
    at least MIN_PHOTOS_OF_CLASS photos, if it has so many. A larger number contains the smaller ones.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    places = np.random.default_rng(seed).permutation(len(np.unique(group_of)))[group_of]
    order = np.argsort(places, kind="stable")
    chosen = [order[truth[order] == label][:photos] for label, photos in _photos_of_classes(truth, count).items()]
    return np.sort(np.concatenate(chosen))


def survivors(judged: Mapping[int, NetworkAnswers], groups: np.ndarray, added: int) -> list[int]:
    """Return the networks that stay for a round with `added` more photos: the favourite first, then by their rank.

    `groups`, int (N,), are the independent groups of the photos.
    """
    favourite = _preferred(judged, None)
    others = sorted((number for number in judged if number != favourite), key=lambda number: judged[number].rank)
    useful = [number for number in others if expected_gain(judged[favourite], judged[number], groups) > PRICE * added]
    return [favourite, *useful]


def expected_gain(favourite: NetworkAnswers, other: NetworkAnswers, groups: np.ndarray) -> float:
    """Return the gain in rating to expect if another network takes the place of the favourite where it is preferable.

    See the top of this module. Photos of one of the `groups`, int (N,), are not independent.
    """
    differences = other.photo_ratings - favourite.photo_ratings
    _, group_of = np.unique(groups, return_inverse=True)
    mean = float(differences.mean())
    sums = np.bincount(group_of, weights=differences - mean)
    error = math.sqrt(float(np.square(sums).sum())) / len(differences)
    needed = TOLERANCE * ((other.latency_ms > favourite.latency_ms) - (other.latency_ms < favourite.latency_ms))
    if error == 0:
        return max(mean - needed, 0.0)
    return error * _mean_above((needed - mean) / error)


def _mean_above(least: float) -> float:
    """Return E[max(Z - least, 0)] for a standard normal Z."""
    density = math.exp(-(least**2) / 2) / math.sqrt(2 * math.pi)
    return density - least * math.erfc(least / math.sqrt(2)) / 2


def _preferred(judged: Mapping[int, NetworkAnswers], default: int | None) -> int:
    """Return the fastest network that is less than TOLERANCE below the best one.

    Of networks that are as fast, the default network is preferred, then the most accurate one.
    """
    best = max(answers.rating for answers in judged.values())
    near = [number for number, answers in judged.items() if answers.rating > best - TOLERANCE]
    fastest = min(judged[number].latency_ms for number in near)
    as_fast = [number for number in near if judged[number].latency_ms <= (1 + SAME_SPEED) * fastest]
    return min(as_fast, key=lambda number: (number != default, judged[number].rank))


@dataclass(frozen=True)
class RaceDecision:
    """The network that is chosen, its comparison (after) with the other one (before), and the reason, as a sentence."""

    chosen: int
    comparison: PairedResult | None
    why: str


def decide(
    judged: Mapping[int, NetworkAnswers], groups: np.ndarray, names: Sequence[str], default: int | None
) -> RaceDecision:
    """Return which network is chosen, by the rule of this module. `names` are those of all networks."""
    chosen = _preferred(judged, default)
    others = [number for number in judged if number != chosen]
    if not others:
        return RaceDecision(chosen, None, f"{names[chosen]} is the only network that was left")
    other = min(others, key=lambda number: judged[number].rank)
    result = paired_result(judged[other].right, judged[chosen].right, groups)
    measured = (
        f"{names[chosen]} is right on {100 * result.after:.1f} % and {names[other]} on {100 * result.before:.1f} % of "
        f"{result.photos:,} photos "
        f"({points(result.after - result.before)} points, {point_interval(result.low, result.high)})"
    )
    is_default = chosen == default and 1 <= judged[chosen].latency_ms / judged[other].latency_ms <= 1 + SAME_SPEED
    speed = f"it takes {judged[chosen].latency_ms:.3g} instead of {judged[other].latency_ms:.3g} ms for a photo"
    gap = judged[chosen].rating - judged[other].rating
    reason = _reason(result, gap, "it is the default network" if is_default else speed)
    return RaceDecision(chosen, result, f"{measured}{reason}")


def _reason(result: PairedResult, gap: float, why: str) -> str:
    """Return why a network is chosen instead of the best other one, as the end of a sentence.

    `gap` is by how much its rating is higher.
    """
    if gap < 0:
        return f"; its rating is {100 * -gap:.2f} points lower, which is less than {100 * TOLERANCE:.3g}, and {why}"
    if result.after > result.before:
        return f", {'by more than chance' if result.low > 0 else 'which may be chance'}; {why}"
    if gap > 0:
        return f"; its rating is {100 * gap:.2f} points higher, and {why}"
    return f"; {why}"


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which (latency, accuracy) points no other one beats in one of them without losing in the other."""
    return [
        not any(
            fast <= latency and right >= accuracy and (fast, right) != (latency, accuracy) for fast, right in points
        )
        for latency, accuracy in points
    ]
