"""The gate of an evaluation as sentences and rows."""

from __future__ import annotations

from tests.support.report_documents import LABELS, evaluations
from trtpoets.core.serialization import from_json
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import Gate, GateConfig, gate_from_evaluations
from trtpoets.reporting.gate_summary import gate_limits, gate_rows, gate_section, gate_sentence


def gate(max_drop: float | None = None, min_agreement: float | None = None, per_class: int = 10) -> Gate:
    """The gate of evaluations in which INT8 loses three right answers, all of the class ant, and FP16 none."""
    results, _ = evaluations(LABELS, per_class)
    judged = from_json(Evaluations, {"evaluations": results, "skipped": []}, "evaluation.json")
    return gate_from_evaluations(judged.evaluations, GateConfig(max_drop, min_agreement))


def test_a_gate_that_is_passed_names_its_limits_and_runners() -> None:
    text = gate_sentence(gate(max_drop=60.0, min_agreement=40.0))
    assert text == (
        "The gate (at most 60 points lost, at least 40 % with the same label) is passed by onnxruntime-fp16 and "
        "onnxruntime-int8."
    )
    assert gate_limits(gate(max_drop=0.5)) == "at most 0.5 points lost"


def test_a_gate_that_fails_or_cannot_tell_says_why() -> None:
    failed = gate(max_drop=0.0, per_class=300)
    assert gate_sentence(gate(min_agreement=99.9, per_class=3)).startswith("The gate (at least 99.9 %")
    undecided = gate(max_drop=0.5)
    assert "cannot tell: " in gate_sentence(undecided)
    assert gate_sentence(failed).endswith(".")
    assert gate_sentence(None) == ""
    assert gate_section(None) is None


def test_there_is_a_row_for_each_limit_of_each_runner() -> None:
    rows = gate_rows(gate(max_drop=60.0, min_agreement=40.0))
    assert [row[0] for row in rows] == ["onnxruntime-fp16"] * 2 + ["onnxruntime-int8"] * 2
    assert {row[1] for row in rows} == {"passed"}
    section = gate_section(gate(max_drop=60.0, min_agreement=40.0))
    assert section is not None
    assert [row.mark for row in section.rows] == ["best"] * 4
    assert section.note.startswith("At most 60 points lost, at least 40 % with the same label, compared with the")


def test_classes_with_losses_are_named() -> None:
    section = gate_section(gate(max_drop=60.0))
    assert section is not None
    (note,) = section.notes
    assert note.startswith("onnxruntime-int8: 3 right answers lost, 0 won (exact McNemar test over groups: p = 0.25)")
    assert "ant -30.0 points" in note.replace("\N{MINUS SIGN}", "-")
