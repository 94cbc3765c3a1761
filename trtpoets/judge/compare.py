"""Two benchmarks -> what changed between them, and whether it is more than noise."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from trtpoets.core.errors import BadArtefact
from trtpoets.core.files import read_json
from trtpoets.judge.statistics import ratio_of_runs

_CONDITIONS = ("cpu", "cores", "governor", "os", "kernel", "machine", "python", "nvidia_driver", "jetson")
"""Of the conditions, those that explain another speed. Time, load and free memory always differ."""

_SETTINGS = ("threads", "photos")


@dataclass(frozen=True)
class Change:
    """One runner at one batch size, then and now.

    `change` is how much of its speed beside TensorFlow it won (above 0) or lost, as a share; where there is no
    TensorFlow, of its own median, which `by` then says. `noise` is how much two runs of the same differ by, with 95 %
    confidence. `verdict` is "faster", "slower", "same" (within the noise) or "unknown" (no interval, or not valid).
    """

    runner: str
    batch: int
    by: str
    before: float | None
    now: float | None
    change: float | None
    noise: float | None
    verdict: str


def read_benchmark(path: Path) -> Mapping[str, Any]:
    """benchmark.json, or what `bench --json` printed. Raises MissingArtefact, or BadArtefact when it is neither."""
    found = read_json(path)
    details = found.get("details", found) if isinstance(found, dict) else None
    if not isinstance(details, dict) or not isinstance(details.get("measurements"), list):
        raise BadArtefact(
            f"{path} is no benchmark",
            hint="give benchmark.json of a run, or what this wrote: trtpoets bench NAME --json",
        )
    return details


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two benchmarks as `Benchmark.to_dict` gives them.

    Returns {"changes": [Change as JSON], "conditions": [{"what", "before", "now"}], "missing": [runners gone since]}.
    """
    old = {_place(row): row for row in before["measurements"]}
    new = {_place(row): row for row in now["measurements"]}
    return {
        "changes": [asdict(_change(old[place], new[place])) for place in new if place in old],
        "conditions": [{"what": what, "before": a, "now": b} for what, a, b in _differences(before, now)],
        "missing": sorted({f"{runner} at batch {batch}" for runner, batch in old.keys() - new.keys()}),
    }


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["runner"], row["batch"]


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    runner, batch = _place(new)
    if not (old["valid"] and new["valid"]):
        return Change(runner, batch, "", None, None, None, None, "unknown")
    both = all(row.get("speedup") is not None and row.get("speedup_low") is not None for row in (old, new))
    if both and not old["speedup"] == new["speedup"] == 1.0:  # the baseline is always once as fast as itself
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
    old, new = before.get("conditions") or {}, now.get("conditions") or {}
    for part, first, second in (
        ("", old.get("versions") or {}, new.get("versions") or {}),
        ("content of ", before.get("artefacts") or {}, now.get("artefacts") or {}),
    ):
        for what, a, b in _differing(first, second, sorted(first.keys() | second.keys())):
            yield part + what, a, b
    gpus = [[(gpu.get("name"), gpu.get("clocks_max")) for gpu in each.get("gpus") or []] for each in (old, new)]
    if gpus[0] != gpus[1]:
        yield "GPUs", gpus[0], gpus[1]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], words: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    for word in words:
        if old.get(word) != new.get(word):
            yield word, old.get(word), new.get(word)
