"""Explains a recommendation without a fitting runner: the nearest one, what it lacks, and the command that helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import GateFailed, MissingArtefact
from trtpoets.core.formatting import joined, many
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command
from trtpoets.judge.bench.measure import seconds_for_a_bound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.reporting.recommendation import Candidate, Recommendation


def ship_sentence(recommendation: Recommendation) -> str:
    """Return what to ship, or why no measured runner can be recommended; an empty string without measurements."""
    if recommendation.chosen or not recommendation.rejected:
        return recommendation.sentence
    undecided = _undecided(recommendation)
    if undecided:
        return f"Nothing that was measured can be recommended yet. {_with_count(undecided)}."
    nearest = recommendation.rejected[0]
    return f"Nothing that was measured can be recommended. {_named(nearest)}: {_texts(nearest)}."


def require_recommended(recommendation: Recommendation, name: str = "NAME", engines: Path = DEFAULT_ENGINES) -> None:
    """Raise GateFailed if no runner meets the limits, with the runner that misses them least and limits that it meets.

    Raises MissingArtefact if a runner may meet the limits, but too few inferences were timed for its p99.
    """
    if recommendation.chosen:
        return
    limits, rejected = recommendation.limits, recommendation.rejected

    def run(verb: str, *options: object) -> str:
        return command(verb, name, *options, engines=engines)

    if not rejected:
        raise MissingArtefact(
            "no runner was both evaluated and benched" + _at(limits.batches),
            hint=f"{run('evaluate')} && {run('bench', *_options(limits.batches))}",
            code="TP6009",
        )
    undecided = _undecided(recommendation)
    if undecided:
        raise MissingArtefact(
            f"no runner can be recommended yet: {_with_count(undecided)}",
            hint=_measure_again(undecided, run),
            code="TP6010",
        )
    nearest = rejected[0]
    raise GateFailed(
        f"no runner meets the limits; the nearest is {_named(nearest)}: {_texts(nearest)}",
        hint=_kept_limits(recommendation, nearest, run),
        code="TP6011",
    )


def _undecided(recommendation: Recommendation) -> list[Candidate]:
    """Return the candidates that another measurement may show to meet the limits."""
    return [candidate for candidate in recommendation.rejected if all(lack.unknown for lack in candidate.lacks)]


def _with_count(undecided: Sequence[Candidate]) -> str:
    """Return why the first candidate is undecided, and how many more there are."""
    others = many(len(undecided) - 1, "more is", "more are")
    more = f" ({others} undecided)" if len(undecided) > 1 else ""
    return f"{_named(undecided[0])}: {_texts(undecided[0])}{more}"


def _named(candidate: Candidate) -> str:
    return f"{candidate.runner.name} at batch {candidate.batch}"


def _texts(candidate: Candidate) -> str:
    return joined([lack.text for lack in candidate.lacks])


def _at(batches: Sequence[int]) -> str:
    return f" at batch {joined([str(batch) for batch in batches])}" if batches else ""


def _options(batches: Iterable[int]) -> list[object]:
    return [word for batch in batches for word in ("--batch", batch)]


def _measure_again(undecided: Sequence[Candidate], run: Callable[..., str]) -> str:
    """Return the command whose result would decide: a benchmark long enough for the p99 of the slowest runner."""
    if any(lack.what == "evaluated" for lack in undecided[0].lacks):
        return run("evaluate", "--force")
    batches = sorted({candidate.batch for candidate in undecided})
    late = [candidate for candidate in undecided if any(lack.what == "p99" for lack in candidate.lacks)]
    longer = ["--seconds", max(map(seconds_for_a_bound, late))] if late else []
    return run("bench", *_options(batches), *longer)


def _kept_limits(recommendation: Recommendation, nearest: Candidate, run: Callable[..., str]) -> str:
    """Return the command with limits that the nearest candidate meets, or the benchmark that measures its p99."""
    drop = max(nearest.drop or 0.0, recommendation.limits.drop)
    words = ["--max-drop", f"{math.ceil(1000 * drop) / 10:g}"]
    late, most = nearest.p99_bound_ms, recommendation.limits.max_p99
    if most is not None and late is None:
        return f"measure its p99: {_measure_again([nearest], run)}"
    if most is not None and late is not None:
        words += ["--max-p99", f"{math.ceil(10 * max(late, most)) / 10:g}"]
    return run("recommend", *words)
