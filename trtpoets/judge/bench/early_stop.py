"""Decides when a benchmark has measured enough rounds: when each runner's ratio to the baseline is accurate.

The intervals are looked at several times, so that one may be narrow by chance when the benchmark stops. Looks are
therefore rare: after every second round, when both orders of the runners were measured equally often, and not before
`_LEAST` rounds. `benchmarks/coverage_speed.py` measures how often the intervals of stopped benchmarks hold.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from trtpoets.judge.bench.rounds import LEAST_ROUNDS, ratio_of_rounds

_LEAST = 10
"""Rounds of a benchmark before the first look. A runner on a GPU took part in half of them."""


def is_a_look(rounds_done: int, rounds: int) -> bool:
    """Return whether the intervals are looked at after `rounds_done` of `rounds` rounds."""
    return _LEAST <= rounds_done < rounds and rounds_done % 2 == 0


def ratios_are_within(share: float, baseline: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> bool:
    """Return whether the ratio of each of `others` to the baseline is known to `share`, with 95 % confidence each.

    The arguments are the median latencies of the rounds, above 0, by the number of the round; a runner may have skipped
    rounds. A ratio that drifts is not known, nor is one of fewer than five rounds. False without other runners.
    """
    return bool(others) and all(_is_within(share, baseline, medians) for medians in others)


def _is_within(share: float, baseline: Mapping[int, float], medians: Mapping[int, float]) -> bool:
    both = sorted(baseline.keys() & medians.keys())
    if len(both) < LEAST_ROUNDS:
        return False
    first, second = ([of[number] for number in both] for of in (baseline, medians))
    if min(*first, *second) <= 0:  # a clock that stood still
        return False
    ratio = ratio_of_rounds(first, second)
    if ratio.interval is None:
        return False
    low, high = ratio.interval
    return high <= ratio.value * (1 + share) and low >= ratio.value * (1 - share)


def stopped_text(stopped: Mapping[str, int], share: float) -> str:
    """Return the sentence that says after how many rounds a benchmark stopped; "" if all rounds were measured.

    `stopped` is the number of rounds by batch size.
    """
    if not stopped:
        return ""
    within = f"ratios within ±{100 * share:g} %"
    if len(set(stopped.values())) == 1 and len(stopped) > 1:
        return f"stopped after {next(iter(stopped.values()))} rounds: {within}"
    where = ", ".join(f"{rounds} rounds at batch {batch}" for batch, rounds in stopped.items())
    return f"stopped after {where}: {within}"
