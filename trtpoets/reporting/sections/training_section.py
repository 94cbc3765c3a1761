"""A report -> how the head was trained, how fast training is here, and what other learning rates come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, percent, seconds
from trtpoets.reporting.plots import curves_plot, rates_plot
from trtpoets.reporting.sections.accuracy_sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.reporting.tables.inspection import Part

_NEAR = 0.05
"""Of the lowest cross-entropy: what validation photos, which are few, can hardly tell apart."""


def training_section(report: Mapping[str, Any]) -> Section | None:
    """The curves, and what was kept."""
    training = report["training"]
    if not training:
        return None
    curves, best = training["curves"], training.get("best_step")
    steps = curves.get("steps") or []
    plots = []
    for word, unit in (("accuracy", "accuracy"), ("cross_entropy", "cross-entropy")):
        lines = {split: curves.get(f"{split}_{word}") or [] for split in ("train", "validation")}
        if steps and all(len(line) == len(steps) for line in lines.values()):
            ends = ", ".join(f"{split} {line[-1]:.3f}" for split, line in lines.items())
            plots.append(
                (curves_plot(unit, steps, lines, best), f"{unit} over {steps[-1]} steps; at the end {ends}", "")
            )
    kept = f"; step {best:,}, the best on the validation photos, was kept" if best is not None else ""
    note = f"The head of {report['backbone']} was trained for {training['steps']:,} steps"
    note += f" in {seconds(training['seconds'])}" if training.get("seconds") is not None else ""
    return {"note": f"{note}{kept}.", "plots": plots}


def train_benchmark_section(report: Mapping[str, Any]) -> Section | None:
    """Learning rates beside each other, their curves overlaid, and photos/s of the bottlenecks."""
    found = report.get("train_benchmark")
    if not found:
        return None
    rows = [{"cells": cells} for cells in _rates(found["heads"])]
    return {
        "note": f"{_bottlenecks(found['bottlenecks'])} {_best(found['heads'])}".strip(),
        "columns": [
            ("learning rate", ""),
            ("device", ""),
            ("best step", "number"),
            ("accuracy", "number"),
            ("cross-entropy", "number"),
            ("time", "number"),
        ],
        "caption": "Accuracy and cross-entropy are those of the validation photos at the best step.",
        "rows": rows,
        "plots": _overlaid(found["heads"]),
    }


def train_benchmark_parts(found: Mapping[str, Any]) -> list[Part]:
    """The same as tables for the terminal."""
    speeds = [
        (each["device"], each["by"], f"{each['photos_per_s']:,.0f}", f"{each['low']:,.0f} to {each['high']:,.0f}")
        for each in found["bottlenecks"]
    ]
    heads = ["learning rate", "device", "best step>", "accuracy>", "cross-entropy>", "time>"]
    return [
        ("Bottlenecks, from photo file to features", ["device", "by", "photos/s>", "rounds>"], speeds),
        ("The head: validation photos, at the best step", heads, [tuple(cells) for cells in _rates(found["heads"])]),
    ]


def _rates(heads: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    rows = []
    for head in heads:
        cells = [f"{head['learning_rate']:g}", head["device"]]
        if "failed" in head:
            rows.append([*cells, "–", "–", "went astray", "–"])
            continue
        numbers = [percent(head["validation_accuracy"]), f"{head['validation_cross_entropy']:.3f}"]
        rows.append([*cells, f"{head['best_step']:,}", *numbers, seconds(head["seconds"])])
    return rows


def _bottlenecks(found: Sequence[Mapping[str, Any]]) -> str:
    """Photos a second of each device, with the range over the rounds."""
    told = [
        f"{each['photos_per_s']:,.0f} on the {each['device'].upper()} ({each['low']:,.0f} to {each['high']:,.0f})"
        for each in found
    ]
    photos = many(found[0]["photos"], "photo")
    return f"Bottlenecks a second, from file to features, measured with {photos}: {joined(told)}."


def _best(heads: Sequence[Mapping[str, Any]]) -> str:
    """Which rate the validation photos like best."""
    learnt = [head for head in heads if "failed" not in head]
    if len({head["learning_rate"] for head in heads}) < 2 or not learnt:
        return ""
    lowest = {float(head["learning_rate"]): float(head["validation_cross_entropy"]) for head in reversed(learnt)}
    best = min(lowest, key=lambda rate: lowest[rate])
    told = f"Of the learning rates, {best:g} has the lowest cross-entropy on the validation photos, {lowest[best]:.3f}"
    near = [f"{rate:g}" for rate in sorted(lowest) if rate != best and lowest[rate] <= (1 + _NEAR) * lowest[best]]
    return (
        f"{told}; {joined(near)} {'comes' if len(near) == 1 else 'come'} within {percent(_NEAR, 0)}."
        if near
        else f"{told}."
    )


def _overlaid(heads: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The validation curves of every rate in one picture for each measure."""
    first = heads[0]["device"] if heads else ""
    learnt = [head for head in heads if "failed" not in head and head["device"] == first]
    plots = []
    for word, unit in (("accuracy", "validation accuracy"), ("cross_entropy", "validation cross-entropy")):
        lines = {
            f"{head['learning_rate']:g}": (head["curves"]["steps"], head["curves"][f"validation_{word}"])
            for head in learnt
        }
        if len(lines) > 1:
            ends = ", ".join(f"{rate} {values[-1]:.3f}" for rate, (_, values) in lines.items())
            plots.append((rates_plot(unit, lines), f"{unit} by learning rate; at the end {ends}", ""))
    return plots
