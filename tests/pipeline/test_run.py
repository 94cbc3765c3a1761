"""The whole road on small photos: what it makes, what it skips, what it mends, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtpoets
from tests.cli.test_main import call_main
from tests.conftest import SMALL, small_config
from tests.support.errors import raises
from tests.support.photos import make_photo
from trtpoets.convert.int8.calibration import CalibrationConfig
from trtpoets.convert.int8.fused import float_islands, fused_graph
from trtpoets.core.errors import BadArtefact, BadInput, Busy, ConversionFailed, MissingArtefact
from trtpoets.core.files import locked, sha256_of_file
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Engine, Flavour, Int8Form, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_card, open_details, seal_card
from trtpoets.device.build.engine import flavour_available
from trtpoets.device.gpu.libcuda import Detected, Gpu, detect
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.card_details import Int8Details
from trtpoets.pipeline.label import _candidates
from trtpoets.pipeline.lineage import engines_in, onnx_in, opened
from trtpoets.pipeline.run import usual_bench
from trtpoets.train.dataset import dataset_from_folder

needs_rtx = pytest.mark.skipif(
    flavour_available(Flavour.RTX) is not None, reason=f"no TensorRT-RTX: {flavour_available(Flavour.RTX)}"
)


@pytest.fixture
def engines(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "engines"))


class Steps:
    """A Progress that remembers which tasks did any work."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def __call__(self, task: str, done: int, total: int) -> None:
        if task not in self.tasks:
            self.tasks.append(task)


def report_of(engines: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((engines / "small" / "report.json").read_text())
    return value


@needs_rtx
def test_a_run_leaves_everything_that_the_report_promises(finished: Path) -> None:
    space = Workspace(finished, "small")
    report = report_of(finished)
    runners = ["tensorflow", "onnxruntime-fp32", "onnxruntime-fp16", "onnxruntime-int8"]
    assert list(report["accuracy"])[:4] == runners
    assert report["accuracy"]["tensorflow"] > 0.8
    assert report["agreement"]["onnxruntime-fp32"] == 1
    assert 0 < report["parity"]["max_abs"] < 1e-4
    assert report["backbone"] == SMALL
    assert report["training"]["steps"]
    assert report["dataset"]["counts"]["bée 🐝"]["train"] > 20
    assert [(e["flavour"], e["precision"], e["targets"]) for e in report["engines"]] == [
        ("rtx", precision, ["sm80+"]) for precision in ("fp32", "fp16", "int8")
    ]
    for engine in report["engines"]:
        assert (space.folder / engine["file"]).stat().st_size == engine["bytes"]
    timed = {row["runner"]: row for row in report["benchmarks"]}
    measured = [*runners[:3], "onnxruntime-int8-cpu"] if not detect().gpus else runners
    assert set(measured) <= set(timed)
    if not detect().gpus:
        assert "onnxruntime-int8" not in timed
        assert "onnxruntime-int8-cpu" in report["accuracy"]
        (left_out,) = [entry for entry in report["skipped"] if entry["what"] == "measuring onnxruntime-int8"]
        assert "int8.cpu.onnx is INT8 for CPUs and is measured" in left_out["why"]
    for row in timed.values():
        assert row["batch"] == 1
        assert 0 < row["p50_ms"] <= row["p90_ms"]
        assert row["photos_per_s"] > 0
    page = space.page.read_text()
    assert "bée 🐝" in page
    assert "cow&#39;s" in page or "cow&#x27;s" in page or "cow's" in page
    assert sorted(p.name for p in space.folder.iterdir() if p.name.startswith(".")) == []


@pytest.mark.slow  # test_fixed_batch.py writes the form too, of a small network
def test_int8_has_a_form_for_cpus_with_its_own_notes(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "engines")
    space = Workspace(tmp_path / "engines", "small")
    trtpoets.quantize("small", cpu_form=True, engines=space.engines)
    path = space.onnx(Precision.INT8, Int8Form.CPU)
    model = onnx_in(space, Precision.INT8, Int8Form.CPU)
    assert (path.name, model.path, model.form) == ("int8.cpu.onnx", path, Int8Form.CPU)
    assert onnx_in(space, Precision.INT8).form is Int8Form.TENSORRT
    card = open_details(card_of(path), Int8Details)
    assert card is not None
    assert card.made_from == sha256_of_file(space.onnx(Precision.FP32))
    assert card.notes.islands == ()
    assert card.notes.recommended is not None
    assert float_islands(fused_graph(path.read_bytes())) == ()
    assert path.stat().st_size < 0.6 * space.onnx(Precision.FP32).stat().st_size, "metadata is most of a small file"
    evaluated = {item.runner.name for item in trtpoets.evaluate("small", engines=space.engines).evaluations}
    assert {"onnxruntime-int8", "onnxruntime-int8-cpu"} <= evaluated
    assert "--cpu-form" in card.command
    with raises(BadInput, "TP8200", path) as caught:
        trtpoets.build(str(path), flavour=Flavour.RTX)
    assert caught.value.hint == f"build TensorRT's form: trtpoets build {space.onnx(Precision.INT8)}"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Precision, ...]]:
    """The precisions that each `build` of `run` gets; nothing is built, evaluated or measured."""
    precisions_of_builds: list[tuple[Precision, ...]] = []
    monkeypatch.setattr(
        "trtpoets.pipeline.run.build", lambda *_, precisions, **__: precisions_of_builds.append(precisions)
    )
    for stage in ("evaluate", "bench"):
        monkeypatch.setattr(f"trtpoets.pipeline.run.{stage}", lambda *_, **__: None)
    return precisions_of_builds


