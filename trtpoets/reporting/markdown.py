"""Writes a report as GitHub Flavored Markdown, for a pull request. File and class names are escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import shown
from trtpoets.reporting.drawing import without_plots
from trtpoets.reporting.gate_summary import gate_section
from trtpoets.reporting.sections.accuracy_sections import (
    accuracy_section,
    dataset_section,
    engines_section,
    precisions_section,
)
from trtpoets.reporting.sections.all_photos_section import all_photos_section
from trtpoets.reporting.sections.confusions import mistakes_section
from trtpoets.reporting.sections.int8_section import int8_section
from trtpoets.reporting.sections.learning_curve_section import class_curves_section, learning_curve_section
from trtpoets.reporting.sections.near_copies_section import copies_section
from trtpoets.reporting.sections.provenance import artefacts_from_report, commands_from_report, conditions_from_report
from trtpoets.reporting.sections.race_section import race_section
from trtpoets.reporting.sections.speed_section import speed_section
from trtpoets.reporting.sections.sweep_section import sweep_section
from trtpoets.reporting.sections.training_section import train_benchmark_section, training_section
from trtpoets.reporting.verdict import verdict_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.reporting.model import Report
    from trtpoets.reporting.sections.section import Row, Section

_SPECIAL = re.compile(r"([\\`*_\[\]~|])")
_LEADING = re.compile(r"^(\s*)([-+=#]|\d+(?=[.)](?:\s|$)))")
_ACTIVE = re.compile(r"(@|#|://|\bwww)(?=\S)", re.IGNORECASE)
"""Text that GitHub turns into a mention, a reference or a link without markup."""


def markdown_from_report(report: Report) -> str:
    """Return the report as GitHub Flavored Markdown: the texts and tables of the page, without its plots."""
    with without_plots():
        return _markdown(report)


def _markdown(report: Report) -> str:
    parts = [f"# {escaped(shown(report.name) or 'A classifier')}", _verdict(report)]
    parts += _section("Accuracy", accuracy_section(report))
    parts += _section("All photos", all_photos_section(report))
    parts += _section("More photos", learning_curve_section(report))
    parts += _section("More photos of one class", class_curves_section(report), level=3)
    parts += _section("The gate", gate_section(report.gate))
    speed = speed_section(report)
    parts += _section("Speed", speed)
    if speed:
        parts += _folded("The other batch sizes", speed.columns, speed.more)
        for table_of in speed.tables:
            parts += _section(table_of.title, table_of, level=3)
    parts += _mistakes(report)
    parts += _section("Training", training_section(report))
    parts += _section("Speed of training and learning rates", train_benchmark_section(report), level=3)
    parts += _section("Race between networks", race_section(report), level=3)
    sweep = sweep_section(report)
    parts += _section("Sweep", sweep, level=3)
    if sweep:
        parts += _folded("The other settings", sweep.columns, sweep.more)
    parts += _section("Photos", dataset_section(report))
    parts += _section("Near-copies", copies_section(report), level=3)
    sentences = precisions_section(report)
    parts += ["## Conversion to ONNX and FP16", *(escaped(sentence) for sentence in sentences)] if sentences else []
    parts += _section("INT8", int8_section(report))
    parts += _section("Engines", engines_section(report))
    skipped = [(entry.what, entry.why) for entry in (*report.skipped, *report.absent)]
    if skipped:
        parts += ["## Skipped", _list(f"{what}: {why}" for what, why in skipped)]
    parts += ["## Conditions", table([("", ""), ("", "")], conditions_from_report(report))]
    hashes = [f"{name}: {sha}" for name, sha in artefacts_from_report(report)]
    parts += [_details("SHA-256 of the measured files", _list(hashes))] if hashes else []
    commands = commands_from_report(report)
    if commands:
        parts += ["Commands:", _code("\n".join(map(shown, commands)))]
    return shown("\n\n".join(part for part in parts if part) + "\n", keep="\n")


def escaped(text: Any) -> str:
    """Return text on one line, escaped so that it contains no markup, HTML, formula, mention or link."""
    line = shown(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(r"\\\1", line)
    line = _ACTIVE.sub(lambda match: f"{match[1]}&#8203;" if match[1] != "://" else ":&#8203;//", line)
    line = line.replace("$", "<span>$</span>")
    return _LEADING.sub(lambda match: f"{match[1]}{_entities(match[2])}", line)


def _entities(text: str) -> str:
    return "".join(f"&#{ord(character)};" for character in text)


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of (name, kind) columns, numbers right-aligned; the small text of a Value is in brackets."""
    rules = ["---:" if kind else "---" for _, kind in columns]
    lines = [[escaped(name) for name, _ in columns], rules, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Any) -> str:
    text, small = getattr(cell, "text", cell), getattr(cell, "small", "")
    return f"{escaped(text)} ({escaped(small)})" if small and small != "–" else escaped(text)


def _verdict(report: Report) -> str:
    groups = verdict_groups(report)
    paragraphs = [
        f"**{title}.** {' '.join(escaped(sentence) for sentence in sentences)}" for title, sentences in groups
    ]
    return "\n\n".join(paragraphs) or "Nothing was measured yet."


def _section(title: str, section: Section | None, level: int = 2) -> list[str]:
    """Return the heading, note, table, notes and lists of a section."""
    if not section:
        return []
    parts = [f"{'#' * level} {title}", escaped(section.note), escaped(section.caption)]
    if section.rows:
        parts.append(table(section.columns, [row.cells for row in section.rows]))
    parts += [escaped(note) for note in section.notes]
    parts += [_details(listing.title, _list(listing.lines)) for listing in section.lists]
    checksums = section.checksums
    return parts + ([_details("Checksums", _list(f"{name}: {sha}" for name, sha in checksums))] if checksums else [])


def _mistakes(report: Report) -> list[str]:
    mistakes = mistakes_section(report)
    if not mistakes:
        return []
    parts = ["## Mistakes and recall", escaped(mistakes.note)]
    if mistakes.matrix:
        columns = [("true class, answer →", ""), *((label, "number") for label in mistakes.matrix.labels)]
        parts.append(table(columns, [[row.label, *(cell.count for cell in row.cells)] for row in mistakes.matrix.rows]))
    elif mistakes.pairs:
        parts += _section("Most often confused", mistakes.pairs, level=3)
    if mistakes.recall:
        columns = [("class", ""), ("photos", "number"), ("recall", "number"), ("95 %", "number")]
        rows = [[row.label, row.photos, row.value, row.interval] for row in mistakes.recall.rows]
        parts += [escaped(mistakes.recall.note), table(columns, rows)]
    return parts


def _folded(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Row]) -> list[str]:
    return [_details(title, table(columns, [row.cells for row in rows]))] if rows else []


def _details(title: str, inside: str) -> str:
    return f"<details><summary>{escaped(title)}</summary>\n\n{inside}\n\n</details>"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _code(text: str) -> str:
    """Return text in a code fence that is longer than any fence in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}bash\n{text}\n{fence}"
