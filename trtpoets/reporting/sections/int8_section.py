"""A report -> the page's section on INT8: how much of it there is, what it costs, and what stayed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, percent, shown
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Precision
from trtpoets.reporting.plots import histograms_plot, layers_plot
from trtpoets.reporting.sections.accuracy_sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EQUAL_DB = 200.0
"""What is said of layers that give the same numbers as FP32: they are not drawn."""

_CLASSES = 8
"""At most this many classes are named with their photos."""


def int8_section(report: Mapping[str, Any]) -> Section | None:
    """What quantisation noted about int8.onnx; parts that an earlier version did not note are left out."""
    notes = report["quantisation"].get("int8")
    if not notes:
        return None
    told = [
        _share(notes),
        _made_even(notes),
        *_calibration(notes.get("calibration") or {}),
        *_afterwards(notes),
        _unfused(report),
    ]
    rows = _fidelity(notes)
    return {
        "notes": [sentence for sentence in told if sentence],
        "columns": [("", ""), ("features, dB", "number"), ("scores, dB", "number"), ("agreement", "number")],
        "caption": _caption(notes),
        "rows": rows if len(rows) > 1 else [],
        "plots": [*_plots(notes), *_histograms(notes)],
        "lists": _in_float(notes),
    }


def _share(notes: Mapping[str, Any]) -> str:
    return (
        f"INT8: {percent(notes['share'])} of the multiply-adds, in {notes['convolutions_int8']} of "
        f"{many(notes['convolutions'], 'convolution')} and {notes['products_int8']} of "
        f"{many(notes['products'], 'matrix product')}; "
        + (
            f"{many(len(notes['in_float']), 'layer')} stayed in float."
            if notes["in_float"]
            else "nothing was left in float."
        )
    )


def _made_even(notes: Mapping[str, Any]) -> str:
    """What was done to tensors and weights before they were stepped, where it was."""
    scaled, rounded = notes.get("equalised"), notes.get("rounded")
    done = [f"the channels of {many(scaled, 'tensor')} were brought to like sizes"] if scaled else []
    if rounded:
        done.append(f"the weights of {many(rounded, 'layer')} were rounded together, not one by one")
    said = joined(done)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _calibration(calibration: Mapping[str, Any]) -> list[str]:
    """Where the ranges come from: photos, classes and method, and what the other methods would have given."""
    counts = calibration.get("per_class")
    if not counts:
        return []
    each = f"{min(counts.values())} to {max(counts.values())} each"
    if len(counts) <= _CLASSES:
        each = joined([f"{shown(label)} {count}" for label, count in counts.items()])
    said = (
        f"Its ranges come from {many(sum(counts.values()), 'training photo')} of "
        f"{many(len(counts), 'class', 'classes')} ({each}), by the method {calibration['method']}. "
        "None of them is a test photo."
    )
    trials = calibration.get("trials") or {}
    if len(trials) < 2:
        return [said]
    tried = [f"{name} {percent(found['agreement'])} ({_db(found['features_db'])})" for name, found in trials.items()]
    return [
        said,
        f"Each method was tried on validation photos, for agreement with FP32 (noise of features): {joined(tried)}.",
    ]


def _afterwards(notes: Mapping[str, Any]) -> list[str]:
    """What was tried and judged once the graph was INT8."""
    head, recommended = notes.get("head"), notes.get("recommended")
    said = []
    if head:
        kept = "was kept" if head["kept"] else "was not kept"
        said.append(f"A last layer fitted to what the INT8 network gives {kept}: {shown(head['why'])}.")
    if recommended:
        said.append(f"quantize advises {recommended['precision'].upper()}: {shown(recommended['why'])}.")
    return said


def _unfused(report: Mapping[str, Any]) -> str:
    """A caution, where ONNX Runtime's INT8 was timed."""
    runner = RunnerId(Library.ONNXRUNTIME, Precision.INT8)
    if not any(row["runner"] == runner.name for row in report["benchmarks"]):
        return ""
    return (
        "ONNX Runtime on a processor runs every Q/DQ pair as an operation of its own, where TensorRT fuses it into a "
        f"kernel: the speed of {runner.name} is no measure of an INT8 engine's."
    )


def _fidelity(notes: Mapping[str, Any]) -> list[Section]:
    """One row for each state of the network that was held against FP32, where noted: the last is what was written."""
    steps, written = notes.get("steps") or [], notes.get("final")
    final = notes.get("before_head") or written
    stages = [("pairs alone", notes.get("plain")), ("biases corrected", notes.get("corrected"))]
    if notes.get("together") != notes.get("corrected"):
        stages.append(("weights rounded together", notes.get("together")))
    if steps:
        stages.append((f"and the {many(len(steps), 'worst layer')} left in float", final))
    elif final != stages[-1][1]:
        stages.append(("as it was converted" if notes.get("before_head") else "as written", final))
    if notes.get("before_head"):
        stages.append(("as written, with its last layer fitted", written))
    return [
        {"cells": [what, _db(found["features_db"]), _db(found["scores_db"]), percent(found["agreement"])]}
        for what, found in stages
        if found
    ]


def _caption(notes: Mapping[str, Any]) -> str:
    photos = (notes.get("final") or {}).get("photos")
    on = f" on {many(photos, 'validation photo')}" if photos else ""
    return f"Beside FP32{on}: signal to quantisation noise, and how often the first answer is the same."


def _plots(notes: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    layers = {name: value for name, value in (notes.get("layers_db") or {}).items() if value < _EQUAL_DB}
    if len(layers) < 2:
        return []
    floats = [name for name in layers if name in notes["in_float"]]
    worst = min(layers, key=layers.__getitem__)
    alt = (
        f"Signal to quantisation noise after each of {many(len(layers), 'layer')}, in the network's order: lowest "
        f"{_db(layers[worst])} at {shown(worst)}, {_db(list(layers.values())[-1])} at the end"
    )
    caption = "Higher is nearer to FP32; noise of earlier layers is in it. Hollow: layers left in float."
    return [(layers_plot(list(layers.values()), [name in floats for name in layers]), alt, caption)]


def _histograms(notes: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the INT8 layers farthest from FP32 read, and where that is cut."""
    worst = notes.get("histograms") or []
    if not worst:
        return []
    told = [
        f"{shown(each['layer'])} ({_db(each['db'])}) reads up to {each['top']:.3g}"
        + (f", cut at {each['limit']:.3g}" if each["limit"] < each["top"] else ", none of it cut")
        for each in worst
    ]
    rows = [(shown(each["layer"]), each["limit"], each["top"], each["shares"]) for each in worst]
    alt = f"Magnitudes that {many(len(worst), 'layer')} read on the calibration photos: {'; '.join(told)}"
    caption = (
        "What the INT8 layers with the most noise read, the noisiest first: the share of values by magnitude, on the "
        "calibration photos. "
        "Dashed: the largest that INT8 holds; what lies beyond is cut to it."
    )
    return [(histograms_plot(rows), alt, caption)]


def _in_float(notes: Mapping[str, Any]) -> list[Section]:
    """Each layer left in float, with the reason."""
    kept: Mapping[str, str] = notes["in_float"]
    if not kept:
        return []
    lines: Sequence[str] = [shown(f"{name}: {why}") for name, why in kept.items()]
    return [{"title": f"{many(len(kept), 'layer')} in float, and why", "lines": lines}]


def _db(value: float) -> str:
    return "exact" if value >= _EQUAL_DB else f"{value:.1f} dB".replace("-", "\u2212")
