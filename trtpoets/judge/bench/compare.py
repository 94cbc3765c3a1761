"""Two benchmarks -> what changed between them, and whether it is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from trtpoets.core.runner_id import RunnerId, row_of, runner_of_row
from trtpoets.judge.bench.benchmark import BASELINE
from trtpoets.judge.bench.rounds import LEAST_ROUNDS, ratio_of_runs

_CONDITIONS = ("cpu", "cores", "governor", "os", "kernel", "machine", "python", "nvidia_driver")
"""Of the conditions, those that explain another speed. Time, load and free memory always differ."""

_JETSON = ("model", "l4t", "jetpack", "power_mode", "gpu_mhz_most")
"""Of a Jetson's; what its clock is just now differs too."""

_GPU = ("name", "sm_mhz_most", "power_limit_w")
"""Of each GPU's state."""

_SETTINGS = ("threads", "photos")


@dataclass(frozen=True)
class Change:
    """One runner at one batch size, then and now.

    `change` is how much of its speed beside TensorFlow it won (above 0) or lost, as a share; where there is no
    TensorFlow, or another baseline, of its own median, which `by` then says. `noise` is how much two runs of the same,
    under the same conditions, differ by, with 95 % confidence for all rows of a comparison together. `verdict` is
    "faster", "slower", "same" (within the noise), "drifts" (in one of the benchmarks its speed was another at the end
    than at the beginning, so that there is no noise to hold it against) or "unknown" (too few rounds, or not valid).
    """

    runner: RunnerId
    batch: int
    by: str
    before: float | None
    now: float | None
    change: float | None
    noise: float | None
    verdict: str


class _Pair(NamedTuple):
    """One row in both benchmarks: what is compared, then and now, round by round; more is faster."""

    runner: RunnerId
    batch: int
    by: str
    before: float | None
    now: float | None
    old: list[float]
    new: list[float]


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two benchmarks as `Benchmark.to_dict` gives them.

    Returns {"changes": [Change as JSON], "conditions": [{"what", "before", "now"}], "missing": [runners gone since]}.
    """
    old = {_place(row): row for row in before["measurements"]}
    new = {_place(row): row for row in now["measurements"]}
    beside = _baseline(before) if _baseline(before) == _baseline(now) else None
    pairs = [_pair(place, old, new, beside) for place in new if place in old]
    count = sum(bool(pair.old and pair.new) for pair in pairs)
    return {
        "changes": [row_of(_change(pair, count)) for pair in pairs],
        "conditions": [{"what": what, "before": a, "now": b} for what, a, b in _differences(before, now)],
        "missing": sorted({f"{runner} at batch {batch}" for runner, batch in old.keys() - new.keys()}),
    }


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["runner"], row["batch"]


def _baseline(benchmark: Mapping[str, Any]) -> str:
    return str(benchmark.get("baseline", BASELINE))


def _pair(
    place: tuple[str, int],
    old: Mapping[tuple[str, int], Mapping[str, Any]],
    new: Mapping[tuple[str, int], Mapping[str, Any]],
    beside: str | None,
) -> _Pair:
    """By the ratio to the baseline `beside` it, round by round, where both have one; else by the median."""
    first, second = old[place], new[place]
    runner, batch = runner_of_row(second), place[1]
    if not (first["valid"] and second["valid"]):
        return _Pair(runner, batch, "", None, None, [], [])
    if beside is not None and beside != place[0]:
        ratios = [_ratios(row, rows.get((beside, batch))) for row, rows in ((first, old), (second, new))]
        if all(len(each) >= LEAST_ROUNDS for each in ratios):
            return _Pair(runner, batch, "speedup", first.get("speedup"), second.get("speedup"), *ratios)
    speeds = [[1 / each for each in row.get("round_p50_ms") or []] for row in (first, second)]
    return _Pair(runner, batch, "p50_ms", first.get("p50_ms"), second.get("p50_ms"), *speeds)


def _ratios(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[float]:
    """How many times as fast as the baseline, round by round."""
    if base is None or not base["valid"] or row.get("speedup") is None:
        return []
    return [slow / quick for slow, quick in rounds_of_both(base, row)]


def rounds_of_both(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The medians (ms) of the rounds that two rows of a benchmark, as JSON, have in common; in the order of the rounds.

    A runner on a GPU takes part in fewer rounds. Rows of earlier versions don't number theirs: those are missing at
    the end, if any.
    """
    medians = []
    for row in (first, second):
        spans = row.get("round_p50_ms") or []
        medians.append(dict(zip(row.get("round_numbers") or range(len(spans)), spans)))
    return [(medians[0][number], medians[1][number]) for number in sorted(medians[0].keys() & medians[1].keys())]


def _change(pair: _Pair, count: int) -> Change:
    """`count` rows are compared, and their noise is to hold together."""
    known = pair.before is not None and pair.now is not None
    if not known or not pair.old or not pair.new:
        return Change(pair.runner, pair.batch, pair.by, pair.before, pair.now, None, None, "unknown")
    ratio, interval, drifts = ratio_of_runs(pair.new, pair.old, comparisons=count)
    noise = None if interval is None else math.sqrt(interval.high / interval.low) - 1
    verdict = "drifts" if drifts else _verdict(ratio - 1, noise)
    return Change(pair.runner, pair.batch, pair.by, pair.before, pair.now, ratio - 1, noise, verdict)


def _verdict(change: float, noise: float | None) -> str:
    if noise is None:
        return "unknown"
    if abs(change) <= noise:
        return "same"
    return "faster" if change > 0 else "slower"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for part, words in (("conditions", _CONDITIONS), ("config", _SETTINGS)):
        old, new = before.get(part) or {}, now.get(part) or {}
        yield from _differing(old, new, words)
    if _baseline(before) != _baseline(now):
        yield "baseline", _baseline(before), _baseline(now)
    old, new = before.get("conditions") or {}, now.get("conditions") or {}
    yield from _differing(old.get("jetson") or {}, new.get("jetson") or {}, _JETSON)
    for part, first, second in (
        ("", old.get("versions") or {}, new.get("versions") or {}),
        ("content of ", before.get("artefacts") or {}, now.get("artefacts") or {}),
    ):
        for what, a, b in _differing(first, second, sorted(first.keys() | second.keys())):
            yield part + what, a, b
    waits = [each.get("gpu_wait") or {} for each in (old, new)]
    for what, a, b in _differing(waits[0], waits[1], sorted(waits[0].keys() & waits[1].keys())):
        yield f"how {what} waits for the GPU", a, b
    gpus = [[{word: gpu.get(word) for word in _GPU} for gpu in each.get("gpu_state") or []] for each in (old, new)]
    for number, (first, second) in enumerate(zip_longest(*gpus, fillvalue={})):
        for what, a, b in _differing(first, second, _GPU):
            yield f"GPU {number}: {what}", a, b


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], words: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    for word in words:
        if old.get(word) != new.get(word):
            yield word, old.get(word), new.get(word)
