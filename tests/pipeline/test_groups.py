"""Groups of near-copies from the dataset through the evaluation to tables and pages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trtpoets
from benchmarks import coverage
from tests.core.test_runner_id import judging_two_engines
from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.report_documents import documents, report_of
from trtpoets.core.errors import BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import Workspace
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import GateConfig, photos_in_groups, rounded
from trtpoets.judge.statistics import Interval
from trtpoets.pipeline import result_status
from trtpoets.pipeline.recorded_commands import evaluate_command
from trtpoets.pipeline.stage_options import gate_config
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report
from trtpoets.reporting.tables.results import print_table
from trtpoets.train.split import independent_groups, positions_of


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_copies_groups_and_families_are_one_group() -> None:
    files = [
        ("a.jpg", sha(0)),
        ("copy of a.jpg", sha(0)),
        ("cup_nohash_1.jpg", sha(1)),
        ("cup_nohash_2.jpg", sha(2)),
        ("b.jpg", sha(3)),
        ("b, cropped.jpg", sha(4)),
        ("alone.jpg", sha(5)),
    ]
    assert independent_groups(files) == [0, 0, 1, 1, 2, 3, 4]
    assert independent_groups(files, [(sha(3), sha(4))]) == [0, 0, 1, 1, 2, 2, 3]
    assert independent_groups(files, [(sha(2), sha(4))]) == [0, 0, 1, 1, 2, 1, 3]


@given(
    st.lists(st.tuples(st.sampled_from(["x.jpg", "cup_nohash_1.jpg", "pot_nohash_1.jpg"]), st.integers(0, 9))),
    st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=3, unique=True), max_size=3),
)
def test_photos_with_equal_split_positions_are_one_group(names: list[tuple[str, int]], joined: list[list[int]]) -> None:
    """A split that puts photos together, and an interval that takes them as independent, contradict each other."""
    files = [(name, sha(number)) for name, number in names]
    families = [[sha(number) for number in family] for family in joined]
    places = positions_of(files, families)
    groups = independent_groups(files, families)
    assert [[a == b for b in places] for a in places] == [[a == b for b in groups] for a in groups]


def test_an_evaluation_and_its_card_have_the_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", {"ant": 2, "bee": 2})
    paths = sorted(folder.rglob("*.jpg"))
    for first, copy in (paths[:2], paths[2:]):
        copy.write_bytes(first.read_bytes())
    photos = tuple(Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in paths)
    judging_two_engines(monkeypatch, tmp_path, photos)
    details = to_json(trtpoets.evaluate("x", engines=tmp_path))
    assert details["groups"] == [0, 0, 1, 1]
    assert {(evaluation["photos"], evaluation["groups"]) for evaluation in details["evaluations"]} == {(4, 2)}
    assert json.loads((tmp_path / "x" / "evaluation.json").read_text())["details"]["groups"] == [0, 0, 1, 1]
    # Other groups of the same photos are another evaluation.
    keys = {result_status.evaluation_key(["a"], photos, groups) for groups in (None, [0, 0, 1, 1], [0, 0, 0, 1])}
    assert len(keys) == 3
    alone = tuple(replace(photo, sha256=sha(i)) for i, photo in enumerate(photos))
    assert result_status.groups_to_judge(Workspace(tmp_path, "x"), alone) is None


def test_tables_and_pages_show_groups_with_photos(capsys: pytest.CaptureFixture[str]) -> None:
    content = documents()
    for evaluation in content["evaluation"]["evaluations"]:
        evaluation |= {"groups": 9, "labelled_groups": 9}
    report = report_of(content)
    assert (report.test_photos, report.test_groups) == (30, 9)
    assert set(report.recall_intervals["tensorflow"]) == {"ant", "bee", "cow"}
    print_table("evaluation", from_json(Evaluations, content["evaluation"], "x"))
    table = capsys.readouterr().out
    assert "30 test photos in 9 independent groups" in table
    assert "Change of accuracy relative to TensorFlow in points" in table
    assert "−10.0" in table and "−25.6 to +2.5" in table
    assert "held-out photos in 9 independent groups" in report.verdict[1].text
    for text in (markdown_from_report(report), page_from_report(report)):
        assert "30 photos in 9 independent groups" in text
        assert "copies of a photo, near-copies and photos of one object form a group" in text


def test_numbers_of_photos_as_text() -> None:
    assert photos_in_groups(800, 800) == "800 photos"
    assert photos_in_groups(1, 1) == "1 photo"
    assert photos_in_groups(2250, 1) == "2,250 photos in 1 independent group"
    assert [rounded(count) for count in (189, 765, 6280, 38413, 1000, 999_001)] == [
        *("189", "765", "6,300", "39,000", "1,000", "1,000,000")
    ]


def test_an_allowed_undecided_gate_is_recorded() -> None:
    gate = gate_config(0.5, None, None, allow_undecided=True)
    assert gate == GateConfig(0.5, allow_undecided=True)
    assert evaluate_command(Workspace(Path("engines"), "x"), gate) == (
        "trtpoets evaluate x --max-drop 0.5 --allow-undecided"
    )
    with raises(BadInput, "TP5036"):
        gate_config(None, None, None, allow_undecided=True)


def test_the_coverage_simulation_detects_wrong_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    row = coverage.simulated("accuracy", 2, 1000)
    assert row.within and 0.93 <= row.mean <= 0.97 and row.lowest <= row.mean
    narrow: Any = lambda hits, photos: Interval(hits / photos - 0.01, hits / photos + 0.01)  # noqa: E731
    monkeypatch.setattr(coverage, "wilson", narrow)
    assert not coverage.simulated("accuracy", 2, 500).within
    for family in coverage.FAMILIES.values():
        names = [(item.what, item.assumed) for item in family()]
        assert names and len(set(names)) == len(names)
