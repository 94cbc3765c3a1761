"""A report -> the rows and sentences of each section of the page. No HTML here, and nothing is escaped here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNEVEN = 3.0
"""A class with so many times the photos of another one is worth a word."""

_FEW = 10
"""With fewer test photos, one more mistake moves a class's recall by more than ten points."""

CLASSES = 30
"""At most this many classes have a row of their own."""

_NODES = 6
"""Nodes of a network that are named in a sentence."""

NUMBER, TEXT = "number", ""
"""Kinds of columns."""

_UNKNOWN = (None, None)

_GROUPS = "; copies of a photo, near-copies and shots of one object are one group, and count as far as they differ"

Section = dict[str, Any]
"""What stands under a heading of the page: note, columns, rows, plots, lists, as far as it has them."""


class Value(NamedTuple):
    """A cell of a table: a number, and what stands small beneath it."""

    text: str
    small: str = ""


def accuracy_section(report: Mapping[str, Any]) -> Section | None:
    """Every evaluated runner, with intervals, beside TensorFlow."""
    runners = list(report["intervals"])
    if not runners:
        return None
    rows = []
    for runner in runners:
        bounds = report["intervals"][runner]
        compared = report["comparison"].get(runner) or {}
        cells = [
            runner,
            Value(percent(report["accuracy"].get(runner)), interval(*bounds.get("accuracy", _UNKNOWN))),
            Value(percent(report["agreement"].get(runner)), interval(*bounds.get("agreement", _UNKNOWN))),
            Value(
                points(compared.get("accuracy_change")),
                point_interval(compared.get("change_low"), compared.get("change_high")) if compared else "",
            ),
        ]
        rows.append({"cells": cells})
    known = [
        (r, report["accuracy"][r], *report["intervals"][r]["accuracy"]) for r in runners if r in report["accuracy"]
    ]
    plots = []
    grouped = _GROUPS if report["test_groups"] < report["test_photos"] else ""
    if known:
        alt = "Accuracy: " + ", ".join(f"{name} {percent(value)}" for name, value, _, _ in known)
        plots.append((accuracy_plot(known), alt, "Dots are what was measured, bands the 95 % intervals."))
    return {
        "note": f"Measured on {photos_in_groups(report['test_photos'], report['test_groups'])}, held out from training "
        "and calibration. Agreement is how often a runner answers like TensorFlow, right or wrong. Ranges are 95 % "
        f"intervals (Wilson's; Tango's of the change){grouped}.",
        "columns": [
            ("runner", TEXT),
            ("accuracy", NUMBER),
            ("agreement", NUMBER),
            ("change, points", NUMBER),
        ],
        "rows": rows,
        "plots": plots,
    }


def dataset_section(report: Mapping[str, Any]) -> Section | None:
    """Photos by class and split, and what is wrong with the folder."""
    dataset = report["dataset"]
    if not dataset:
        return None
    splits = [split.value for split in Split]
    counted = sorted(dataset["counts"].items(), key=lambda item: sum(item[1].values()))
    few = counted[:CLASSES] if len(counted) > CLASSES else sorted(counted)
    rows: list[Section] = [
        {"cells": [shown(label), *(each.get(split, 0) for split in splits), sum(each.values())]} for label, each in few
    ]
    total = [dataset["photos"][split] for split in splits]
    rows.append({"cells": ["all", *total, sum(total)], "mark": "best"})
    hidden = len(counted) - len(few)
    return {
        "note": f"{many(sum(total), 'photo')} of {many(dataset['classes'], 'class', 'classes')}. "
        "Each photo's split is decided by its content: the test photos were never trained on, nor calibrated with."
        f"{_health(dataset['counts'])}",
        "caption": f"The {CLASSES} smallest classes; {many(hidden, 'more is', 'more are')} not shown."
        if hidden
        else "",
        "columns": [("class", TEXT), *((split, NUMBER) for split in splits), ("all", NUMBER)],
        "rows": rows,
        "lists": _trouble(dataset),
    }


