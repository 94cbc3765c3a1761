"""The sections of the report about accuracy, photos, engines, and the ONNX files of each precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import (
    built_for,
    interval,
    joined,
    many,
    percent,
    point_interval,
    points,
    seconds,
    shown,
    size,
    tiny,
)
from trtpoets.core.types import Split
from trtpoets.judge.gate import photos_in_groups
from trtpoets.reporting.plots import accuracy_plot
from trtpoets.reporting.sections.adoption_section import parity_sentence
from trtpoets.reporting.sections.section import NUMBER, TEXT, Listing, Pictures, Row, Section, Value, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.reporting.model import DatasetSummary, Report

_UNEVEN = 3.0
"""A class with this many times the photos of another one is mentioned."""

_FEW = 10
"""With fewer test photos, one more mistake moves a class's recall by more than ten points."""

CLASSES = 30
"""The most classes with a row of their own."""

_NODES = 6
"""The most nodes of a network that are named in a sentence."""

_UNKNOWN = (None, None)

_GROUPS = (
    "; copies of a photo, near-copies and photos of one object form a group, and count less than independent photos"
)


def accuracy_section(report: Report) -> Section | None:
    """Return the section with accuracy and agreement of every evaluated runner, with intervals."""
    if not report.intervals:
        return None
    rows = []
    for runner, bounds in report.intervals.items():
        compared = report.comparison.get(runner)
        change = Value(points(None))
        if compared:
            change = Value(points(compared.accuracy_change), point_interval(compared.change_low, compared.change_high))
        rows.append(
            Row(
                [
                    runner,
                    Value(percent(report.accuracy.get(runner)), interval(*bounds.accuracy or _UNKNOWN)),
                    Value(percent(report.agreement.get(runner)), interval(*bounds.agreement or _UNKNOWN)),
                    change,
                ]
            )
        )
    measured = [
        (runner, report.accuracy[runner], *bounds.accuracy)
        for runner, bounds in report.intervals.items()
        if runner in report.accuracy and bounds.accuracy
    ]
    alt = "Accuracy: " + ", ".join(f"{name} {percent(value)}" for name, value, _, _ in measured)
    caption = "Dots are the measured values, bands the 95 % intervals."
    grouped = _GROUPS if report.test_groups < report.test_photos else ""
    return Section(
        note=f"Measured on {photos_in_groups(report.test_photos, report.test_groups)}, {_held_out(report)}. "
        f"Agreement is the share of photos for which a runner gives the same label as {report.baseline_text}, right or "
        "wrong. "
        f"Ranges are 95 % intervals (Wilson's; Tango's for the change){grouped}.",
        columns=[("runner", TEXT), ("accuracy", NUMBER), ("agreement", NUMBER), ("change, points", NUMBER)],
        rows=rows,
        plots=Pictures(lambda: [(accuracy_plot(measured), alt, caption)] if measured else []),
    )


def dataset_section(report: Report) -> Section | None:
    """Return the section with photos by class and split, and problems of the folder."""
    dataset = report.dataset
    if not dataset:
        return None
    splits = [split.value for split in Split]
    counted = sorted(dataset.counts.items(), key=lambda item: sum(item[1].values()))
    few = counted[:CLASSES] if len(counted) > CLASSES else sorted(counted)
    rows = [Row([shown(label), *(own.get(split, 0) for split in splits), sum(own.values())]) for label, own in few]
    total = [dataset.photos[split] for split in splits]
    rows.append(Row(["all", *total, sum(total)], "best"))
    hidden = len(counted) - len(few)
    return Section(
        note=f"{many(sum(total), 'photo')} of {many(dataset.classes, 'class', 'classes')}. "
        f"The split of a photo depends on its content. {_USE_OF_ADOPTED if _is_adopted(report) else _USE}"
        f"{_health(dataset.counts, is_trained_here=not _is_adopted(report))}",
        caption=f"The {CLASSES} smallest classes; {many(hidden, 'more is', 'more are')} not shown." if hidden else "",
        columns=[("class", TEXT), *((split, NUMBER) for split in splits), ("all", NUMBER)],
        rows=rows,
        lists=_problems(dataset),
    )


