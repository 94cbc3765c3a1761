"""The race of `--backbone auto`: which networks stay, and which one is chosen (successive halving).

Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization": all candidates
are judged cheaply, the better half more exactly, until two are left. What grows from round to round is the number of
photos. These two are judged on all photos that may choose something, in the precision that will be deployed.

The most accurate network wins if it is better by more than chance. Otherwise the fastest one wins whose accuracy is
less than EQUIVALENT lower and not lower by more than chance, and the default network if it is as fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Sequence

import numpy as np

from trtpoets.core.fine_tuning import PairedResult
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Precision
from trtpoets.judge.paired import paired_result

AUTO_BACKBONE = "auto"
"""The value of `--backbone` that asks for a race."""

FINALISTS = 2
"""The number of networks that are judged on all photos, in the deployed precision."""

FIRST_SHARE = 0.125
"""The share of the photos in the first round; it doubles from round to round."""

MIN_PHOTOS_OF_CLASS = 15
"""The fewest photos of a class in the first round, if it has so many."""

EQUIVALENT = 0.01
"""The largest loss of accuracy, as a share, for which a faster network is chosen if the loss may be chance."""

SAME_SPEED = 0.05
"""Networks whose latencies differ by a smaller share are equally fast."""

LEVEL = 0.05
"""The p-value below which a difference is more than chance."""


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
    that was chosen. `comparison` is the paired comparison of the chosen network (after) with the other finalist
    (before). `next` is the command that trains on the chosen network. Test photos take no part.
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


def rounds_before_final(candidates: int) -> list[int]:
    """Return how many networks are left after each round before the last one: 6 give 3 and 2."""
    left = []
    while candidates > FINALISTS:
        candidates = max(-(-candidates // 2), FINALISTS)
        left.append(candidates)
    return left


def photos_of_round(truth: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the rows of a share of the photos with labels `truth`, int (N,), ascending: int64 (n,).

    Photos of an independent group, int (N,), follow each other in the order in which photos are taken. Each class gets
    at least MIN_PHOTOS_OF_CLASS photos, if it has so many. A larger share contains the smaller ones.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    places = np.random.default_rng(seed).permutation(len(np.unique(group_of)))[group_of]
    order = np.argsort(places, kind="stable")
    chosen = []
    for label in np.unique(truth):
        own = order[truth[order] == label]
        chosen.append(own[: max(round(share * len(own)), MIN_PHOTOS_OF_CLASS)])
    return np.sort(np.concatenate(chosen))


def survivors(judged: Mapping[int, NetworkAnswers], groups: np.ndarray, keep: int, default: int | None) -> list[int]:
    """Return the `keep` most accurate networks, the best first; equally accurate ones by latency.

    The default network takes the last place if it would drop out but is not worse than the best one by more than
    chance: it is what would be used without a race.
    """
    ranked = sorted(judged, key=lambda number: (-judged[number].accuracy, judged[number].latency_ms))
    kept = ranked[:keep]
    if default is not None and default in judged and default not in kept:
        compared = paired_result(judged[default].right, judged[kept[0]].right, groups)
        if not compared.proves(LEVEL):
            kept[-1] = default
    return kept


@dataclass(frozen=True)
class RaceDecision:
    """The network that is chosen, its comparison (after) with the other one (before), and the reason, as a sentence."""

    chosen: int
    comparison: PairedResult | None
    why: str


def decide(
    judged: Mapping[int, NetworkAnswers], groups: np.ndarray, names: Sequence[str], default: int | None
) -> RaceDecision:
    """Return which of the finalists is chosen, by the rule of this module. `names` are those of all networks."""
    ranked = sorted(judged, key=lambda number: (-judged[number].accuracy, judged[number].latency_ms))
    best = ranked[0]
    if len(ranked) == 1:
        return RaceDecision(best, None, f"{names[best]} is the only network that was left")
    compared = {number: paired_result(judged[best].right, judged[number].right, groups) for number in ranked[1:]}
    equal = [best, *(number for number, result in compared.items() if _equivalent(result))]

    def preference(number: int) -> tuple[bool, bool, float]:
        as_fast = judged[number].latency_ms <= (1 + SAME_SPEED) * min(judged[other].latency_ms for other in equal)
        return not as_fast, number != default, -judged[number].accuracy

    chosen = min(equal, key=preference)
    if chosen != best:
        result = compared[chosen]
        reason = "it is faster" if judged[chosen].latency_ms * (1 + SAME_SPEED) < judged[best].latency_ms else "default"
        return RaceDecision(chosen, result, _text(names[chosen], names[best], result, reason))
    other = ranked[1]
    result = paired_result(judged[other].right, judged[best].right, groups)
    return RaceDecision(best, result, _text(names[best], names[other], result, ""))


def _equivalent(result: PairedResult) -> bool:
    """Return whether the second network is less than EQUIVALENT worse, and not by more than chance."""
    return result.before - result.after < EQUIVALENT and result.p_value >= LEVEL


def _text(chosen: str, other: str, result: PairedResult, reason: str) -> str:
    change = 100 * (result.after - result.before)
    measured = (
        f"{chosen} is right on {100 * result.after:.1f} % and {other} on {100 * result.before:.1f} % of "
        f"{result.photos:,} photos ({change:+.1f} points, {100 * result.low:+.1f} to {100 * result.high:+.1f})"
    )
    if reason == "default":
        return f"{measured}; the difference may be chance, and {chosen} is the default network"
    if reason:
        return f"{measured}; the difference may be chance, and {chosen} is faster"
    if result.improves:
        return f"{measured}, so {chosen} is chosen: it is better by more than chance"
    return f"{measured}; the difference may be chance, but {other} is neither faster nor closer than {EQUIVALENT:.0%}"


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which (latency, accuracy) points no other one beats in one of them without losing in the other."""
    return [
        not any(
            fast <= latency and right >= accuracy and (fast, right) != (latency, accuracy) for fast, right in points
        )
        for latency, accuracy in points
    ]
