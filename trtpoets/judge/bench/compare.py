"""Compares two benchmarks: what changed, and whether the change exceeds the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple, Sequence, Tuple

from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT
from trtpoets.judge.bench.conditions import GpuState, JetsonConditions
from trtpoets.judge.bench.rounds import MIN_ROUNDS, ratio_of_runs

if TYPE_CHECKING:
    from trtpoets.judge.bench.benchmark import Benchmark
    from trtpoets.judge.bench.measure import Measurement

_CONDITIONS = ("cpu", "cores", "governor", "os", "kernel", "machine", "python", "nvidia_driver")
"""Fields of Conditions that explain a different speed. Time, load and free memory always differ."""

_JETSON = ("model", "l4t", "jetpack", "power_mode", "gpu_mhz_most")
"""Fields of JetsonConditions that explain a different speed; the current clock always differs."""

_GPU = ("name", "sm_mhz_most", "power_limit_w")
"""Fields of GpuState that explain a different speed."""

_SETTINGS = ("threads", "photos")


@dataclass(frozen=True)
class SpeedChange:
    """The change of one runner at one batch size between two benchmarks.

    `change` is the relative change of the value that `by` names, above 0 if faster: "speedup" (the ratio to the
    baseline) or, where the benchmarks have no common baseline, "p50_ms" (the median). `noise` is the difference between
    two runs under the same conditions, with 95 % confidence for all rows of a comparison together. `verdict` is
    "faster", "slower", "same" (within the noise), "drifts" (in one of the benchmarks the speed changed during the
    measurement, so that there is no estimate of the noise) or "unknown" (too few rounds, or not valid).
    """

    runner: RunnerId = field(metadata=FLAT)
    batch: int
    by: str
    before: float | None
    now: float | None
    change: float | None
    noise: float | None
    verdict: str


class _Pair(NamedTuple):
    """The compared value of one runner and batch size in both benchmarks, round by round; larger is faster."""

    runner: RunnerId
    batch: int
    by: str
    before: float | None
    now: float | None
    old: list[float]
    new: list[float]


@dataclass(frozen=True)
class Difference:
    """A condition that differs between two benchmarks: text, a number, or None where it is not known."""

    what: str
    before: Any
    now: Any


@dataclass(frozen=True)
class BenchmarkComparison:
    """What changed between two benchmarks. `missing` are the runners and batch sizes that only the older one has."""

    changes: tuple[SpeedChange, ...]
    conditions: tuple[Difference, ...]
    missing: tuple[str, ...]


RowKey = Tuple[str, int]
"""The name of a runner, and a batch size."""


def compared(before: Benchmark, now: Benchmark) -> BenchmarkComparison:
    """Compare an older benchmark with a newer one."""
    old = {(row.runner.name, row.batch): row for row in before.measurements}
    new = {(row.runner.name, row.batch): row for row in now.measurements}
    baseline = before.baseline if before.baseline == now.baseline else None
    pairs = [_pair(key, old, new, baseline) for key in new if key in old]
    count = sum(bool(pair.old and pair.new) for pair in pairs)
    return BenchmarkComparison(
        tuple(_change(pair, count) for pair in pairs),
        tuple(_differences(before, now)),
        tuple(sorted({f"{runner} at batch {batch}" for runner, batch in old.keys() - new.keys()})),
    )


def _pair(
    key: RowKey, old: Mapping[RowKey, Measurement], new: Mapping[RowKey, Measurement], baseline: str | None
) -> _Pair:
    """Return the ratios to `baseline`, round by round, if both benchmarks have them; otherwise the medians."""
    first, second = old[key], new[key]
    runner, batch = second.runner, key[1]
    if not (first.valid and second.valid):
        return _Pair(runner, batch, "", None, None, [], [])
    if baseline is not None and baseline != key[0]:
        ratios = [_ratios(row, rows.get((baseline, batch))) for row, rows in ((first, old), (second, new))]
        if all(len(own) >= MIN_ROUNDS for own in ratios):
            return _Pair(runner, batch, "speedup", first.speedup, second.speedup, *ratios)
    speeds = [[1 / milliseconds for milliseconds in row.round_p50_ms] for row in (first, second)]
    return _Pair(runner, batch, "p50_ms", first.p50_ms, second.p50_ms, *speeds)


def _ratios(row: Measurement, base: Measurement | None) -> list[float]:
    """Return the ratio to the baseline for each round."""
    if base is None or not base.valid or row.speedup is None:
        return []
    return [slow / quick for slow, quick in rounds_of_both(base, row)]


def rounds_of_both(first: Measurement, second: Measurement) -> list[tuple[float, float]]:
    """Return the medians (ms) of the rounds that two measurements of a benchmark have in common, in their order.

    A runner on a GPU takes part in fewer rounds. Rows of earlier versions do not number their rounds: those are taken
    as the first ones.
    """
    medians = [
        dict(zip(row.round_numbers or range(len(row.round_p50_ms)), row.round_p50_ms)) for row in (first, second)
    ]
    return [(medians[0][number], medians[1][number]) for number in sorted(medians[0].keys() & medians[1].keys())]


def _change(pair: _Pair, count: int) -> SpeedChange:
    """Return the change of a row; the noise of all `count` compared rows holds together with 95 % confidence."""
    measured = pair.before is not None and pair.now is not None
    if not measured or not pair.old or not pair.new:
        return SpeedChange(pair.runner, pair.batch, pair.by, pair.before, pair.now, None, None, "unknown")
    ratio, interval, drifts = ratio_of_runs(pair.new, pair.old, comparisons=count)
    noise = None if interval is None else math.sqrt(interval.high / interval.low) - 1
    verdict = "drifts" if drifts else _verdict(ratio - 1, noise)
    return SpeedChange(pair.runner, pair.batch, pair.by, pair.before, pair.now, ratio - 1, noise, verdict)


def _verdict(change: float, noise: float | None) -> str:
    if noise is None:
        return "unknown"
    if abs(change) <= noise:
        return "same"
    return "faster" if change > 0 else "slower"


def _differences(before: Benchmark, now: Benchmark) -> Iterator[Difference]:
    old, new = before.conditions, now.conditions
    yield from _differing(_of(old, _CONDITIONS), _of(new, _CONDITIONS))
    yield from _differing(_of(before.config, _SETTINGS), _of(now.config, _SETTINGS))
    if before.baseline != now.baseline:
        yield Difference("baseline", before.baseline, now.baseline)
    jetsons = [conditions.jetson or JetsonConditions() for conditions in (old, new)]
    yield from _differing(_of(jetsons[0], _JETSON), _of(jetsons[1], _JETSON))
    yield from _differing(old.versions, new.versions)
    yield from _differing(before.artefacts, now.artefacts, "content of {}")
    both = old.gpu_wait.keys() & new.gpu_wait.keys()
    waits = [{name: conditions.gpu_wait[name] for name in sorted(both)} for conditions in (old, new)]
    yield from _differing(waits[0], waits[1], "how {} waits for the GPU")
    for number, (first, second) in enumerate(zip_longest(old.gpu_state, new.gpu_state, fillvalue=GpuState())):
        yield from _differing(_of(first, _GPU), _of(second, _GPU), f"GPU {number}: {{}}")


def _of(value: object, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}


def _differing(old: Mapping[str, object], new: Mapping[str, object], what: str = "{}") -> Iterator[Difference]:
    for name in dict.fromkeys(sorted(old.keys() | new.keys()) if old.keys() != new.keys() else old):
        if old.get(name) != new.get(name):
            yield Difference(what.format(name), old.get(name), new.get(name))