def no_int8(*_: object) -> None:
    raise ConversionFailed("no layer can become INT8", code="TP3029")


def test_the_benchmark_of_run_has_one_batch_size_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.pipeline.run.detect", Detected)
    assert usual_bench().batches == (1,)
    gpu = Gpu("NVIDIA L4", (8, 9), 24 << 30)
    monkeypatch.setattr("trtpoets.pipeline.run.detect", lambda: Detected((gpu,)))
    assert usual_bench().batches == (1, 8)


def test_run_goes_on_without_the_form_for_cpus(
    engines: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trtpoets.pipeline.quantize._int8_for_cpu", no_int8)
    monkeypatch.setattr("trtpoets.pipeline.quantize.detect", Detected)
    config = small_config(small_weights).calibration
    models = trtpoets.quantize("small", calibration=config, cpu_form=None, engines=engines)
    assert [model.form for model in models] == [Int8Form.TENSORRT] * 2
    assert "int8.cpu.onnx is not written: no layer can become INT8" in caplog.text
    with raises(ConversionFailed, "TP8097", "int8.cpu.onnx", "no layer can become INT8") as caught:
        trtpoets.quantize("small", calibration=config, cpu_form=True, engines=engines)
    assert caught.value.hint == "on a CPU use fp32.onnx"  # int8.onnx is written


def test_run_with_cpu_form_keeps_int8_of_a_network_without_that_form(
    engines: Path,
    small_photos: Path,
    small_weights: Path,
    built: list[tuple[Precision, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("trtpoets.pipeline.quantize._int8_for_cpu", no_int8)
    config = replace(small_config(small_weights), cpu_form=True)
    trtpoets.run(small_photos, "small", config, engines=engines)
    assert built == [tuple(Precision)]
    assert "int8.cpu.onnx is not written: no layer can become INT8" in caplog.text
    assert "INT8 is not written" not in caplog.text


def test_run_goes_on_in_fp16_with_a_network_that_can_not_become_int8(
    engines: Path,
    small_photos: Path,
    small_weights: Path,
    built: list[tuple[Precision, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("trtpoets.pipeline.quantize._int8", no_int8)
    for path in (engines / "small").glob("int8*"):
        path.unlink()
    result = trtpoets.run(small_photos, "small", small_config(small_weights), engines=engines)
    assert "INT8 is not written: no layer can become INT8" in caplog.text
    assert built == [(Precision.FP32, Precision.FP16)]
    assert "INT8" in {entry.what for entry in result.absent}
    monkeypatch.setattr("trtpoets.pipeline.quantize._fp16", no_int8)
    with raises(ConversionFailed, "TP3029"):
        trtpoets.run(small_photos, "small", small_config(small_weights), engines=engines)


def test_what_could_not_run_is_named_with_its_reason(finished: Path) -> None:
    for entry in report_of(finished)["skipped"]:
        assert entry["what"]
        assert len(entry["why"]) > 10


def test_a_second_run_does_nothing_twice(engines: Path, small_photos: Path, small_weights: Path) -> None:
    space = Workspace(engines, "small")
    before = {p: p.stat().st_mtime_ns for p in space.folder.rglob("*.onnx*")} | {
        p: p.stat().st_mtime_ns for p in space.folder.glob("*.engine*")
    }
    steps = Steps()
    trtpoets.run(small_photos, "small", small_config(small_weights), engines=engines, progress=steps)
    assert steps.tasks == ["photos"]
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.slow
def test_other_training_makes_everything_after_it_anew(engines: Path, small_photos: Path, small_weights: Path) -> None:
    before = report_of(engines)
    steps = Steps()
    config = small_config(small_weights, learning_rate=1e-4)
    trtpoets.retrain(small_photos, "small", config.retrain, engines=engines, progress=steps)
    trtpoets.export("small", engines=engines)
    trtpoets.quantize("small", calibration=config.calibration, engines=engines)
    built = trtpoets.build("small", engines=engines) if before["engines"] else ()
    assert "bottlenecks" not in steps.tasks
    parity = (open_card(card_of(Workspace(engines, "small").onnx(Precision.FP32))) or {})["parity"]
    assert before["parity"]["max_abs"] != parity["max_abs"]
    assert len(built) == len(before["engines"])
    assert {e["sha256"] for e in before["engines"]}.isdisjoint(e.card.engine_sha256 for e in built)


def test_a_new_photo_moves_no_other(finished: Path, small_photos: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(small_photos, tmp_path / "photos"))
    make_photo(0, 999).save(photos / "ant" / "new.jpg")
    before = {p.sha256: p.split for p in dataset_in(Workspace(finished, "small")).photos}
    after = {p.sha256: p.split for p in dataset_from_folder(photos).photos}
    assert len(after) == len(before) + 1
    assert {sha: after[sha] for sha in before} == before


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("fp32.onnx", marks=pytest.mark.slow),
        "fp16.rtx.engine",
        pytest.param("int8.onnx", marks=pytest.mark.slow),
        pytest.param("classifier/model.json", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_artefact_is_made_again(victim: str, engines: Path, small_photos: Path, small_weights: Path) -> None:
    path = engines / "small" / victim
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    config = small_config(small_weights)
    stages: dict[str, Callable[[], object]] = {
        "classifier/model.json": lambda: trtpoets.retrain(small_photos, "small", config.retrain, engines=engines),
        "fp32.onnx": lambda: trtpoets.export("small", engines=engines),
        "int8.onnx": lambda: trtpoets.quantize("small", calibration=config.calibration, engines=engines),
        "fp16.rtx.engine": lambda: trtpoets.build("small", precisions=(Precision.FP16,), engines=engines),
    }
    stages[victim]()
    if victim.startswith("classifier"):
        assert path.read_bytes() == whole
    else:
        assert path.stat().st_size == len(whole)


@pytest.mark.slow
def test_the_same_photos_and_options_give_the_same_graph(
    finished: Path, small_photos: Path, small_weights: Path, tmp_path: Path
) -> None:
    trtpoets.retrain(small_photos, "small", small_config(small_weights).retrain, engines=tmp_path)
    trtpoets.export("small", engines=tmp_path)
    assert (tmp_path / "small" / "fp32.onnx").read_bytes() == (finished / "small" / "fp32.onnx").read_bytes()


def test_an_edited_card_is_an_error_not_a_rebuild(engines: Path) -> None:
    card = card_of(Workspace(engines, "small").onnx(Precision.FP32))
    card.write_text(card.read_text().replace('"opset": 17', '"opset": 13'))
    with raises(BadArtefact, "TP1099"):
        trtpoets.quantize("small", engines=engines)


def test_a_model_json_of_another_backbone_is_refused(engines: Path) -> None:
    path = Workspace(engines, "small").classifier / "model.json"
    path.write_text(path.read_text().replace(SMALL, "mobilenet_v2"))
    with raises(MissingArtefact, "TP8001"):
        trtpoets.export("small", engines=engines)


def test_two_at_once_on_one_name(engines: Path, small_photos: Path, small_weights: Path) -> None:
    with (
        locked(Workspace(engines, "small").lock, "small"),
        raises(Busy, "TP1023", "small"),
    ):
        trtpoets.run(small_photos, "small", small_config(small_weights), engines=engines)


def test_stages_out_of_order_say_what_to_run(tmp_path: Path) -> None:
    stages: list[tuple[Callable[[], object], str]] = [
        (lambda: trtpoets.export("n", engines=tmp_path), "trtpoets retrain PHOTOS --name n"),
        (lambda: trtpoets.quantize("n", engines=tmp_path), "trtpoets retrain PHOTOS --name n"),
        (lambda: trtpoets.build("n", engines=tmp_path), "trtpoets retrain PHOTOS --name n"),
        (lambda: trtpoets.bundle("n", "triton", engines=tmp_path), "trtpoets retrain PHOTOS --name n"),
        (lambda: trtpoets.evaluate("n", engines=tmp_path), "PHOTOS"),
        (lambda: trtpoets.report("n", engines=tmp_path), "trtpoets retrain PHOTOS --name n"),
        (lambda: trtpoets.label("n", [Path("x.jpg")], engines=tmp_path), "trtpoets retrain PHOTOS --name n"),
    ]
    for stage, hint in stages:
        with pytest.raises((MissingArtefact, BadInput)) as caught:
            stage()
        assert hint in caught.value.hint


def test_the_first_of_the_commands_that_are_missing_is_named(engines: Path) -> None:
    space = Workspace(engines, "small")
    for gone, hint in [(Precision.FP16, space.command("quantize")), (Precision.FP32, space.command("export"))]:
        space.onnx(gone).unlink()
        with raises(MissingArtefact, "TP8027", space.onnx(Precision.FP16)) as caught:
            onnx_in(space, Precision.FP16)
        assert caught.value.hint == hint


def test_an_unknown_name_gets_the_nearest_one_as_hint(engines: Path) -> None:
    with raises(MissingArtefact, "TP8001", engines / "smal") as caught:
        trtpoets.build("smal", engines=engines)
    assert caught.value.hint == f"did you mean small? If not: {Workspace(engines, 'smal').command('retrain', 'PHOTOS')}"
    with raises(MissingArtefact, "TP8001", engines / "lions") as caught:
        trtpoets.build("lions", engines=engines)
    assert caught.value.hint == Workspace(engines, "lions").command("retrain", "PHOTOS")


def test_label_answers_with_the_classes_of_the_photos(finished: Path, small_photos: Path) -> None:
    test = dataset_in(Workspace(finished, "small")).in_split(Split.TEST)
    answers = trtpoets.label("small", [photo.path for photo in test], engines=finished, top=3)
    right = np.mean([answer.labels[0] == photo.label for answer, photo in zip(answers, test, strict=True)])
    assert right == report_of(finished)["accuracy"]["tensorflow"]
    for answer in answers:
        assert sum(answer.scores) == pytest.approx(1, abs=1e-5)
        assert list(answer.scores) == sorted(answer.scores, reverse=True)


def test_label_refuses_what_is_no_photo_before_it_answers(finished: Path, small_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no photo")
    with raises(BadInput, "TP1064", "x.jpg"):
        trtpoets.label("small", [next((small_photos / "ant").iterdir()), tmp_path / "x.jpg"], engines=finished)
    with raises(BadInput, "TP8025"):
        trtpoets.label("small", [], engines=finished)


@pytest.mark.slow
def test_engines_of_an_older_graph_are_left_aside(engines: Path, small_photos: Path, small_weights: Path) -> None:
    space = Workspace(engines, "small")
    assert len(engines_in(space)) in (0, 3)
    config = small_config(small_weights).retrain
    trtpoets.retrain(small_photos, "small", replace(config, head=replace(config.head, steps=200)), engines=engines)
    trtpoets.export("small", engines=engines)
    assert Precision.FP32 not in {engine.card.precision for engine in engines_in(space)}


@needs_rtx
def test_an_onnx_file_builds_by_its_path(engines: Path) -> None:
    (engine,) = trtpoets.build(str(engines / "small" / "fp16.onnx"), targets=["sm86"], flavour=Flavour.RTX)
    assert engine.path == engines / "small" / "fp16.rtx.sm86.engine"
    assert engine.card.targets == ("sm86",)


def test_calibration_photos_are_never_test_photos(finished: Path) -> None:
    space = Workspace(finished, "small")
    test = {photo.sha256 for photo in dataset_in(space).in_split(Split.TEST)}
    ranges = json.loads(space.ranges.read_text())["details"]
    assert ranges["photos"]
    assert test.isdisjoint(ranges["photos"])


def test_a_gate_is_shown_everywhere_and_exits_3_when_it_fails(
    engines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space, command = Workspace(engines, "small"), ("evaluate", "small", "--engines", str(engines))
    code = call_main(monkeypatch, *command, "--min-agreement", "1")
    passed = capsys.readouterr()
    assert (code, passed.err) == (0, "")
    assert "at least 1 % with the same label" in passed.out
    # The same scores with another judgement: INT8 agrees with nothing.
    card = json.loads(space.evaluation.read_text())
    for evaluation in card["details"]["evaluations"]:
        if evaluation["runner"] == "onnxruntime-int8":
            evaluation.update(agreement=0.0, agreement_low=0.0, agreement_high=0.3)
    seal_card(space.evaluation, key=card["key"], files=[], details=card["details"])
    code = call_main(monkeypatch, *command, "--min-agreement", "98", "--runner", "onnxruntime-int8", "--json")
    assert code == 3
    failed = capsys.readouterr()
    gate = json.loads(failed.out)["gate"]
    assert gate["outcome"] == "failed"
    assert failed.err.splitlines() == [
        "Error: onnxruntime-int8 agrees on 0.0 % (0.0 to 30.0), 98 are asked for [TP5041]",
        f"  try: ship fp16: {Workspace(engines, 'small').command('build', '--precision', 'fp16')}",
    ]
    assert open_card(space.evaluation) == json.loads(failed.out)
    report = trtpoets.report("small", engines=engines)
    assert to_json(report.gate) == gate
    assert any(item.about == "gate" and " fails: " in item.text for item in report.verdict)
    assert '<h2 id="gate">The gate</h2>' in space.page.read_text()
    assert to_json(trtpoets.evaluate("small", engines=engines).gate) == gate


def test_a_gate_on_few_photos_cannot_tell(
    engines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*options: str) -> tuple[int, str, str]:
        code = call_main(monkeypatch, "evaluate", "small", "--engines", str(engines), *options)
        return code, *capsys.readouterr()

    limits = ("--max-drop", "99.9", "--min-agreement", "99.99", "--runner", "onnxruntime-fp32")
    code, stdout, stderr = asked(*limits, "--json")
    assert code == 4
    assert json.loads(stdout)["gate"]["outcome"] == "cannot tell"
    assert stderr.startswith("Error: ") and "[TP5042]" in stderr
    assert "--min-agreement 99.99 --runner onnxruntime-fp32 --allow-undecided" in stderr
    code, _, stderr = asked(*limits, "--allow-undecided")
    assert code == 0, stderr
    count = len(dataset_in(Workspace(engines, "small")).in_split(Split.TEST))
    assert stderr.splitlines()[0].startswith(
        f"warning: the gate cannot tell: {count} photos can't tell whether at least 99.99 % of the answers stay (about "
    )
    assert asked("--runner", "onnxruntime-int8")[2].splitlines() == [
        "Error: a gate needs a limit [TP5036]",
        "  try: give --max-drop 0.5 --min-agreement 98",
    ]


def test_int8_engines_come_last_where_quantize_advised_against_them(engines: Path) -> None:
    space = Workspace(engines, "small")
    built = [engine.card.precision for engine in engines_in(space)]
    card = json.loads(card_of(space.onnx(Precision.INT8)).read_text())
    for advised in ("int8", "fp16"):
        card["details"]["notes"]["recommended"]["precision"] = advised
        seal_card(
            card_of(space.onnx(Precision.INT8)),
            key=card["key"],
            files=[space.onnx(Precision.INT8)],
            details=card["details"],
        )
        order = [
            candidate.card.precision.value
            for candidate in _candidates(space, opened(space), trust=False)
            if isinstance(candidate, Engine)
        ]
        if built:
            assert order == (["int8", "fp16", "fp32"] if advised == "int8" else ["fp16", "fp32", "int8"])


@pytest.mark.slow
def test_quantize_refits_the_head_by_default_and_prints_its_recommendation(engines: Path) -> None:
    space = Workspace(engines, "small")
    before = open_card(card_of(space.onnx(Precision.INT8)))
    assert before is not None
    assert before["notes"]["head"]["kept"] in (True, False)
    assert before["notes"]["head"]["why"]
    assert before["notes"]["recommended"]["why"].startswith("on ")
    calibration = CalibrationConfig(photos=32)
    trtpoets.quantize("small", calibration=calibration, refit_head=False, engines=engines)
    after = open_card(card_of(space.onnx(Precision.INT8)))
    assert after is not None
    assert "head" not in after["notes"]
    steps = Steps()
    trtpoets.quantize("small", calibration=calibration, refit_head=False, engines=engines, progress=steps)
    assert steps.tasks == []
