"""Rows of a benchmark in tables."""

from __future__ import annotations

from tests.support.benchmarks import benchmark_document
from tests.support.comparisons import compared, parts_of, row_of
from trtpoets.reporting.tables.benchmark_rows import ratio


def test_outcomes_in_a_table() -> None:
    outcome = {"scenario": "offline", "runner": "fake", "batch": 8, "metric": "photos_per_s", "value": 1234.5}
    details = {"measurements": [], "outcomes": [{**outcome, "valid": True, "reason": "", "loadgen": None}]}
    ((title, columns, rows),) = parts_of(details)
    assert title == "MLPerf's offline scenario: photos/s"
    assert (columns, rows) == (["runner", "batch>", "trtpoets>", "", "why"], [("fake", 8, "1,234", "VALID", "")])
    details["outcomes"][0]["under_way"] = 2
    ((_, _, rows),) = parts_of(details)
    assert rows[0][4] == "2 batches in progress"
    details["outcomes"][0]["under_way"] = 1
    details["outcomes"][0]["loadgen"] = {"value": 1100.0, "valid": False, "why": "its own overhead"}
    ((_, columns, rows),) = parts_of(details)
    assert columns[4:] == ["LoadGen>", "why"]
    assert rows == [("fake", 8, "1,234", "VALID", "1,100 INVALID", "its own overhead")]


def test_tables_of_what_changed() -> None:
    details = benchmark_document(1, 5.0)
    details["compared"] = compared(benchmark_document(2, 6.0), {**details, "conditions": {"cpu": "two"}})
    titles = [title for title, _, _ in parts_of(details)]
    assert titles == ["Changes, compared with the noise", "Other differences"]
    (_, _, rows), _ = parts_of(details)
    assert rows[1][-1] == "faster"
    assert all(len(row) == 8 for row in rows)


def test_a_ratio_in_a_cell() -> None:
    base, fast = benchmark_document(1, 5.0)["measurements"]
    assert ratio(row_of(base)) == "1.00×"
    assert ratio(row_of(fast)) == "3.99× ±1%"
    assert ratio(row_of({**fast, "valid": False})) == "INVALID"
    assert ratio(row_of({"valid": True, "speedup": 2.0})) == "2.00×"
    assert ratio(row_of({"valid": True, "speedup": None})) == "–"
    assert ratio(row_of({"valid": True, "speedup": 6.6, "speedup_low": 3.4, "speedup_high": 13.0})) == "6.60× ±96%"
    assert ratio(row_of({"valid": True, "speedup": 6.6, "speedup_low": 0.1, "speedup_high": 9611.0})) == "6.60× unclear"