def _health(counts: Mapping[str, Mapping[str, int]], *, is_trained_here: bool) -> str:
    """Return sentences about uneven or small classes, each after a space; an empty string without problems."""
    totals = {label: sum(by_split.values()) for label, by_split in counts.items()}
    text = ""
    if not totals:
        return text
    least, most = min(totals, key=lambda label: totals[label]), max(totals, key=lambda label: totals[label])
    if totals[most] >= _UNEVEN * max(totals[least], 1):
        text += (
            f" Classes are uneven: {shown(most)} has {totals[most] / max(totals[least], 1):.1f} times the photos of "
            f"{shown(least)}"
        )
        text += "; --class-weights gives all classes the same weight." if is_trained_here else "."
    few = [label for label, by_split in counts.items() if by_split.get(Split.TEST.value, 0) < _FEW]
    if few:
        more = [f"{len(few) - _NODES:,} more"] if len(few) > _NODES else []
        names = joined([*(shown(label) for label in few[:_NODES]), *more])
        text += f" Fewer than {_FEW} test photos, which is too few for the recall of a class: {names}."
    return text


def _problems(dataset: DatasetSummary) -> list[Listing]:
    """Return the problems of the folder by kind, with their files."""
    left_out = [shown(f"{file.path}: {file.reason}") for file in dataset.left_out[:CLASSES]]
    kinds = (
        (dataset.left_out_count, "file was left out", "files were left out", left_out),
        (dataset.duplicates_count, "group of equal photos", "groups of equal photos", _paths(dataset.duplicates)),
        (dataset.families_count, "family of near-copies", "families of near-copies", _paths(dataset.families)),
        (
            dataset.contradictions_count,
            "photo has two labels",
            "photos have two labels",
            _paths(dataset.contradictions),
        ),
    )
    listings = []
    for count, one, more, lines in kinds:
        if count:
            rest = [f"… and {count - len(lines):,} more"] if count > len(lines) else []
            listings.append(Listing(f"{count:,} {one if count == 1 else more}", [*lines, *rest]))
    return listings


def _paths(groups: Sequence[Sequence[str]]) -> list[str]:
    return [shown(" = ".join(paths)) for paths in groups[:CLASSES]]


def engines_section(report: Report) -> Section | None:
    """Return the section with the engines, the GPUs they were built for, and their checksums."""
    if not report.engines:
        return None
    rows = []
    for engine in report.engines:
        batch = engine.batch
        sizes = f"{batch.minimum}–{batch.maximum}, best {batch.optimum}" if batch else "?"
        places = built_for(engine.targets, engine.compute_capability)
        version = f"{engine.flavour} {engine.tensorrt_version}".strip()
        rows.append([shown(engine.name), version, places, sizes, size(engine.bytes), seconds(engine.seconds)])
    idle = [engine for engine in report.engines if engine.runner.name not in report.agreement]
    note = "An engine runs only on the GPUs that it was built for, with the library version that built it."
    if idle:
        note += " Engines that are not in the tables above were built but not run on this machine."
    return Section(
        note=note,
        columns=[
            ("engine", TEXT),
            ("built by", TEXT),
            ("for", TEXT),
            ("batch", TEXT),
            ("size", NUMBER),
            ("built in", NUMBER),
        ],
        rows=rows_of(rows),
        checksums=[(shown(engine.name), f"sha256 {engine.sha256}") for engine in report.engines],
    )


_USE = "Test photos are not used for training or calibration."
_USE_OF_ADOPTED = (
    "Test photos are not used for calibration. Where there are fewer than 100 others, they took part in finding the "
    "preprocessing."
)


def _is_adopted(report: Report) -> bool:
    return report.spec is not None and report.spec.original is not None


def _held_out(report: Report) -> str:
    """Return from what the test photos were held out; it is not known what an adopted classifier was trained on."""
    if _is_adopted(report):
        return "held out from calibration; the original may have been trained on them"
    return "held out from training and calibration"


def precisions_section(report: Report) -> list[str]:
    """Return sentences about the export to ONNX and about FP16."""
    parity, fp16 = report.parity, report.quantisation.fp16
    sentences = []
    if parity:
        photos = f" on {many(parity.photos, 'photo')}" if parity.photos else ""
        sentences.append(
            parity_sentence(report.spec, parity, report.rounded)
            if report.spec and report.spec.original
            else f"The scores of the exported ONNX graph differ from TensorFlow's by at most "
            f"{tiny(parity.max_abs)}{photos}."
        )
    if fp16:
        kept = _kept(fp16.kept_fp32, "stayed FP32", "no node stayed FP32")
        sentences.append(
            f"FP16: scores differ from FP32's by at most {tiny(fp16.max_abs)} on "
            f"{many(fp16.compared, 'calibration photo')}; {kept}."
        )
    return sentences


def _kept(nodes: Mapping[str, str], what: str, none: str) -> str:
    """Return the nodes that kept a wider precision, with reasons; the first ones of many."""
    if not nodes:
        return none
    first = [shown(f"{name} ({why})") for name, why in list(nodes.items())[:_NODES]]
    more = [many(len(nodes) - _NODES, "other")] if len(nodes) > _NODES else []
    return f"{joined(first + more)} {what}"
