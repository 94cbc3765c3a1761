"""Chooses one of the candidates that are within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.judge.bench.compare import rounds_of_both
from trtpoets.judge.bench.rounds import ratio_of_rounds, ratio_of_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.judge.bench.measure import Measurement
    from trtpoets.reporting.recommendation import Candidate

_NEARLY = 0.03
"""Rates that differ by less than this share count as equal: two runs on a quiet machine differ as much."""


def best_of(fitting: Sequence[Candidate], rows: Mapping[tuple[str, int], Measurement]) -> Candidate:
    """Return the candidate with the smallest loss among those whose rate is about the highest.

    `rows` are measurements by runner and batch size."""
    top = max(fitting, key=lambda candidate: candidate.photos_per_s)
    nearly_fastest = [
        candidate
        for candidate in fitting
        if candidate.photos_per_s >= (1 - _NEARLY) * top.photos_per_s
        or not _faster(top, candidate, rows, len(fitting) - 1)
    ]
    return min(
        nearly_fastest,
        key=lambda candidate: (max(candidate.drop or 0.0, 0.0), candidate.batch, -candidate.photos_per_s),
    )


def _faster(top: Candidate, other: Candidate, rows: Mapping[tuple[str, int], Measurement], comparisons: int) -> bool:
    """Return whether the difference in photos/s exceeds the noise of the rounds; True where that is not known."""
    top_row, other_row = (rows[candidate.runner.name, candidate.batch] for candidate in (top, other))
    first, second = ([row.batch / span for span in row.round_p50_ms] for row in (top_row, other_row))
    if not first or not second:
        return True
    both = rounds_of_both(other_row, top_row) if top.batch == other.batch else []
    if both:  # round by round, because both were measured in the same rounds
        ratio = ratio_of_rounds([slow for slow, _ in both], [quick for _, quick in both], comparisons=comparisons)
    else:
        ratio = ratio_of_runs(first, second, comparisons=comparisons)
    return ratio.interval is None or ratio.interval.low > 1
