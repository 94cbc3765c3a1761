"""The section of the report about INT8: its share of the network, what it costs, and the layers kept in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import joined, many, percent, shown
from trtpoets.core.runner_id import INT8_ONNX
from trtpoets.core.types import Precision
from trtpoets.reporting.plots import frontier_plot, histograms_plot, layers_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Listing, Picture, Pictures, Row, Section, rows_of

if TYPE_CHECKING:
    from trtpoets.reporting.model import Calibration, Int8Summary, Report

_EQUAL_DB = 200.0
"""The SQNR in dB of layers whose values equal FP32; they are not drawn."""

_CLASSES = 8
"""At most this many classes are named with their photos."""


def int8_section(report: Report) -> Section | None:
    """The notes of quantisation on int8.onnx; parts that an earlier version did not record are left out."""
    notes = report.quantisation.int8
    if not notes:
        return None
    sentences = [
        _share(notes),
        _weights_and_channels(notes),
        *(_calibration(notes.calibration) if notes.calibration else _own_scales(report)),
        _distillation(notes),
        *_head_and_advice(notes),
        *_for_cpus(report),
        _for_tflite(report),
        _unfused(report),
    ]
    rows = _fidelity(notes) if notes.calibration or not _own_scales(report) else []
    return Section(
        notes=[sentence for sentence in sentences if sentence],
        columns=[("", TEXT), ("features, dB", NUMBER), ("scores, dB", NUMBER), ("agreement", NUMBER)],
        caption=_caption(notes),
        rows=rows if len(rows) > 1 else [],
        plots=Pictures(lambda: [*_plots(notes), *_histograms(notes), *_frontier(notes), *_frontier_for_cpus(report)]),
        lists=_in_float(notes),
    )


def _share(notes: Int8Summary) -> str:
    return (
        f"INT8: {percent(notes.share)} of the multiply-adds, in {notes.convolutions_int8} of "
        f"{many(notes.convolutions, 'convolution')} and {notes.products_int8} of "
        f"{many(notes.products, 'MatMul')}; "
        + (f"{many(len(notes.in_float), 'layer')} stayed in float." if notes.in_float else "none stayed in float.")
    )


def _weights_and_channels(notes: Int8Summary) -> str:
    """Return a sentence about equalisation and GPTQ; "" without either."""
    scaled, rounded = notes.equalised, notes.rounded
    done = [f"the channels of {many(scaled, 'tensor')} were equalised"] if scaled else []
    if rounded:
        done.append(f"the weights of {many(rounded, 'layer')} were rounded jointly (GPTQ)")
    text = joined(done)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _own_scales(report: Report) -> list[str]:
    """Return a sentence about the scales of an adopted file; [] for a classifier that trtpoets trained."""
    original = None if report.spec is None else report.spec.original
    return [] if original is None else [f"Its scales are those of {shown(original.file)}, used as they are."]


def _calibration(calibration: Calibration) -> list[str]:
    """Return sentences about the calibration: photos, classes, method, and the results of the other methods."""
    counts = calibration.per_class
    if not counts:
        return []
    per_class = f"{min(counts.values())} to {max(counts.values())} each"
    if len(counts) <= _CLASSES:
        per_class = joined([f"{shown(label)} {count}" for label, count in counts.items()])
    origin = (
        f"Its ranges come from {many(sum(counts.values()), 'training photo')} of "
        f"{many(len(counts), 'class', 'classes')} ({per_class}), by the method {calibration.method}. "
        "None of them is a test photo."
    )
    trials = calibration.trials
    if len(trials) < 2:
        return [origin]
    tried = [f"{name} {percent(trial.agreement)} ({_db(trial.features_db)})" for name, trial in trials.items()]
    counts_of_trials = sorted({trial.photos for trial in trials.values()})
    photos = many(counts_of_trials[-1], "validation photo")
    if len(counts_of_trials) > 1:
        few = joined([name for name, trial in trials.items() if trial.photos < counts_of_trials[-1]])
        photos += f" ({few} on {counts_of_trials[0]:,} of them only, where they were worse)"
    return [
        origin,
        f"Each method was tried on {photos}, for agreement with FP32 (and SQNR of features): {joined(tried)}.",
    ]


def _distillation(notes: Int8Summary) -> str:
    """Return a sentence about the distilled network; "" if it was not asked for."""
    result = notes.distilled
    if not result:
        return ""
    if not result.kept:
        return f"The network was to be distilled from FP32, but is as before: {shown(result.why)}."
    return (
        f"Weights and scales were trained towards the features of FP32 ({many(result.steps, 'step')} on "
        f"{many(result.photos, 'training photo')}, without labels); the result was kept: {shown(result.why)}."
    )


def _head_and_advice(notes: Int8Summary) -> list[str]:
    """Return sentences about the refitted head and the recommendation of quantize."""
    head, recommended = notes.head, notes.recommended
    sentences = []
    if head:
        kept = "was kept" if head.kept else "was not kept"
        sentences.append(f"The last layer was refitted to the INT8 features; the result {kept}: {shown(head.why)}.")
    if recommended:
        sentences.append(f"quantize advises {recommended.precision.upper()}: {shown(recommended.why)}.")
    return sentences


def _for_cpus(report: Report) -> list[str]:
    """Return sentences about the form for CPUs, and the sizes of both forms; [] without it."""
    notes, other = report.quantisation.int8_cpu, report.quantisation.int8
    if notes is None:
        return []
    sizes = ""
    if notes.size is not None and other is not None and other.size is not None:
        sizes = f" It has {100 * notes.size:.0f} % of the size of fp32.onnx, int8.onnx {100 * other.size:.0f} %."
    islands = ""
    if notes.islands is not None:
        count = len(notes.islands)
        islands = f"; {many(count, 'operator') if count else 'no operator'} between them is computed in float"
    about = (
        "INT8 has two files. int8.onnx is for TensorRT, and this section is about it. int8.cpu.onnx is for ONNX "
        f"Runtime on CPUs, which computes {percent(notes.share)} of its multiply-adds in integers{islands}.{sizes} "
        "Each has its own rows in the tables of accuracy and of all photos."
    )
    texts = [about]
    if notes.head:
        kept = "was kept" if notes.head.kept else "was not kept"
        texts.append(f"The last layer of int8.cpu.onnx was refitted too; the result {kept}: {shown(notes.head.why)}.")
    if notes.recommended:
        advised = notes.recommended
        texts.append(f"For CPUs quantize advises {advised.precision.upper()}: {shown(advised.why)}.")
    return texts


def _for_tflite(report: Report) -> str:
    """Return a sentence about int8.tflite; "" without it."""
    notes = report.quantisation.int8_tflite
    if notes is None:
        return ""
    text = f"int8.tflite is for TFLite; it has {100 * notes.size:.0f} % of the size of fp32.tflite."
    advised = notes.recommended
    return f"{text} For TFLite bundle advises {advised.precision.upper()}: {shown(advised.why)}." if advised else text


def _unfused(report: Report) -> str:
    """Return a warning if INT8 was timed with ONNX Runtime; else ""."""
    if not any(row.runner == INT8_ONNX for row in report.benchmarks):
        return ""
    return (
        "ONNX Runtime on a CPU runs every Q/DQ pair as a separate operation, whereas TensorRT fuses it into a kernel: "
        f"the speed of {INT8_ONNX.name} says nothing about that of an INT8 engine."
    )


def _fidelity(notes: Int8Summary) -> list[Row]:
    """Return a row for each recorded state of the network, compared with FP32; the last is the written file."""
    steps, written = notes.steps, notes.final
    final = converted = notes.before_head or written
    if notes.before_distillation:
        final = notes.before_distillation
    stages = [("Q/DQ pairs only", notes.plain), ("biases corrected", notes.corrected)]
    if notes.together != notes.corrected:
        stages.append(("weights rounded by GPTQ", notes.together))
    if steps:
        stages.append((f"and the {many(len(steps), 'worst layer')} kept in float", final))
    elif final != stages[-1][1]:
        stages.append(("as converted" if notes.before_head else "as written", final))
    if notes.before_distillation:
        stages.append(("distilled", converted))
    if notes.before_head:
        stages.append(("as written, with the refitted last layer", written))
    return rows_of(
        [what, _db(fidelity.features_db), _db(fidelity.scores_db), percent(fidelity.agreement)]
        for what, fidelity in stages
        if fidelity
    )


def _caption(notes: Int8Summary) -> str:
    photos = notes.final.photos if notes.final else 0
    on = f" on {many(photos, 'validation photo')}" if photos else ""
    return f"Compared with FP32{on}: SQNR, and the share of photos with the same answer (agreement)."


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
    caption = "Higher is closer to FP32; the noise of earlier layers is included. Hollow: layers kept in float."
    return [(layers_plot(list(layers.values()), [name in floats for name in layers]), alt, caption)]


def _frontier(notes: Int8Summary) -> list[Picture]:
    """Return the plot of the mixes that the search tried, from the fastest on; none if it kept no layer in float."""
    points = notes.frontier
    if len(points) < 2:
        return []
    mixes = [
        f"{many(point.layers, 'layer')} in float: {percent(point.share)} in INT8, {point.time:.2f} of FP16's time, "
        f"{_db(point.fidelity.features_db)}, agreement {percent(point.fidelity.agreement)}"
        for point in points
    ]
    alt = f"The mixes that the search tried: {'; '.join(mixes)}"
    caption = (
        f"From the fastest mix to the one that was written (circle), with {many(points[-1].layers, 'layer')} in float "
        f"and {percent(points[-1].share)} of the multiply-adds in INT8. The time is estimated from bytes and "
        "multiply-adds for a batch on a GPU like NVIDIA's T4; it is not measured."
    )
    values = [(point.time, point.fidelity.features_db) for point in points]
    return [(frontier_plot(values, len(points) - 1, "estimated time relative to FP16"), alt, caption)]


def _frontier_for_cpus(report: Report) -> list[Picture]:
    """Return the same plot for int8.cpu.onnx, of which the written mix is the first one or the last one."""
    notes = report.quantisation.int8_cpu
    if notes is None or len(notes.frontier) < 2:
        return []
    points = notes.frontier
    mixes = [
        f"{many(point.layers, 'layer')} in float: {percent(point.share)} in INT8, {_db(point.fidelity.features_db)}, "
        f"agreement {percent(point.fidelity.agreement)}"
        for point in points
    ]
    alt = f"The mixes that the search tried for int8.cpu.onnx: {'; '.join(mixes)}"
    written = next((index for index, point in enumerate(points) if point.layers == len(notes.steps)), 0)
    advised = notes.recommended is not None and notes.recommended.precision is Precision.INT8
    why = ""
    if not written:
        why = ", because quantize does not recommend the file with them either"
    elif advised:
        why = ", because quantize recommends the file with them, and not without"
    caption = (
        f"int8.cpu.onnx with up to {many(points[-1].layers, 'layer')} in float. The circle is the mix that was "
        f"written, with {many(points[written].layers, 'layer')} in float{why}."
    )
    values = [(100 * (1 - point.share), point.fidelity.features_db) for point in points]
    return [(frontier_plot(values, written, "multiply-adds in float, %"), alt, caption)]


def _histograms(notes: Int8Summary) -> list[Picture]:
    """Return the histograms of the inputs of the INT8 layers with the lowest SQNR, and where INT8 clips them."""
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
        "The inputs of the INT8 layers with the lowest SQNR, lowest first: the share of values by magnitude, on the "
        "calibration photos. Dashed: the largest magnitude that INT8 represents; larger values are clipped to it."
    )
    return [(histograms_plot(rows), alt, caption)]


def _in_float(notes: Int8Summary) -> list[Listing]:
    """Return the layers kept in float, with the reasons."""
    if not notes.in_float:
        return []
    lines = [shown(f"{name}: {why}") for name, why in notes.in_float.items()]
    return [Listing(f"{many(len(lines), 'layer')} in float, and why", lines)]


def _db(value: float) -> str:
    return "exact" if value >= _EQUAL_DB else f"{value:.1f} dB".replace("-", "\u2212")
