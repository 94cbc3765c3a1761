"""The section of the report about training: its curves, its speed, and the results of other learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, percent, point_interval, seconds
from trtpoets.reporting.plots import curves_plot, rates_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Picture, Pictures, Section, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.fine_tuning import DistortedTraining, FineTuning
    from trtpoets.judge.train_benchmark import BottleneckRate, FineTuningRate, HeadResult, TrainBenchmark
    from trtpoets.reporting.model import Curves, Report
    from trtpoets.reporting.tables.inspection import Part

_NEAR = 0.05
"""Relative difference from the lowest cross-entropy that the few validation photos can hardly distinguish."""


def training_section(report: Report) -> Section | None:
    """Return the section with the curves of the training and the best step."""
    training = report.training
    if not training:
        return None
    kept = f"; step {training.best_step:,}, the best on the validation photos, was kept"
    note = f"The head of {report.backbone} was trained for {training.steps:,} steps"
    note = f"{note} in {seconds(training.seconds)}{kept}.{distorted_text(training.distorted)}"
    tuning = training.fine_tuning
    if tuning is None:
        return Section(note=note, plots=Pictures(lambda: _curves(training.curves, training.best_step)))

    def plots() -> list[Picture]:
        mark = "kept" if tuning.kept else "best"
        return _curves(training.curves, training.best_step) + _curves(tuning, tuning.best_step, "fine-tuning: ", mark)

    return Section(note=f"{note} {fine_tuning_text(tuning)}", plots=Pictures(plots))


def distorted_text(distorted: DistortedTraining | None) -> str:
    """Return sentences about distorted training photos, with a space before them; "" if there are none."""
    if distorted is None:
        return ""
    text = ""
    if distorted.variants:
        variants = many(distorted.variants, "distorted variant")
        text = f" {variants} of each training photo took part in the training of the head ({distorted.distortions})."
    return f"{text} Distortions: {distorted.why}." if distorted.why else text


def fine_tuning_text(tuning: FineTuning) -> str:
    """Return sentences about a fine-tuning: depth, duration, decision, and the test photos."""
    depth = f"the last {tuning.layers} of {tuning.total} layers" if tuning.layers < tuning.total else "all layers"
    text = f"Afterwards {depth} of the backbone were trained too, for {tuning.steps[-1]:,} steps in "
    text += f"{seconds(tuning.seconds)}; step 0 is the frozen backbone{_best_step(tuning)}. "
    text += f"{tuning.why[0].upper()}{tuning.why[1:]}."
    if tuning.test is not None:
        change = point_interval(tuning.test.low, tuning.test.high)
        text += f" On {many(tuning.test.photos, 'test photo')}, which decide nothing: {percent(tuning.test.before)} "
        text += f"frozen, {percent(tuning.test.after)} fine-tuned (interval of the change {change} points)."
    if tuning.trials:
        tried = [f"{trial.layers} layers {trial.cross_entropy:.3f}" for trial in tuning.trials]
        text += f" The depth was chosen by cross-entropy on training photos held out: {joined(tried)}."
    return text


def _best_step(tuning: FineTuning) -> str:
    """Return which step is best, and why the accuracy is not the value of the curve there, as a part of a sentence."""
    if not tuning.best_step:
        return ""
    halves = "to compare the networks, each half of the validation photos is classified at the best step of the other"
    return f", step {tuning.best_step:,} was the best of the last third; {halves}"


def _curves(curves: Curves | FineTuning, best: int, prefix: str = "", mark: str = "kept") -> list[Picture]:
    """Return a plot per measure with the curves of the training and validation photos."""
    steps = curves.steps
    plots = []
    for measure, train, validation in (
        ("accuracy", curves.train_accuracy, curves.validation_accuracy),
        ("cross-entropy", curves.train_cross_entropy, curves.validation_cross_entropy),
    ):
        unit = f"{prefix}{measure}"
        lines = {"train": train, "validation": validation}
        if steps and all(len(line) == len(steps) for line in lines.values()):
            ends = ", ".join(f"{split} {line[-1]:.3f}" for split, line in lines.items())
            plots.append(
                (curves_plot(unit, steps, lines, best, mark), f"{unit} over {steps[-1]} steps; at the end {ends}", "")
            )
    return plots


def train_benchmark_section(report: Report) -> Section | None:
    """Return the section that compares learning rates and devices."""
    benchmark = report.train_benchmark
    if not benchmark:
        return None
    return Section(
        note=" ".join(
            filter(
                None,
                (_bottlenecks(benchmark.bottlenecks), _fine_tuning(benchmark.fine_tuning), _best(benchmark.heads)),
            )
        ),
        columns=[
            ("learning rate", TEXT),
            ("device", TEXT),
            ("best step", NUMBER),
            ("accuracy", NUMBER),
            ("cross-entropy", NUMBER),
            ("time", NUMBER),
        ],
        caption="Accuracy and cross-entropy are those of the validation photos at the best step.",
        rows=rows_of(_rates(benchmark.heads)),
        plots=Pictures(lambda: _overlaid(benchmark.heads)),
    )


def train_benchmark_parts(benchmark: TrainBenchmark) -> list[Part]:
    """Return the same content as tables for the terminal."""
    speeds = [
        (rate.device, rate.by, f"{rate.photos_per_s:,.0f}", f"{rate.low:,.0f} to {rate.high:,.0f}")
        for rate in benchmark.bottlenecks
    ]
    steps = [
        (
            rate.device,
            f"{rate.layers} of {rate.total}",
            f"{rate.steps_per_s:.3g}",
            f"{rate.low:.3g} to {rate.high:.3g}",
            seconds(rate.step_seconds),
            f"{rate.training_steps:,} in {seconds(rate.training_seconds)}",
        )
        for rate in benchmark.fine_tuning
    ]
    heads = ["learning rate", "device", "best step>", "accuracy>", "cross-entropy>", "time>"]
    size = f", {benchmark.fine_tuning[0].batch_size} photos a step" if benchmark.fine_tuning else ""
    columns = ["device", "layers", "steps/s>", "rounds>", "one step>", "training, steps>"]
    return [
        ("Bottlenecks, from photo file to features", ["device", "by", "photos/s>", "rounds>"], speeds),
        *([(f"Fine-tuning, from photo file{size}", columns, steps)] if steps else []),
        ("The head: validation photos, at the best step", heads, [tuple(cells) for cells in _rates(benchmark.heads)]),
    ]


def _rates(heads: Sequence[HeadResult]) -> list[list[Any]]:
    rows = []
    for head in heads:
        cells = [f"{head.learning_rate:g}", head.device]
        if head.failed is not None:
            rows.append([*cells, "–", "–", "diverged", "–"])
            continue
        numbers = [percent(head.validation_accuracy), f"{head.validation_cross_entropy:.3f}"]
        rows.append([*cells, f"{head.best_step:,}", *numbers, seconds(head.seconds)])
    return rows


def _bottlenecks(rates: Sequence[BottleneckRate]) -> str:
    """Return a sentence with the bottlenecks per second of each device and the range over the rounds."""
    devices = [
        f"{rate.photos_per_s:,.0f} on the {rate.device.upper()} ({rate.low:,.0f} to {rate.high:,.0f})" for rate in rates
    ]
    photos = many(rates[0].photos, "photo")
    return f"Bottlenecks per second, from file to features, measured with {photos}: {joined(devices)}."


def _fine_tuning(rates: Sequence[FineTuningRate]) -> str:
    """Return a sentence with the steps of fine-tuning per second of each device; "" without any."""
    if not rates:
        return ""
    devices = [
        f"{rate.steps_per_s:.3g} on the {rate.device.upper()} ({rate.low:.3g} to {rate.high:.3g}), so that "
        f"{many(rate.training_steps, 'step')} take {seconds(rate.training_seconds)}"
        for rate in rates
    ]
    first = rates[0]
    return (
        f"Steps of fine-tuning {first.layers} of {first.total} layers per second, with "
        f"{many(first.batch_size, 'photo')} a step: {joined(devices)}."
    )


def _best(heads: Sequence[HeadResult]) -> str:
    """Return a sentence with the best learning rate on the validation photos; "" with one rate only."""
    lowest = {
        head.learning_rate: head.validation_cross_entropy
        for head in reversed(heads)
        if head.validation_cross_entropy is not None
    }
    if len({head.learning_rate for head in heads}) < 2 or not lowest:
        return ""
    best = min(lowest, key=lambda rate: lowest[rate])
    text = f"Of the learning rates, {best:g} has the lowest cross-entropy on the validation photos, {lowest[best]:.3f}"
    near = [f"{rate:g}" for rate in sorted(lowest) if rate != best and lowest[rate] <= (1 + _NEAR) * lowest[best]]
    return (
        f"{text}; {joined(near)} {'comes' if len(near) == 1 else 'come'} within {percent(_NEAR, 0)}."
        if near
        else f"{text}."
    )


def _overlaid(heads: Sequence[HeadResult]) -> list[Picture]:
    """Return a plot per measure with the validation curves of all learning rates."""
    curves = {head.learning_rate: head.curves for head in heads if head.curves and head.device == heads[0].device}
    accuracy = {f"{rate:g}": (own.steps, own.validation_accuracy) for rate, own in curves.items()}
    entropy = {f"{rate:g}": (own.steps, own.validation_cross_entropy) for rate, own in curves.items()}
    plots = []
    for unit, lines in (("validation accuracy", accuracy), ("validation cross-entropy", entropy)):
        if len(lines) > 1:
            ends = ", ".join(f"{rate} {values[-1]:.3f}" for rate, (_, values) in lines.items())
            plots.append((rates_plot(unit, lines), f"{unit} by learning rate; at the end {ends}", ""))
    return plots
