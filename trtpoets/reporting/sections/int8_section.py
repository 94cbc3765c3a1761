"""The section of the report about INT8: its share of the network, what it costs, and the layers kept in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import joined, many, percent, shown
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Precision
from trtpoets.reporting.plots import histograms_plot, layers_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Listing, Picture, Row, Section, rows_of

if TYPE_CHECKING:
    from trtpoets.reporting.model import Calibration, Int8Summary, Report

_EQUAL_DB = 200.0
"""What is said of layers that give the same numbers as FP32: they are not drawn."""

_CLASSES = 8
"""At most this many classes are named with their photos."""


def int8_section(report: Report) -> Section | None:
    """The notes of quantisation on int8.onnx; parts that an earlier version did not record are left out."""
    notes = report.quantisation.int8
    if not notes:
        return None
    sentences = [
        _share(notes),
        _made_even(notes),
        *(_calibration(notes.calibration) if notes.calibration else []),
        *_afterwards(notes),
        _unfused(report),
    ]
    rows = _fidelity(notes)
    return Section(
        notes=[sentence for sentence in sentences if sentence],
        columns=[("", TEXT), ("features, dB", NUMBER), ("scores, dB", NUMBER), ("agreement", NUMBER)],
        caption=_caption(notes),
        rows=rows if len(rows) > 1 else [],
        plots=[*_plots(notes), *_histograms(notes)],
        lists=_in_float(notes),
    )


def _share(notes: Int8Summary) -> str:
    return (
        f"INT8: {percent(notes.share)} of the multiply-adds, in {notes.convolutions_int8} of "
        f"{many(notes.convolutions, 'convolution')} and {notes.products_int8} of "
        f"{many(notes.products, 'matrix product')}; "
        + (f"{many(len(notes.in_float), 'layer')} stayed in float." if notes.in_float else "nothing was left in float.")
    )


def _made_even(notes: Int8Summary) -> str:
    """What was done to tensors and weights before they were stepped, where it was."""
    scaled, rounded = notes.equalised, notes.rounded
    done = [f"the channels of {many(scaled, 'tensor')} were equalised"] if scaled else []
    if rounded:
        done.append(f"the weights of {many(rounded, 'layer')} were rounded jointly (GPTQ)")
    said = joined(done)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _calibration(calibration: Calibration) -> list[str]:
    """Where the ranges come from: photos, classes and method, and what the other methods would have given."""
    counts = calibration.per_class
    if not counts:
        return []
    each = f"{min(counts.values())} to {max(counts.values())} each"
    if len(counts) <= _CLASSES:
        each = joined([f"{shown(label)} {count}" for label, count in counts.items()])
    said = (
        f"Its ranges come from {many(sum(counts.values()), 'training photo')} of "
        f"{many(len(counts), 'class', 'classes')} ({each}), by the method {calibration.method}. "
        "None of them is a test photo."
    )
    trials = calibration.trials
    if len(trials) < 2:
        return [said]
    tried = [f"{name} {percent(trial.agreement)} ({_db(trial.features_db)})" for name, trial in trials.items()]
    return [
        said,
        f"Each method was tried on validation photos, for agreement with FP32 (noise of features): {joined(tried)}.",
    ]


def _afterwards(notes: Int8Summary) -> list[str]:
    """What was tried and judged once the graph was INT8."""
    head, recommended = notes.head, notes.recommended
    said = []
    if head:
        kept = "was kept" if head.kept else "was not kept"
        said.append(f"A last layer fitted to what the INT8 network gives {kept}: {shown(head.why)}.")
    if recommended:
        said.append(f"quantize advises {recommended.precision.upper()}: {shown(recommended.why)}.")
    return said


def _unfused(report: Report) -> str:
    """A caution, where ONNX Runtime's INT8 was timed."""
    runner = RunnerId(Library.ONNXRUNTIME, Precision.INT8)
    if not any(row.runner == runner for row in report.benchmarks):
        return ""
    return (
        "ONNX Runtime on a processor runs every Q/DQ pair as an operation of its own, where TensorRT fuses it into a "
        f"kernel: the speed of {runner.name} is no measure of an INT8 engine's."
    )


def _fidelity(notes: Int8Summary) -> list[Row]:
    """One row for each state of the network that was held against FP32, where noted: the last is what was written."""
    steps, written = notes.steps, notes.final
    final = notes.before_head or written
    stages = [("pairs alone", notes.plain), ("biases corrected", notes.corrected)]
    if notes.together != notes.corrected:
        stages.append(("weights rounded together", notes.together))
    if steps:
        stages.append((f"and the {many(len(steps), 'worst layer')} left in float", final))
    elif final != stages[-1][1]:
        stages.append(("as it was converted" if notes.before_head else "as written", final))
    if notes.before_head:
        stages.append(("as written, with its last layer fitted", written))
    return rows_of(
        [what, _db(fidelity.features_db), _db(fidelity.scores_db), percent(fidelity.agreement)]
        for what, fidelity in stages
        if fidelity
    )


def _caption(notes: Int8Summary) -> str:
    photos = notes.final.photos if notes.final else 0
    on = f" on {many(photos, 'validation photo')}" if photos else ""
    return f"Beside FP32{on}: signal to quantisation noise, and how often the first answer is the same."


def _plots(notes: Int8Summary) -> list[Picture]:
    layers = {name: value for name, value in notes.layers_db.items() if value < _EQUAL_DB}
    if len(layers) < 2:
        return []
    floats = [name for name in layers if name in notes.in_float]
    worst = min(layers, key=layers.__getitem__)
    alt = (
        f"Signal to quantisation noise after each of {many(len(layers), 'layer')}, in the network's order: lowest "
        f"{_db(layers[worst])} at {shown(worst)}, {_db(list(layers.values())[-1])} at the end"
    )
    caption = "Higher is nearer to FP32; noise of earlier layers is in it. Hollow: layers left in float."
    return [(layers_plot(list(layers.values()), [name in floats for name in layers]), alt, caption)]


def _histograms(notes: Int8Summary) -> list[Picture]:
    """What the INT8 layers farthest from FP32 read, and where that is cut."""
    worst = notes.histograms
    if not worst:
        return []
    layers = [
        f"{shown(read.layer)} ({_db(read.db)}) reads up to {read.top:.3g}"
        + (f", clipped at {read.limit:.3g}" if read.limit < read.top else ", not clipped")
        for read in worst
    ]
    rows = [(shown(read.layer), read.limit, read.top, read.shares) for read in worst]
    alt = f"Magnitudes that {many(len(worst), 'layer')} read on the calibration photos: {'; '.join(layers)}"
    caption = (
        "What the INT8 layers with the most noise read, the noisiest first: the share of values by magnitude, on the "
        "calibration photos. "
        "Dashed: the largest that INT8 holds; larger values are clipped to it."
    )
    return [(histograms_plot(rows), alt, caption)]


def _in_float(notes: Int8Summary) -> list[Listing]:
    """Each layer left in float, with the reason."""
    if not notes.in_float:
        return []
    lines = [shown(f"{name}: {why}") for name, why in notes.in_float.items()]
    return [Listing(f"{many(len(lines), 'layer')} in float, and why", lines)]


def _db(value: float) -> str:
    return "exact" if value >= _EQUAL_DB else f"{value:.1f} dB".replace("-", "\u2212")
