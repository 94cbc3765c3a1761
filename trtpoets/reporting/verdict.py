"""The verdict of a report in sentences: accuracy, the cost of reduced precisions, the fastest runner, the engines.

Sentences contain numbers of the report with their intervals; there is none about what was not measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import interval, joined, many, milliseconds, percent, point_interval, points, targets
from trtpoets.core.runner_id import INT8_FOR_CPUS, INT8_ONNX, INT8_TFLITE, RunnerId
from trtpoets.core.types import Int8Form, Precision
from trtpoets.judge.gate import photos_in_groups
from trtpoets.reporting.gate_summary import gate_sentence
from trtpoets.reporting.model import Sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.judge.bench.measure import Measurement
    from trtpoets.reporting.model import Report

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
"""The titles of the groups of sentences, in the order of the page."""

UNKNOWN = (None, None)
"""An interval that is not known."""

_SIGNIFICANT = 0.05
"""The p-value below which a change is called significant."""


def verdict_from_report(report: Report) -> list[Sentence]:
    """Return the sentences in order of importance; the report puts one about "ship" before them."""
    sentences = [("accuracy", _accuracy(report))]
    narrow = narrow_runners(report)
    int8 = [runner for runner in narrow if runner_named(report, runner).precision is Precision.INT8]
    sentences += [("precision", _precision(report, runner)) for runner in narrow if runner not in int8]
    sentences += [("precision", text) for text in _on_all_photos(report, int8)]
    sentences += [("precision", _precision(report, runner)) for runner in int8]
    sentences += [("gate", gate_sentence(report.gate)), ("recommended", _recommended(report))]
    sentences += [("speed", _speed(report)), ("engines", _engines(report))]
    return [Sentence(about, text) for about, text in sentences if text]


def verdict_groups(report: Report) -> list[tuple[str, list[str]]]:
    """Return the sentences grouped by title, in the order of the page."""
    groups = []
    for about, title in _TITLES.items():
        texts = [sentence.text for sentence in report.verdict if sentence.about == about]
        if texts:
            groups.append((title, texts))
    return groups


def narrow_runners(report: Report) -> list[str]:
    """Return one evaluated runner for each of FP16 and INT8: an engine if one ran, else ONNX Runtime.

    Without an engine, INT8 is the file for CPUs if there is one.
    """
    chosen = []
    runners_by_name = {name: runner_named(report, name) for name in report.agreement}
    for precision in (Precision.FP16, Precision.INT8):
        runners = [name for name, runner in runners_by_name.items() if runner.precision is precision]
        chosen += sorted(runners, key=lambda name: _preference(runners_by_name[name]))[:1]
    return chosen


def _preference(runner: RunnerId) -> tuple[bool, bool]:
    """Return the sort key of runners of one precision: engines first, then the form for CPUs."""
    return not runner.is_engine, runner.form is not Int8Form.CPU


def runner_named(report: Report, name: str) -> RunnerId:
    """Return the runner with this name."""
    return report.runners[name].runner


def file_of(runner: RunnerId) -> str:
    """Return the file that a runner runs, and the runner if it is an engine: "int8.onnx (as rtx-int8)"."""
    return f"{runner.file} (as {runner.name})" if runner.is_engine else runner.file


def precision_of(report: Report, name: str) -> str:
    """Return the precision of a runner in capitals, "FP32" for TensorFlow."""
    return (runner_named(report, name).precision or Precision.FP32).name


def fastest(report: Report, batch: int) -> Measurement | None:
    """Return the valid measurement with the lowest median at a batch size; None without one."""
    rows = [row for row in report.benchmarks if row.batch == batch and row.valid and row.p50_ms]
    return min(rows, key=lambda row: row.p50_ms or 0.0, default=None)


def significantly_faster(row: Measurement) -> bool:
    """Return whether a runner is faster than TensorFlow by more than noise; without an interval, by the ratio alone."""
    if row.drifts or not row.speedup:
        return False
    return (row.speedup if row.speedup_low is None else row.speedup_low) > 1


def _accuracy(report: Report) -> str:
    runner = main_runner(report)
    if runner is None:
        return ""
    photos = photos_in_groups(
        report.test_photos,
        report.test_groups,
        "test photo" if report.spec and report.spec.original else "held-out photo",
    )
    value = percent(report.accuracy[runner])
    interval_text = interval(*report.intervals[runner].accuracy or UNKNOWN)
    return f"The classifier is right on {value} of {photos} (95 % interval {interval_text})."


def main_runner(report: Report) -> str | None:
    """Return the runner whose accuracy is named first: the baseline, or else the first one that was evaluated."""
    baseline = report.baseline.name
    return baseline if baseline in report.accuracy else next(iter(report.accuracy), None)


def _precision(report: Report, runner: str) -> str:
    precision = precision_of(report, runner)
    compared = report.comparison.get(runner)
    if compared is None:
        return ""
    photos, agreed = report.test_photos, compared.agreed
    test_photos = photos_in_groups(photos, report.test_groups, "test photo")
    identity = runner_named(report, runner)
    interval_text = interval(*report.intervals[runner].agreement or UNKNOWN)
    if identity.precision is Precision.INT8:
        precision += f"{' for CPUs' if identity.form is Int8Form.CPU else ''}, {file_of(identity)},"
    alike = (
        f"{precision} gives the same answer as {report.baseline_text} for {percent(agreed / photos)} of {test_photos} "
        f"({interval_text})"
    )
    if agreed == photos:
        alike = f"{precision} gives the same answer as {report.baseline_text} for each of {test_photos}"
        alike += f" (95 % interval of the agreement {interval_text})"
    change = compared.accuracy_change
    if change is None:
        return f"{alike}."
    interval_text = point_interval(compared.change_low, compared.change_high)
    lost, won = compared.only_reference, compared.only_runner
    chance = "significant" if compared.p_value < _SIGNIFICANT else "not significant"
    lost_and_won = f"{many(lost, 'right answer')} lost, {won} won"
    if lost == won:
        return (
            f"{alike}; its accuracy is the same on these photos ({lost_and_won}; 95 % interval {interval_text} points)."
        )
    changed = f"{alike}; its accuracy changes by {points(change)} points ({interval_text}"
    return f"{changed}; {lost_and_won}: {chance}, p = {compared.p_value:.2g})."


def _on_all_photos(report: Report, runners: Sequence[str]) -> list[str]:
    """Return a sentence for each file that was compared on all photos, those that `runners` run first."""
    texts = []
    first = {runner_named(report, name).file for name in runners}
    measured = [item for item in report.all_photos.files if item.photos] if report.all_photos else []
    for item in sorted(measured, key=lambda item: item.file not in first):
        compared, count = item.comparison, photos_in_groups(item.photos, item.groups)
        cross_fitted = report.all_photos is not None and report.all_photos.folds
        heads = ", each classified by a head trained without it" if cross_fitted else ""
        text = f"On all {count} {item.counted_photos}{heads}, {item.file} gives the same answer as FP32 for "
        text += f"{percent(item.agreement)} ({interval(item.agreement_low, item.agreement_high)})"
        if compared.accuracy_change is not None:
            text += f"; its accuracy is {percent(item.accuracy)}, FP32's on these photos {percent(item.fp32_accuracy)}"
            text += f", which is a change by {points(compared.accuracy_change)} points"
            text += f" ({point_interval(compared.change_low, compared.change_high)})"
        texts.append(f"{text}.")
    return texts


def _recommended(report: Report) -> str:
    """Return the advice of quantize and bundle against INT8; "" without it."""
    texts = []
    for maker, runner, name in (
        ("quantize", INT8_ONNX, "INT8"),
        ("quantize", INT8_FOR_CPUS, INT8_FOR_CPUS.file),
        ("bundle", INT8_TFLITE, INT8_TFLITE.file),
    ):
        advice = report.quantisation.advice_on(runner)
        if advice is not None and advice.precision != Precision.INT8.value:
            texts.append(f"{maker} advises {advice.precision.upper()} instead of {name}: {advice.why}.")
    return " ".join(texts)


def _speed(report: Report) -> str:
    rows = sorted(report.benchmarks, key=lambda row: row.batch)
    if not rows:
        return ""
    best = fastest(report, rows[0].batch)
    if best is None:
        return f"No valid speed could be measured: {next((row.reason for row in rows if not row.valid), '')}."
    batch = "one photo at a time" if best.batch == 1 else f"{best.batch} photos at a time"
    text = f"Fastest here, {batch}: {best.runner.name} with {milliseconds(best.p50_ms)} ms (median)"
    base = next((row for row in rows if (row.runner, row.batch) == (report.baseline, best.batch) and row.valid), None)
    if base is None or base.p50_ms is None:
        return f"{text}; {report.baseline_text} has no valid measurement at that batch size."
    if best.runner == report.baseline:
        return f"{text}; no other runner that was measured here is faster."
    return f"{text}, {_ratio_text(best, f'{report.baseline_text} ({milliseconds(base.p50_ms)} ms)')}."


def _ratio_text(row: Measurement, baseline: str) -> str:
    """Return how many times as fast as the baseline a runner is, and how certain that is."""
    if row.is_unclear:
        return (
            f"{row.speedup:.1f} times as fast as {baseline}; the rounds differed so much that this ratio is not known "
            "to a factor of two"
        )
    interval_text = f" ({row.speedup_low:.2f} to {row.speedup_high:.2f})" if row.speedup_low is not None else ""
    text = f"{row.speedup:.1f} times{interval_text} as fast as {baseline}"
    if row.drifts:
        return f"{text}; that ratio drifted during the measurement"
    return text if significantly_faster(row) else f"{text}, which may be noise"


def _engines(report: Report) -> str:
    texts = []
    for flavour, name in FLAVOURS.items():
        engines = [engine for engine in report.engines if engine.flavour == flavour]
        if not engines:
            continue
        precisions = joined(sorted({(engine.runner.precision or Precision.FP32).name for engine in engines}))
        places = targets(sorted({target for engine in engines for target in engine.targets}))
        idle = [engine for engine in engines if engine.runner.name not in report.agreement]
        text = f"{many(len(engines), f'{name} engine')} ({precisions}) built" + (f" for {places}" if places else "")
        if len(idle) == len(engines):
            text += ", not run on this machine"
        elif idle:
            text += f", {len(idle)} of them not run on this machine"
        texts.append(text)
    return f"{joined(texts)}." if texts else ""
