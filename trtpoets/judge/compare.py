"""Two benchmarks -> what changed between them, and whether it is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Iterator, Mapping, Sequence

from trtpoets.core.runner_id import RunnerId, row_of, runner_of_row
from trtpoets.judge.benchmark import BASELINE
from trtpoets.judge.statistics import ratio_of_runs

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
    TensorFlow, or another baseline, of its own median, which `by` then says. `noise` is how much two runs of the same
    differ by, with 95 % confidence. `verdict` is "faster", "slower", "same" (within the noise) or "unknown" (no
    interval, or not valid).
    """

    runner: RunnerId
    batch: int
    by: str
    before: float | None
    now: float | None
    change: float | None
    noise: float | None
    verdict: str


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two benchmarks as `Benchmark.to_dict` gives them.

    Returns {"changes": [Change as JSON], "conditions": [{"what", "before", "now"}], "missing": [runners gone since]}.
    """
    old = {_place(row): row for row in before["measurements"]}
    new = {_place(row): row for row in now["measurements"]}
    beside = _baseline(before) == _baseline(now)
    return {
        "changes": [row_of(_change(old[place], new[place], beside=beside)) for place in new if place in old],
        "conditions": [{"what": what, "before": a, "now": b} for what, a, b in _differences(before, now)],
        "missing": sorted({f"{runner} at batch {batch}" for runner, batch in old.keys() - new.keys()}),
    }


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["runner"], row["batch"]


def _baseline(benchmark: Mapping[str, Any]) -> str:
    return str(benchmark.get("baseline", BASELINE))


def _change(old: Mapping[str, Any], new: Mapping[str, Any], *, beside: bool) -> Change:
    """By the ratio to the baseline, where both have it `beside` them and it is the same; else by the median."""
    runner, batch = runner_of_row(new), new["batch"]
    if not (old["valid"] and new["valid"]):
        return Change(runner, batch, "", None, None, None, None, "unknown")
    both = all(row.get("speedup") is not None and row.get("speedup_low") is not None for row in (old, new))
    if beside and both and not old["speedup"] == new["speedup"] == 1.0:  # the baseline is always once as fast as itself
        change = new["speedup"] / old["speedup"] - 1
        halves = [math.log(row["speedup_high"] / row["speedup_low"]) / 2 for row in (old, new)]
        # Each is of the difference of two runs like itself: half of its variance is its own.
        noise: float | None = math.expm1(math.hypot(*halves) / math.sqrt(2))
        return Change(runner, batch, "speedup", old["speedup"], new["speedup"], change, noise, _verdict(change, noise))
    first, second = old.get("round_p50_ms"), new.get("round_p50_ms")
    if old["p50_ms"] is None or new["p50_ms"] is None or not first or not second:
        return Change(runner, batch, "p50_ms", old["p50_ms"], new["p50_ms"], None, None, "unknown")
    ratio, interval = ratio_of_runs(first, second)
    noise = None if interval is None else math.sqrt(interval.high / interval.low) - 1
    return Change(runner, batch, "p50_ms", old["p50_ms"], new["p50_ms"], ratio - 1, noise, _verdict(ratio - 1, noise))


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
    gpus = [[{word: gpu.get(word) for word in _GPU} for gpu in each.get("gpu_state") or []] for each in (old, new)]
    for number, (first, second) in enumerate(zip_longest(*gpus, fillvalue={})):
        for what, a, b in _differing(first, second, _GPU):
            yield f"GPU {number}: {what}", a, b


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], words: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    for word in words:
        if old.get(word) != new.get(word):
            yield word, old.get(word), new.get(word)
