"""A report in a few plain sentences: what it reaches, what the narrow precisions cost, what is fastest, what was built.

Every sentence is made of numbers that are in the report, with their intervals; what was not measured is not said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import interval, joined, many, milliseconds, percent, point_interval, points, targets
from trtpoets.core.runner_id import RunnerId, runner_of_row
from trtpoets.core.types import Precision
from trtpoets.judge.bench.benchmark import BASELINE
from trtpoets.judge.gate import photos_in_groups
from trtpoets.reporting.gate_summary import gate_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAVOURS = {"rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}

_TITLES = {
    "speed": "Gained",
    "precision": "Lost",
    "ship": "Ship",
    "recommended": "INT8",
    "gate": "The gate",
    "accuracy": "Accuracy",
    "engines": "Engines",
}
"""What a group of sentences is about, in the page's order."""

_LIKELY = 0.05
"""A p-value below this is called more than chance."""


def verdict_from_report(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Sentences in order of importance: [{"about": ..., "text": ...}].

    `about` is accuracy, precision, gate, recommended, speed or engines; the report puts one about "ship" before them.
    """
    said = [("accuracy", _accuracy(report))]
    said += [("precision", _precision(report, runner)) for runner in narrow_runners(report)]
    said += [("gate", gate_sentence(report.get("gate"))), ("recommended", _recommended(report))]
    said += [("speed", _speed(report)), ("engines", _engines(report))]
    return [{"about": about, "text": text} for about, text in said if text]


def verdict_groups(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The report's verdict as the page has it: what was gained, what was lost, what to ship, then the rest."""
    groups = []
    for about, title in _TITLES.items():
        texts = [each["text"] for each in report["verdict"] if each["about"] == about]
        if texts:
            groups.append((title, texts))
    return groups


def narrow_runners(report: Mapping[str, Any]) -> list[str]:
    """One evaluated runner for each of FP16 and INT8: an engine where one ran, else ONNX Runtime."""
    chosen = []
    known = {name: runner_named(report, name) for name in report["agreement"]}
    for precision in (Precision.FP16, Precision.INT8):
        runners = [name for name, runner in known.items() if runner.precision is precision]
        chosen += sorted(runners, key=lambda name: not known[name].is_engine)[:1]
    return chosen


def runner_named(report: Mapping[str, Any], name: str) -> RunnerId:
    """The runner that a report calls `name`."""
    return runner_of_row(report["runners"][name])


def precision_of(report: Mapping[str, Any], name: str) -> str:
    """The precision of a runner in capitals, "FP32" for TensorFlow."""
    return (runner_named(report, name).precision or Precision.FP32).name


def fastest(report: Mapping[str, Any], batch: int) -> Mapping[str, Any] | None:
    """The valid measurement with the lowest median at a batch size."""
    rows = [row for row in report["benchmarks"] if row["batch"] == batch and row["valid"] and row["p50_ms"]]
    return min(rows, key=lambda row: float(row["p50_ms"]), default=None)


def surely_faster(row: Mapping[str, Any]) -> bool:
    """Whether a measurement is faster than TensorFlow by more than noise; without an interval, by what was found."""
    if row.get("drifts") or not row.get("speedup"):
        return False
    least = row["speedup"] if row.get("speedup_low") is None else row["speedup_low"]
    return bool(least > 1)


def _accuracy(report: Mapping[str, Any]) -> str:
    runner = BASELINE if BASELINE in report["accuracy"] else next(iter(report["accuracy"]), None)
    if runner is None:
        return ""
    low, high = report["intervals"][runner]["accuracy"]
    photos = photos_in_groups(report["test_photos"], report["test_groups"], "held-out photo")
    value = percent(report["accuracy"][runner])
    return f"The classifier is right on {value} of {photos} (95 % interval {interval(low, high)})."


def _precision(report: Mapping[str, Any], runner: str) -> str:
    precision = precision_of(report, runner)
    compared = report["comparison"].get(runner)
    if compared is None:
        return ""
    photos, agreed = report["test_photos"], compared["agreed"]
    low, high = report["intervals"][runner]["agreement"]
    alike = f"{precision} answers like TensorFlow on {percent(agreed / photos)} ({interval(low, high)})"
    if agreed == photos:
        alike = f"{precision} gives the same answer as TensorFlow to every one of {many(photos, 'photo')}"
        alike += f" (95 % interval of the agreement {interval(low, high)})"
    change = compared["accuracy_change"]
    if change is None:
        return f"{alike}."
    sure = point_interval(compared["change_low"], compared["change_high"])
    lost, won = compared["only_reference"], compared["only_runner"]
    chance = "more than chance" if compared["p_value"] < _LIKELY else "chance could explain it"
    traded = f"{many(lost, 'right answer')} lost, {won} won"
    if lost == won:
        return f"{alike}; its accuracy is the same on these photos ({traded}; 95 % interval {sure} points)."
    told = f"{alike}; its accuracy changes by {points(change)} points ({sure}"
    return f"{told}; {traded}: {chance}, p = {compared['p_value']:.2g})."


def _recommended(report: Mapping[str, Any]) -> str:
    """What quantize advised against, from the validation photos."""
    found = (report["quantisation"].get("int8") or {}).get("recommended") or {}
    if found.get("precision") in (None, "int8"):
        return ""
    return f"quantize advises {found['precision'].upper()} instead of INT8: {found['why']}."


def _speed(report: Mapping[str, Any]) -> str:
    rows = sorted(report["benchmarks"], key=lambda row: int(row["batch"]))
    if not rows:
        return ""
    best = fastest(report, rows[0]["batch"])
    if best is None:
        return f"No valid speed could be measured: {next((row['reason'] for row in rows if not row['valid']), '')}."
    batch = "one photo at a time" if best["batch"] == 1 else f"{best['batch']} photos at a time"
    told = f"Fastest here, {batch}: {best['runner']} with {milliseconds(best['p50_ms'])} ms (median)"
    base = next(
        (r for r in report["benchmarks"] if (r["runner"], r["batch"]) == (BASELINE, best["batch"]) and r["valid"]), None
    )
    if base is None or base["p50_ms"] is None:
        return f"{told}; TensorFlow was not measured validly beside it."
    if best["runner"] == BASELINE:
        return f"{told}; nothing that ran here is faster than TensorFlow."
    sure = f" ({best['speedup_low']:.2f} to {best['speedup_high']:.2f})" if best.get("speedup_low") is not None else ""
    ratio = f"{best['speedup']:.1f} times{sure} as fast as TensorFlow ({milliseconds(base['p50_ms'])} ms)"
    if best.get("drifts"):
        return f"{told}, {ratio}; that ratio drifted meanwhile."
    return f"{told}, {ratio}{'' if surely_faster(best) else ', which may be noise'}."


def _engines(report: Mapping[str, Any]) -> str:
    told = []
    for flavour, name in FLAVOURS.items():
        cards = [card for card in report["engines"] if card["flavour"] == flavour]
        if not cards:
            continue
        precisions = joined(sorted({card["precision"].upper() for card in cards}))
        places = targets(sorted({target for card in cards for target in card["targets"]}))
        idle = [card for card in cards if card["runner"] not in report["agreement"]]
        text = f"{many(len(cards), f'{name} engine')} ({precisions}) built" + (f" for {places}" if places else "")
        if len(idle) == len(cards):
            text += ", not run on this machine"
        elif idle:
            text += f", {len(idle)} of them not run on this machine"
        told.append(text)
    return f"{joined(told)}." if told else ""
