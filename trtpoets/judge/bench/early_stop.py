"""Decides when a benchmark has measured enough rounds: each ratio to the baseline is accurate, or the time is used up.

The intervals are checked several times, so that one may be narrow by chance when the benchmark stops. Checks are
therefore rare: after every second round, when both orders of the runners were measured equally often, and not before
`_FIRST_CHECK` rounds. `benchmarks/coverage_speed.py` measures how often the intervals of such benchmarks are correct.
"""

from __future__ import annotations

import time
from typing import Callable, Mapping, Sequence

from trtpoets.core.shell_commands import command
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.rounds import MIN_ROUNDS, ratio_of_rounds
from trtpoets.judge.statistics import least_count

_FIRST_CHECK = 10
"""Rounds of a benchmark before the first check. A runner on a GPU took part in half of them."""

_ADVISED_SECONDS = 10
"""The seconds per batch size that are advised where the time was up."""


def is_check_due(rounds_done: int, rounds: int) -> bool:
    """Return whether the intervals are checked after `rounds_done` of `rounds` rounds."""
    return _FIRST_CHECK <= rounds_done < rounds and rounds_done % 2 == 0


def ratios_are_within(share: float, baseline: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> bool:
    """Return whether the interval of the ratio of each of `others` to the baseline is within `share` of the ratio.

    The arguments are the median latencies of the rounds, above 0, by the number of the round; a runner may have skipped
    rounds. The intervals have 95 % confidence each. False for a ratio that drifts or has fewer than five rounds, and
    without other runners.
    """
    return bool(others) and all(_is_within(share, baseline, medians) for medians in others)


def _is_within(share: float, baseline: Mapping[int, float], medians: Mapping[int, float]) -> bool:
    both = sorted(baseline.keys() & medians.keys())
    if len(both) < MIN_ROUNDS:
        return False
    first, second = ([of[number] for number in both] for of in (baseline, medians))
    if min(*first, *second) <= 0:  # the clock did not advance
        return False
    ratio = ratio_of_rounds(first, second)
    if ratio.interval is None:
        return False
    low, high = ratio.interval
    return high <= ratio.value * (1 + share) and low >= ratio.value * (1 - share)


class TimeLimit:
    """Shares `seconds` of wall time, from the construction on, among the batch sizes of a benchmark; 0 sets no limit.

    The time that a batch size does not use is shared among the next ones.
    """

    def __init__(self, seconds: float, batches: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._limited = clock, seconds > 0
        self._seconds, self._end, self._left = seconds, clock() + seconds, batches
        self._until = 0.0

    def share_used(self) -> float:
        """Return the share 0..1 of the time that is used up; 0 without a limit."""
        left = self._end - self._clock()
        return min(max(1 - left / self._seconds, 0.0), 1.0) if self._limited else 0.0

    def begin_batch(self) -> None:
        """Begin the next batch size, with its warm-up."""
        now = self._clock()
        self._until = now + (self._end - now) / max(self._left, 1)
        self._left -= 1

    def is_reached(self, rounds_done: int, counts: Sequence[tuple[int, int] | None]) -> bool:
        """Return whether the batch size ends after `rounds_done` rounds because its time is used up.

        `counts` are the rounds and the inferences of each runner, None for a runner that is not measured any more. The
        others need enough for an interval and a median, and both orders of the runners must be measured equally often.
        """
        if not self._limited or rounds_done % 2 or self._clock() < self._until:
            return False
        least = least_count(50)
        return all(rounds >= MIN_ROUNDS and inferences >= least for rounds, inferences in filter(None, counts))


def least_in_a_round(config: BenchConfig) -> int:
    """Return the least number of inferences of a round with which a batch size can end at its time limit.

    With fewer, a runner whose inference takes longer than a round would need more rounds, and so would all others.
    """
    fewest_rounds = MIN_ROUNDS + MIN_ROUNDS % 2
    return -(-least_count(50) // fewest_rounds) if config.wall_seconds else 0


def stopped_text(stopped: Mapping[str, int], share: float) -> str:
    """Return the sentence that says after how many rounds a benchmark stopped; "" if all rounds were measured.

    `stopped` is the number of rounds by batch size.
    """
    return f"stopped after {_rounds_text(stopped)}: ratios within ±{100 * share:g} %" if stopped else ""


def timed_out_text(timed_out: Mapping[str, int], config: BenchConfig, name: str) -> str:
    """Return the sentences that say after how many rounds the time limit was reached; "" if it was not.

    `timed_out` is the number of rounds by batch size, and `name` that of the run.
    """
    if not timed_out:
        return ""
    before = f", before all ratios were within ±{100 * config.ratio_within:g} %" if config.ratio_within else ""
    return (
        f"The time limit of the benchmark, {config.wall_seconds:g} s, was reached after {_rounds_text(timed_out)}"
        f"{before}. To measure longer, run: {command('bench', name, '--seconds', _ADVISED_SECONDS)}"
    )


def _rounds_text(rounds: Mapping[str, int]) -> str:
    if len(set(rounds.values())) == 1 and len(rounds) > 1:
        return f"{next(iter(rounds.values()))} rounds"
    return ", ".join(f"{count} rounds at batch {batch}" for batch, count in rounds.items())
