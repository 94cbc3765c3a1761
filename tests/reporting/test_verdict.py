"""The verdict of a report."""

from __future__ import annotations

from tests.support.report_documents import documents, json_report
from trtpoets.core.serialization import from_json
from trtpoets.reporting.model import Report
from trtpoets.reporting.verdict import verdict_from_report


def test_a_loss_beyond_chance_and_an_even_trade() -> None:
    report = json_report(documents())
    compared = report["comparison"]["onnxruntime-int8"]
    compared |= {"only_reference": 9, "only_runner": 0, "p_value": 0.0039, "accuracy_change": -0.3, "agreed": 21}
    assert (
        "9 right answers lost, 0 won: significant, p = 0.0039"
        in verdict_from_report(from_json(Report, report, "report.json"))[2].text
    )
    compared |= {"only_reference": 1, "only_runner": 1, "p_value": 1.0, "accuracy_change": 0.0}
    text = verdict_from_report(from_json(Report, report, "report.json"))[2].text
    assert "its accuracy is the same on these photos (1 right answer lost, 1 won; 95 % interval" in text


def test_a_ratio_that_is_not_known_to_a_factor_of_two_has_no_interval() -> None:
    report = json_report(documents())
    for row in report["benchmarks"]:
        if row["runner"] != "tensorflow":
            row |= {"speedup": 6.6, "speedup_low": 0.1, "speedup_high": 9611.0}
    text = " ".join(part.text for part in verdict_from_report(from_json(Report, report, "report.json")))
    assert "6.6 times as fast as TensorFlow" in text
    assert "the rounds differed so much that this ratio is not known to a factor of two" in text
    assert "9611" not in text
