"""The gate of an evaluation as sentences and table rows, for the page, the terminal and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import joined, many, points, shown
from trtpoets.judge.gate import GateOutcome, failures, sentence, unknowns
from trtpoets.reporting.sections.section import TEXT, Row, Section

if TYPE_CHECKING:
    from trtpoets.judge.gate import Gate

_CLASSES = 5
"""The number of classes with the largest losses that are named."""


def gate_sentence(gate: Gate | None) -> str:
    """Return the result of the gate as a sentence; an empty string without a gate."""
    if not gate:
        return ""
    limits = f"The gate ({gate_limits(gate)})"
    failed = failures(gate)
    if failed:
        return f"{limits} fails: {'; '.join(failed)}."
    if gate.outcome is GateOutcome.UNKNOWN:
        return f"{limits} cannot tell: {'; '.join(unknowns(gate))}."
    return f"{limits} is passed by {joined([result.runner.name for result in gate.runners])}."


def gate_limits(gate: Gate) -> str:
    """Return the limits as text: "at most 0.5 points lost, at least 98 % of the answers equal"."""
    config = gate.config
    limits = {"at most {:g} points lost": config.max_drop, "at least {:g} % with the same label": config.min_agreement}
    return ", ".join(text.format(limit) for text, limit in limits.items() if limit is not None)


def gate_rows(gate: Gate) -> list[tuple[str, str, str]]:
    """Return (runner, outcome, measured value) for each limit of each runner."""
    return [
        (result.runner.name, check.outcome.value, sentence(check)) for result in gate.runners for check in result.checks
    ]


def gate_section(gate: Gate | None) -> Section | None:
    """Return the page's section: every limit of every runner, the classes with losses, and undecided limits."""
    if not gate:
        return None
    marks = {GateOutcome.PASSED.value: "best", GateOutcome.FAILED.value: "bad"}
    return Section(
        note=f"{gate_limits(gate)[0].upper()}{gate_limits(gate)[1:]}, compared with the baseline on the same photos. "
        "A limit is passed if the whole 95 % interval is within it, and failed if the whole interval is beyond it; "
        "otherwise there are too few photos to tell.",
        columns=[("runner", TEXT), ("", TEXT), ("measured, with its 95 % interval", TEXT)],
        rows=[Row(cells, marks.get(cells[1], "")) for cells in gate_rows(gate)],
        notes=[f"{text}." for text in (*unknowns(gate), *_lost_and_won(gate))],
    )


def _lost_and_won(gate: Gate) -> list[str]:
    """Return a clause per runner: right answers lost and won, and the classes with the largest losses."""
    texts = []
    for result in gate.runners:
        lost, won = result.only_reference, result.only_runner
        if not lost and not won:
            continue
        text = f"{result.runner.name}: {many(lost, 'right answer')} lost, {won:,} won"
        text += f" (exact McNemar test over groups: p = {result.p_value:.2g})"
        losses = [(label, change) for label, change in result.recall_change.items() if change < 0]
        if losses:
            worst = [f"{shown(label)} {points(change)} points" for label, change in losses[:_CLASSES]]
            more = len(losses) - _CLASSES
            text += f"; {joined(worst)}"
            text += f"; {many(more, 'more class', 'more classes')}" if more > 0 else ""
        texts.append(text)
    return texts