def _health(counts: Mapping[str, Mapping[str, int]]) -> str:
    """What the numbers of photos alone say against a folder: nothing, or sentences with a blank before each."""
    totals = {label: sum(each.values()) for label, each in counts.items()}
    told = ""
    if not totals:
        return told
    least, most = min(totals, key=lambda label: totals[label]), max(totals, key=lambda label: totals[label])
    if totals[most] >= _UNEVEN * max(totals[least], 1):
        told += (
            f" Classes are uneven: {shown(most)} has {totals[most] / max(totals[least], 1):.1f} times the photos of "
            f"{shown(least)}; --class-weights makes rare ones count alike."
        )
    few = [label for label, each in counts.items() if each.get(Split.TEST.value, 0) < _FEW]
    if few:
        names = joined([shown(label) for label in few[:_NODES]])
        more = f" and {len(few) - _NODES:,} more" if len(few) > _NODES else ""
        told += f" Fewer than {_FEW} test photos, too few to judge a class by: {names}{more}."
    return told


def _trouble(dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with the folder, each kind with the files."""
    kinds = {
        "left_out": ("file was left out", "files were left out"),
        "duplicates": ("group of equal photos", "groups of equal photos"),
        "families": ("family of near-copies", "families of near-copies"),
        "contradictions": ("photo lies under two labels", "photos lie under two labels"),
    }
    found = []
    for word, (one, more) in kinds.items():
        count = dataset.get(f"{word}_count", 0)
        if count:
            lines = [_entry(entry) for entry in dataset[word][:CLASSES]]
            if count > len(lines):
                lines.append(f"… and {count - len(lines):,} more")
            found.append({"title": f"{count:,} {one if count == 1 else more}", "lines": lines})
    return found


def _entry(entry: Any) -> str:
    if isinstance(entry, dict):
        return shown(f"{entry.get('path')}: {entry.get('reason')}")
    return shown(" = ".join(str(path) for path in entry) if isinstance(entry, list) else entry)


def engines_section(report: Mapping[str, Any]) -> Section | None:
    """What was built, for what, and how to tell it again."""
    engines: Sequence[Mapping[str, Any]] = report["engines"]
    if not engines:
        return None
    rows = []
    for card in engines:
        batch = card.get("batch") or {}
        sizes = f"{batch.get('minimum', '?')}–{batch.get('maximum', '?')}, best {batch.get('optimum', '?')}"
        places = built_for(card["targets"], card.get("compute_capability"))
        version = f"{card['flavour']} {card.get('tensorrt_version', '')}".strip()
        cells = [_engine_name(card), version, places, sizes, size(card["bytes"]), seconds(card["seconds"])]
        rows.append({"cells": cells})
    idle = [card for card in engines if card["runner"] not in report["agreement"]]
    note = "An engine runs only where it was built for, with the library version that built it."
    if idle:
        note += " Those that are absent from the tables above were built here, but not run here."
    return {
        "note": note,
        "columns": [
            ("engine", TEXT),
            ("built by", TEXT),
            ("for", TEXT),
            ("batch", TEXT),
            ("size", NUMBER),
            ("built in", NUMBER),
        ],
        "rows": rows,
        "checksums": [(_engine_name(card), f"sha256 {card['sha256']}") for card in engines],
    }


def _engine_name(card: Mapping[str, Any]) -> str:
    return shown(card.get("file") or card["runner"])


def precisions_section(report: Mapping[str, Any]) -> list[str]:
    """What export and FP16 did to the network, in sentences."""
    parity, notes = report["parity"], report["quantisation"]
    told = []
    if parity:
        photos = f" on {many(parity['photos'], 'photo')}" if parity.get("photos") else ""
        told.append(
            f"The exported ONNX graph gives TensorFlow's scores, with a difference of at most "
            f"{tiny(parity['max_abs'])}{photos}."
        )
    if notes.get("fp16"):
        fp16 = notes["fp16"]
        kept = _kept(fp16["kept_fp32"], "stayed FP32", "every node could be narrowed")
        told.append(
            f"FP16: scores differ from FP32's by at most {tiny(fp16['max_abs'])} on "
            f"{many(fp16['compared'], 'calibration photo')}; {kept}."
        )
    return told


def _kept(nodes: Mapping[str, str], what: str, none: str) -> str:
    """Which nodes stayed wider, with the reason of each; the first few where there are many."""
    if not nodes:
        return none
    first = [shown(f"{name} ({why})") for name, why in list(nodes.items())[:_NODES]]
    more = [many(len(nodes) - _NODES, "other")] if len(nodes) > _NODES else []
    return f"{joined(first + more)} {what}"
