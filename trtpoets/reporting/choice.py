"""Chooses one of the candidates that are within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.judge.bench.compare import rounds_of_both
from trtpoets.judge.bench.rounds import ratio_of_rounds, ratio_of_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.judge.bench.measure import Measurement
    from trtpoets.reporting.recommendation import Candidate

_ALIKE = 0.03
"""Rates that differ by less than this share count as equal: two runs on a quiet machine differ as much."""


def best_of(fitting: Sequence[Candidate], rows: Mapping[tuple[str, int], Measurement]) -> Candidate:
    """Return the candidate with the smallest loss among those whose rate is about the highest.

    `rows` are measurements by runner and batch size."""
    top = max(fitting, key=lambda each: each.photos_per_s)
    alike = [
        each
        for each in fitting
        if each.photos_per_s >= (1 - _ALIKE) * top.photos_per_s or not _faster(top, each, rows, len(fitting) - 1)
    ]
    return min(alike, key=lambda each: (max(each.drop or 0.0, 0.0), each.batch, -each.photos_per_s))


def _faster(top: Candidate, other: Candidate, rows: Mapping[tuple[str, int], Measurement], comparisons: int) -> bool:
    """Return whether the difference in photos/s exceeds the noise of the rounds; True where that is not known."""
    own, beside = (rows[each.runner.name, each.batch] for each in (top, other))
    first, second = ([each.batch / span for span in row.round_p50_ms] for each, row in ((top, own), (other, beside)))
    if not first or not second:
        return True
    both = rounds_of_both(beside, own) if top.batch == other.batch else []
    if both:  # round by round, as they were measured in turn
        found = ratio_of_rounds([slow for slow, _ in both], [quick for _, quick in both], comparisons=comparisons)
    else:
        found = ratio_of_runs(first, second, comparisons=comparisons)
    return found.interval is None or found.interval.low > 1
