"""A sweep on the page and on the terminal."""

from __future__ import annotations

import pytest

from tests.support.pages import read
from tests.support.report_documents import documents, report_of
from tests.support.sweeps import sweep_result
from trtpoets.core.serialization import to_json
from trtpoets.reporting.sections.sweep_section import sweep_part, sweep_section
from trtpoets.reporting.tables.results import print_table


def test_the_page_has_settings_and_learning_rates_side_by_side() -> None:
    content = documents()
    assert "Sweep" not in read(content).text
    content["sweep"] = to_json(sweep_result())
    reader = read(content)
    text = reader.text.replace("\u00a0", " ")
    assert "sgd 0.01 0 0.1 95.0 % 5 recommended" in text
    assert "adam 1 0 0.1 81.0 % 0 diverged in 2 folds" in text
    assert (
        "at 0.005 it ends at 0.5, with 0.5 at best, at 0.01 it ends at 0.5, with 0.5 at best, at 1 it diverged" in text
    )
    assert "jumps over the minimum" in text
    labels = [str(figure["aria-label"]) for figure in reader.all("figure")]
    assert "Validation accuracy, gradient descent by learning rate; at the end 0.005: 0.8, 0.01: 0.8" in labels


def test_without_a_sweep_there_is_no_section() -> None:
    assert sweep_section(report_of(documents())) is None


def test_the_terminal_has_the_best_settings_and_the_default() -> None:
    _, columns, rows = sweep_part(sweep_result())
    assert len(rows) == 11 and len(columns) == 7
    assert rows[0] == ("sgd", "0.01", "0", "0.1", "95.0 %", "5", "recommended")
    assert rows[-1][-1] == "default"


def test_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("sweep", sweep_result())
    table, _, following = capsys.readouterr().out.partition("Next:")
    assert max(map(len, table.splitlines())) <= 80
    assert "On 400 photos nothing was measured." in table
    assert following.strip() == sweep_result().next
