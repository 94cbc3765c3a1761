"""Runner identities: different runners have different names, and no code parses a name."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trtpoets
from tests.fakes.engine import paper_engine
from tests.support.benchmarks import QUICK, photos_in
from tests.support.errors import raises
from tests.support.runner_ids import runner
from tests.support.sources import tree_of
from tests.support.tiny import tiny_onnx, tiny_spec
from tests.test_structure import PACKAGE
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.runner_id import (
    WAYS,
    Library,
    RunnerId,
    engine_file_name,
    engine_runner,
    engine_variant,
    runner_of_file,
)
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import BatchRange, Classifier, Engine, Flavour, Photo, Precision, Split
from trtpoets.device.build.engine import in_order
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.runners import Way, open_runner
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.judge.bench.benchmark import benchmark_from_artefacts
from trtpoets.judge.bench.measured_runner import BenchFailure
from trtpoets.judge.bench.scenario import config_for
from trtpoets.judge.gate import GateConfig
from trtpoets.pipeline import result_status
from trtpoets.pipeline.build import _jobs
from trtpoets.reporting.recommendation import Limits, recommendation_from_report

SIZES = st.integers(1, 64)
CONFIGS = st.builds(
    EngineConfig,
    flavour=st.sampled_from(Flavour),
    targets=st.lists(st.sampled_from(["sm75", "sm80", "sm86", "sm120"]), unique=True).map(sorted).map(tuple),
    batch=st.builds(BatchRange, SIZES, SIZES, SIZES),
    workspace_mib=st.sampled_from([16, 1024, 2048]),
    optimization_level=st.sampled_from([None, 0, 5]),
    version_compatible=st.booleans(),
    hardware_compatible=st.booleans(),
    dla_core=st.sampled_from([None, 0, 1]),
).filter(lambda config: config.flavour is Flavour.RTX or not config.targets)  # TensorRT takes none

IDENTITIES = st.one_of(
    st.builds(engine_runner, CONFIGS, st.sampled_from(Precision)),
    st.sampled_from(
        [
            RunnerId(library, precision, way)
            for library, ways in WAYS.items()
            for way in ways
            for precision in (None, *Precision)
        ]
    ),
)


@given(IDENTITIES, IDENTITIES)
def test_different_runners_have_different_names(one: RunnerId, other: RunnerId) -> None:
    assert (one.name == other.name) == (one == other)
    assert (one.name, str(one)) == (str(one), one.name)


@given(CONFIGS, CONFIGS)
def test_engines_of_different_options_lie_side_by_side(one: EngineConfig, other: EngineConfig) -> None:
    assert (engine_file_name("fp16", one) == engine_file_name("fp16", other)) == (one == other)
    assert (engine_runner(one, Precision.FP16) == engine_runner(other, Precision.FP16)) == (one == other)


@given(IDENTITIES)
def test_a_row_says_what_the_name_is_made_of(identity: RunnerId) -> None:
    row = json.loads(json.dumps(identity.row()))
    assert RunnerId.from_row(row) == identity
    assert row["runner"] == identity.name
    assert set(row) == {"runner", "library", "precision", "way", "variant"}


def test_rows_of_an_earlier_version_are_read_and_what_can_t_be_is_said() -> None:
    assert RunnerId.from_row({"runner": "onnxruntime-cuda-int8"}) == RunnerId(
        Library.ONNXRUNTIME, Precision.INT8, "cuda"
    )
    assert RunnerId.from_row({"runner": "tensorflow"}) == RunnerId(Library.TENSORFLOW)
    whole = runner("rtx-fp16", "sm86").row()
    damaged: list[dict[str, Any]] = [{"runner": "openvino-int8"}, {"runner": 1}, {}, {**whole, "library": "openvino"}]
    damaged += [{**whole, "precision": "fp8"}, {**whole, "variant": ["a.b"]}, {**whole, "way": "cuda"}]
    for row in damaged:
        with pytest.raises((KeyError, TypeError, ValueError)):
            RunnerId.from_row(row)
        with raises(BadArtefact, "TP1101", "runner can't be read") as caught:
            from_json(BenchFailure, {**row, "why": ""}, "benchmark.json", "measure again")
        assert caught.value.hint == "measure again"


def test_names_of_plain_runners_are_as_they_were() -> None:
    assert engine_runner(EngineConfig(Flavour.RTX), Precision.INT8).name == "rtx-int8"
    assert engine_file_name("int8", EngineConfig(Flavour.RTX)) == "int8.rtx.engine"
    assert engine_file_name("int8", EngineConfig(Flavour.RTX, ("SM89", "sm86"))) == "int8.rtx.sm86.sm89.engine"


def test_every_option_that_decides_an_engine_is_in_its_name() -> None:
    plain = EngineConfig(Flavour.TENSORRT)
    changes: dict[str, dict[str, Any]] = {
        "dla0": {"dla_core": 0},
        "batch1": {"batch": BatchRange(1, 1, 1)},
        "batch1-4-8": {"batch": BatchRange(1, 4, 8)},
        "hardware-compatible": {"hardware_compatible": True},
        "version-compatible": {"version_compatible": True},
        "level5": {"optimization_level": 5},
        "workspace256": {"workspace_mib": 256},
    }
    assert {word: engine_variant(replace(plain, **change)) for word, change in changes.items()} == {
        word: (word,) for word in changes
    }
    assert {name for change in changes.values() for name in change} | {"flavour", "targets", "timeout_seconds"} == set(
        EngineConfig.__dataclass_fields__
    )


def test_the_name_follows_from_the_card_and_not_from_the_file(tmp_path: Path) -> None:
    config = EngineConfig(Flavour.RTX, ("sm89", "sm86"), BatchRange(1, 2, 4), optimization_level=3)
    options: dict[str, Any] = {"targets": ("sm86", "sm89"), "optimization_level": 3}
    engine = paper_engine(tmp_path, Flavour.RTX, (1, 2, 4), file="mine.engine", **options)
    assert open_runner(engine).identity == engine_runner(config, Precision.FP16)
    assert open_runner(engine).name == "rtx-fp16.sm86.sm89.batch1-2-4.level3"


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return photos_in(tmp_path)


def two_engines(folder: Path) -> tuple[Engine, Engine, Engine]:
    """Of one precision: plain, for other targets, and for other batch sizes."""
    usual = (1, 8, 32)
    return (
        paper_engine(folder, Flavour.RTX, usual),
        paper_engine(folder, Flavour.RTX, usual, file="fp16.rtx.sm86.engine", targets=("sm86",)),
        paper_engine(folder, Flavour.RTX, (1, 4, 4), file="fp16.rtx.batch1-4-4.engine"),
    )


NAMES = ["rtx-fp16", "rtx-fp16.batch1-4-4", "rtx-fp16.sm86"]


def test_engines_are_listed_once_each_the_plain_one_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engines = two_engines(tmp_path)
    earlier = paper_engine(tmp_path, Flavour.RTX, (1, 4, 4), file="fp16.rtx.sm75.engine")
    for order in ((*engines, earlier), (earlier, *engines)):
        result = in_order(order)
        assert [open_runner(item).name for item in result] == NAMES
        assert [item.path.name for item in result][1] == "fp16.rtx.batch1-4-4.engine"
    assert f"{earlier.path} is ignored: fp16.rtx.batch1-4-4.engine is the same engine" in caplog.text


def test_builds_with_other_options_go_to_other_files(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "net.onnx", Precision.FP16)
    plain = EngineConfig(Flavour.TENSORRT)
    configs = [plain, replace(plain, dla_core=0), replace(plain, batch=BatchRange(8, 8, 8))]
    outs = [out.name for _, _, out in _jobs(str(model.path), (), configs, tmp_path, write=True)]
    assert outs == ["net.tensorrt.engine", "net.tensorrt.dla0.engine", "net.tensorrt.batch8.engine"]


class Answering(FakeRunner):
    """Each engine answers in its own way: the plain one like TensorFlow, the others always with one label."""

    def __init__(self, artefact: Any, way: Way) -> None:
        opened = open_runner(artefact, way=way)
        always = {"rtx-fp16.sm86": 1, "rtx-fp16.batch1-4-4": 2}.get(opened.name)
        scores = (
            None if always is None else lambda photos: np.array([[float(i == always) for i in range(3)]] * len(photos))
        )
        super().__init__(opened.spec, scores, identity=opened.identity)


def judging_two_engines(monkeypatch: pytest.MonkeyPatch, folder: Path, photos: tuple[Photo, ...]) -> None:
    """A run, as `evaluate` sees it, of a classifier and two engines that answer otherwise, and these test photos."""
    artefacts = (Classifier(folder, tiny_spec()), *two_engines(folder))
    monkeypatch.setattr("trtpoets.pipeline.evaluate.artefacts_in", lambda space: artefacts)
    monkeypatch.setattr("trtpoets.pipeline.evaluate.photos_to_judge", lambda space: photos)
    monkeypatch.setattr(result_status, "classifier_identity", lambda space: "a classifier")
    monkeypatch.setattr("trtpoets.pipeline.runner_access.stale_in", lambda space: ())
    monkeypatch.setattr("trtpoets.pipeline.evaluate.verified_photos", lambda space, photos: nullcontext())
    monkeypatch.setattr("trtpoets.pipeline.runner_access.open_runner", Answering)


def test_each_engine_of_one_precision_has_its_own_scores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    shown = tuple(replace(photo, split=Split.TEST, sha256=sha256_of_file(photo.path)) for photo in photos)
    judging_two_engines(monkeypatch, tmp_path, shown)
    details = to_json(trtpoets.evaluate("x", GateConfig(min_agreement=90), engines=tmp_path))
    rows = {item["runner"]: item for item in details["evaluations"]}
    assert set(rows) == {"tensorflow", *NAMES}
    assert rows["rtx-fp16"]["agreement"] == 1.0
    values = {name: {tiny_spec().labels[cell[1]] for cell in rows[name]["confusion"]} for name in NAMES}
    assert values["rtx-fp16.sm86"] == {tiny_spec().labels[1]}
    assert values["rtx-fp16.batch1-4-4"] == {tiny_spec().labels[2]}
    assert (rows["rtx-fp16.sm86"]["library"], rows["rtx-fp16.sm86"]["precision"]) == ("rtx", "fp16")
    assert sorted(item["runner"] for item in details["gate"]["runners"]) == NAMES
    chosen = GateConfig(min_agreement=90, runners=("rtx-fp16.sm86",))
    (only,) = to_json(trtpoets.evaluate("x", chosen, engines=tmp_path))["gate"]["runners"]
    assert (only["runner"], only["outcome"]) == ("rtx-fp16.sm86", "failed")
    with raises(BadInput, "TP5040", "rtx-fp16.sm80") as caught:
        trtpoets.evaluate("x", GateConfig(min_agreement=90, runners=("rtx-fp16.sm80",)), engines=tmp_path)
    assert "rtx-fp16.sm86" in caught.value.hint


@pytest.mark.slow  # starts three programs
@pytest.mark.parametrize("scenario", [None, *(pytest.param(scenario, marks=pytest.mark.slow) for scenario in Scenario)])
def test_engines_of_one_precision_are_benched_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo], scenario: Scenario | None
) -> None:
    behave = {"rtx-fp16.sm86": "wrong"}
    monkeypatch.setattr(benchmark, "_CHILD", (sys.executable, "-m", "tests.fakes.failing_runners", json.dumps(behave)))
    config = replace(QUICK, batches=(1, 4), rounds=2, gpu_round_seconds=0.02, gpu_settle_seconds=0.02)
    if scenario is not None:
        config = config_for(scenario, replace(config, scenario=scenario.value, target_qps=2000.0))
        config = replace(config, batches=config.batches[:2])
    got = to_json(benchmark_from_artefacts(two_engines(tmp_path)[:2], photos, config, baseline="rtx-fp16"))
    assert got["failures"] == []
    places = [(row["runner"], row["batch"]) for row in got["measurements"]]
    assert places == [(name, batch) for name in ("rtx-fp16", "rtx-fp16.sm86") for batch in config.batches]
    assert [row["accuracy"] for row in got["measurements"]] == [item for item in (1.0, 0.0) for _ in config.batches]
    assert {(row["library"], row["precision"]) for row in got["measurements"]} == {("rtx", "fp16")}
    if scenario is not None:
        assert [item["runner"] for item in got["outcomes"]] == ["rtx-fp16", "rtx-fp16.sm86"]
        assert [item["variant"] for item in got["outcomes"]] == [[], ["sm86"]]


def test_one_runner_twice_is_refused(tmp_path: Path, photos: list[Photo]) -> None:
    engine = paper_engine(tmp_path)
    with raises(BadInput, "TP5009", "tensorrt-fp16.batch1-4-8"):
        benchmark_from_artefacts([engine, engine], photos, QUICK)


def test_a_recommended_engine_is_named_by_its_own_file() -> None:
    from tests.support.report_documents import documents, measurement, report_of

    content = documents()
    variant = runner("rtx-fp16", "sm86")
    content["engines"].append({**content["engines"][0], **variant.row(), "file": "fp16.rtx.sm86.engine"})
    first = content["evaluation"]["evaluations"][1]
    content["evaluation"]["evaluations"] += [{**first, **item.row()} for item in (runner("rtx-fp16"), variant)]
    content["benchmark"]["measurements"] = [
        measurement("tensorflow", 1, 10.0, 1.0),
        {**measurement("", 1, 4.0, 2.5), **runner("rtx-fp16").row()},
        {**measurement("", 1, 2.0, 5.0), **variant.row()},
    ]
    report = report_of(content)
    assert report.runners["rtx-fp16.sm86"].runner == variant
    chosen = to_json(recommendation_from_report(report, Limits(max_drop=0.5)).chosen)
    assert (chosen["runner"], chosen["file"]) == ("rtx-fp16.sm86", "fp16.rtx.sm86.engine")
    assert (chosen["library"], chosen["precision"], chosen["variant"]) == ("rtx", "fp16", ["sm86"])


READS = {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "removeprefix", "removesuffix"}
LIBRARY = re.compile("(?:{})-".format("|".join(item.value for item in Library)))


def parsed_names(tree: ast.AST) -> Iterator[str]:
    """What looks like reading a runner's name, or like formatting one."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in READS
            and "runner" in ast.unparse(node.func.value).lower()
        ):
            yield ast.unparse(node)
        if isinstance(node, ast.JoinedStr):
            first, text = node.values[0], ast.unparse(node)
            if isinstance(first, ast.Constant) and LIBRARY.fullmatch(str(first.value)):
                yield text
            if re.search(r"flavour[^{}]*\}-\{[^{}]*precision", text):
                yield text


def test_the_check_finds_code_that_parses_a_name() -> None:
    for code in (
        'row["runner"].endswith("-int8")',
        'runner.name.split("-")[1]',
        'f"onnxruntime-{precision.value}"',
        """f"{card['flavour']}-{card['precision']}" """,
    ):
        assert list(parsed_names(ast.parse(code)))


def test_no_code_parses_or_formats_a_runner_s_name() -> None:
    values = {
        str(path.relative_to(PACKAGE)): list(parsed_names(tree_of(path)))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "runner_id.py"
    }
    assert {path: lines for path, lines in values.items() if lines} == {}


def test_the_file_of_a_runner() -> None:
    files = {"tensorflow": "", "onnxruntime-fp16": "fp16.onnx", "rtx-int8": "int8.onnx", "tflite-int8": "int8.tflite"}
    assert {name: runner(name).file for name in files} == files
    assert runner_of_file("int8.tflite", Precision.INT8) == runner("tflite-int8")
    assert runner_of_file("int8.cpu.onnx", Precision.INT8).file == "int8.cpu.onnx"
