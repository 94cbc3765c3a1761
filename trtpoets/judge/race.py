"""The race of `--backbone auto`: which networks stay, and which one is chosen, by successive halving.

Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization": all candidates
are judged cheaply, the better ones more exactly, and so on. What grows from round to round is the number of photos.

Three quarters of the networks stay, not half of them: heads on a few features learn from fewer photos, so that the
order of networks after 160 or 320 photos differs from that after all. Where half of eight networks stayed, small ones
often won on the solar cells, and lost up to 2.2 points.

The fastest network is chosen whose measured accuracy is less than TOLERANCE below that of the best one. So a network is
of no use any more if a network that is not slower is shown to be as accurate, except for the tolerance, or if another
network is shown to be better by more than the tolerance. The race ends as soon as one network is left.

How many photos are enough: if one network is better than another by d, and the standard error of the measured
difference is s, then the wrong one is chosen with the probability Phi(-d / s). The loss to expect, d * Phi(-d / s), is
at most 0.17 * s, whatever d is. With 640 photos, of which two good networks answer 8 % differently, s is 1.1 points,
and 0.8 with 1,280: choosing between two networks costs at most 0.2 points on average. The tolerance is half a point:
the accuracy of the chosen network should be within a point of the best one, and chance takes the other half.
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
from trtpoets.judge.clustered import difference_interval
from trtpoets.judge.paired import paired_result

AUTO_BACKBONE = "auto"
"""The value of `--backbone` that asks for a race."""

ROUND_PHOTOS = (160, 320, 640, 1280)
"""The number of photos of each round; a round has more if a class would have fewer than MIN_PHOTOS_OF_CLASS."""

_ALWAYS, _LARGEST_SHARE = 640, 2 / 3
"""Rounds of more photos than the first number take place only if they are at most this share of all photos."""

KEPT = 0.75
"""The largest share of the networks that stay after a round."""

MIN_KEPT = 2
"""The number of networks below which a round keeps all that may still be chosen."""

MIN_PHOTOS_OF_CLASS = 15
"""The fewest photos of a class in the first round, if it has so many."""

TOLERANCE = 0.005
"""The loss of accuracy, as a share, below which the faster network is chosen."""

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
    """The cross-fitted accuracy of a network on `photos`, 0..1, with its 95 % interval, in a precision."""

    photos: int
    precision: Precision
    accuracy: float
    low: float
    high: float


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
class Race:
    """The content of race.json. `photos` is a hash of the photos and their labels, `why` what was decided.

    `device` is where the latency was measured, or for which it was `estimated`. `chosen` is the index of the network
    that was chosen. `comparison` is the paired comparison of the chosen network (after) with the most accurate other
    one of the last round (before). `next` is the command that trains on the chosen network. Test photos take no part.
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
    schema_version: int = 1

    @property
    def winner(self) -> Contestant:
        """The network that was chosen."""
        return self.contestants[self.chosen]


@dataclass(frozen=True, eq=False)
class NetworkAnswers:
    """The right answers of a network, bool (N,), on photos that all networks of a round answered, and its latency."""

    right: np.ndarray
    latency_ms: float

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right.mean())

    @property
    def rank(self) -> tuple[float, float]:
        """A sort key: the most accurate network first, of equally accurate ones the fastest."""
        return -self.accuracy, self.latency_ms


def rounds_of(photos: int) -> list[int]:
    """Return the numbers of photos of the rounds for a set with so many photos."""
    return [count for count in ROUND_PHOTOS if count <= max(_ALWAYS, _LARGEST_SHARE * photos)]


def photos_of_round(truth: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the rows of `count` of the photos with labels `truth`, int (N,), ascending: int64 (n,).

    Photos of an independent group, int (N,), follow each other in the order in which photos are taken. Each class gets
    at least MIN_PHOTOS_OF_CLASS photos, if it has so many. A larger number contains the smaller ones.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    places = np.random.default_rng(seed).permutation(len(np.unique(group_of)))[group_of]
    order = np.argsort(places, kind="stable")
    chosen, share = [], count / len(truth)
    for label in np.unique(truth):
        own = order[truth[order] == label]
        chosen.append(own[: max(round(share * len(own)), MIN_PHOTOS_OF_CLASS)])
    return np.sort(np.concatenate(chosen))


def survivors(judged: Mapping[int, NetworkAnswers], groups: np.ndarray) -> list[int]:
    """Return the networks that stay after a round, the most accurate first: at most the share KEPT of them.

    The network that would be chosen now always stays.
    """
    useful = [number for number in judged if not _is_of_no_use(number, judged, groups)]
    chosen = _preferred(judged, None)
    ranked = sorted({*useful, chosen}, key=lambda number: judged[number].rank)
    kept = ranked[: max(math.ceil(KEPT * len(judged)), MIN_KEPT)]
    if chosen not in kept:
        kept[-1] = chosen
    return kept


def _is_of_no_use(number: int, judged: Mapping[int, NetworkAnswers], groups: np.ndarray) -> bool:
    """Return whether another network is shown to be preferable to a network: see the top of this module."""
    own = judged[number]

    def place(one: int) -> tuple[float, float, int]:
        return judged[one].latency_ms, -judged[one].accuracy, one

    for other, answers in judged.items():
        if other == number:
            continue
        low, _ = difference_interval(own.right, answers.right, groups)
        if low > TOLERANCE or (low > -TOLERANCE and place(other) < place(number)):
            return True
    return False


def _preferred(judged: Mapping[int, NetworkAnswers], default: int | None) -> int:
    """Return the fastest network that is less than TOLERANCE below the best one.

    Of networks that are as fast, the default network is preferred, then the most accurate one.
    """
    best = max(answers.accuracy for answers in judged.values())
    near = [number for number, answers in judged.items() if answers.accuracy > best - TOLERANCE]
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
    is_default = chosen == default and judged[chosen].latency_ms >= judged[other].latency_ms
    speed = f"it takes {judged[chosen].latency_ms:.3g} instead of {judged[other].latency_ms:.3g} ms for a photo"
    reason = _reason(result, "it is the default network" if is_default else speed)
    return RaceDecision(chosen, result, f"{measured}{reason}")


def _reason(result: PairedResult, why: str) -> str:
    """Return why a network is chosen instead of the most accurate other one, as the end of a sentence."""
    if result.after < result.before:
        return f"; the loss is below {100 * TOLERANCE:.3g} points, and {why}"
    if result.after == result.before:
        return f"; {why}"
    return f", {'by more than chance' if result.low > 0 else 'which may be chance'}; {why}"


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which (latency, accuracy) points no other one beats in one of them without losing in the other."""
    return [
        not any(
            fast <= latency and right >= accuracy and (fast, right) != (latency, accuracy) for fast, right in points
        )
        for latency, accuracy in points
    ]
