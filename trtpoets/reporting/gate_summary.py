"""The gate of an evaluation in words and rows, for the page, the terminal and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, points, shown
from trtpoets.judge.gate import Outcome, sentence, unknowns

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES = 5
"""Labels that lost most are named, at most so many."""


def gate_sentence(gate: Mapping[str, Any] | None) -> str:
    """What came of the gate in a sentence; nothing where none was set."""
    if not gate:
        return ""
    limits = f"The gate ({gate_limits(gate)})"
    failed = [
        f"{runner['runner']} {sentence(check)}"
        for runner in gate["runners"]
        for check in runner["checks"]
        if check["outcome"] == Outcome.FAILED
    ]
    if failed:
        return f"{limits} fails: {'; '.join(failed)}."
    if gate["outcome"] == Outcome.UNKNOWN:
        return f"{limits} cannot tell: {'; '.join(unknowns(gate))}."
    return f"{limits} is passed by {joined([runner['runner'] for runner in gate['runners']])}."


def gate_limits(gate: Mapping[str, Any]) -> str:
    """The limits as they were set: "at most 0.5 points lost, at least 98 % alike"."""
    config = gate["config"]
    said = {"max_drop": "at most {:g} points lost", "min_agreement": "at least {:g} % answered alike"}
    return ", ".join(text.format(config[word]) for word, text in said.items() if config[word] is not None)


def gate_rows(gate: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(runner, outcome, what was measured) for each limit of each runner."""
    return [
        (runner["runner"], check["outcome"], sentence(check))
        for runner in gate["runners"]
        for check in runner["checks"]
    ]


def gate_section(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gate on the page: every limit of every runner, the classes that lost, and what the photos can't tell."""
    gate = report.get("gate")
    if not gate:
        return None
    marks = {Outcome.PASSED.value: "best", Outcome.FAILED.value: "bad"}
    return {
        "note": f"{gate_limits(gate)[0].upper()}{gate_limits(gate)[1:]}, beside TensorFlow on the same photos. "
        "A limit is passed where the whole 95 % interval keeps within it, and failed where the whole interval is "
        "beyond it; between the two, the photos cannot tell.",
        "columns": [("runner", ""), ("", ""), ("measured, with its 95 % interval", "")],
        "rows": [{"cells": row, "mark": marks.get(row[1], "")} for row in gate_rows(gate)],
        "notes": [f"{text}." for text in (*unknowns(gate), *_traded(gate))],
    }


def _traded(gate: Mapping[str, Any]) -> list[str]:
    """How right answers were traded, runner by runner, and which classes lost most."""
    told = []
    for runner in gate["runners"]:
        lost, won = runner["only_reference"], runner["only_runner"]
        if not lost and not won:
            continue
        text = f"{runner['runner']}: {many(lost, 'right answer')} lost, {won:,} won"
        text += f" (exact McNemar test over groups: p = {runner['p_value']:.2g})"
        fell = [(label, change) for label, change in runner["recall_change"].items() if change < 0]
        if fell:
            worst = [f"{shown(label)} {points(change)} points" for label, change in fell[:_CLASSES]]
            text += f"; {joined(worst)}"
            text += f"; {many(len(fell) - _CLASSES, 'more class', 'more classes')}" if len(fell) > _CLASSES else ""
        told.append(text)
    return told
