"""A race on the page and on the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.pages import read
from tests.support.races import race_result
from tests.support.report_documents import documents, report_of
from trtpoets.core.serialization import to_json
from trtpoets.judge.race import RaceInt8
from trtpoets.reporting.markdown import markdown_from_report
from trtpoets.reporting.sections.race_section import race_part, race_section
from trtpoets.reporting.tables.results import print_table


def test_the_page_has_the_networks_and_the_frontier() -> None:
    content = documents()
    assert "Race between networks" not in read(content).text
    content["race"] = to_json(race_result())
    reader = read(content)
    text = reader.text.replace("\u00a0", " ")
    assert "Result: mobilenet_v2 is right on 87.6 %" in text
    assert "measured in INT8 on this machine's CPU" in text
    assert "failed: the weights i.h5 are not a file" in text
    assert "Value(" not in text and "/w/small.h5" in text
    labels = [str(figure["aria-label"]).replace("\u00a0", " ") for figure in reader.all("figure")]
    assert any(label.startswith("accuracy by latency: efficientnet_lite0 88.0 % at 12.5 ms") for label in labels)
    assert "Race between networks" in markdown_from_report(report_of(content))


def test_estimated_times_are_called_so() -> None:
    content = documents()
    content["race"] = to_json(race_result(estimated=True))
    section = race_section(report_of(content))
    assert section is not None and "estimated for Jetson Orin Nano" in section.note
    assert [row.cells[0].text for row in section.rows][:2] == ["mobilenet_v2", "efficientnet_lite0"]
    assert section.rows[0].mark == "best"
    assert [name for name, _ in section.columns][4:6] == ["accuracy", "rating"]
    assert [str(cell) for cell in section.rows[0].cells[5:6]] == ["84.6 %"]


def test_what_is_not_checked_of_int8_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    doubt = "INT8 of mobilenet_v2 agrees with FP32 on 96.0 % of 500 photos"
    race = replace(race_result(), int8=RaceInt8(500, 0.96, 0.94, 0.97, 0.01, 0.99, doubt))
    content = documents()
    content["race"] = to_json(race)
    text = read(content).text.replace("\u00a0", " ")
    assert f"But {doubt}." in text
    assert "agrees with FP32 on 96.0 % (94.0–97.0 %) of 500 photos, and 99 % of its multiply-adds" in text
    assert "agrees with FP32 on 96.0 % of 500 photos" in markdown_from_report(report_of(content)).replace("\u00a0", " ")
    print_table("race", race)
    assert f"But {doubt}." in " ".join(capsys.readouterr().out.split())


def test_without_a_race_there_is_no_section() -> None:
    assert race_section(report_of(documents())) is None


def test_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("race", race_result())
    table, _, following = capsys.readouterr().out.partition("Next:")
    assert max(map(len, table.splitlines())) <= 80
    assert "too slow" in table
    assert following.strip() == race_result().next
    assert race_part(race_result())[2][0][0] == "mobilenet_v2"
