"""What to ship, from what was measured: limits held, ties broken, doubts shown, and what to do when nothing fits."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import trtpoets
from tests.support.errors import raises
from tests.support.recommendations import FP16, FP16_8, INT8, TENSORFLOW, chosen_of, measured
from tests.support.report_documents import documents, measurement, report_of
from tests.support.runner_ids import runner
from trtpoets.cli import main
from trtpoets.core.errors import BadInput, GateFailed, MissingArtefact
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import Workspace, seal_card
from trtpoets.judge.bench.benchmark import BenchConfig
from trtpoets.judge.gate import Check, Gate, GateConfig, GateOutcome, RunnerGate
from trtpoets.pipeline import result_status
from trtpoets.reporting.model import Documents
from trtpoets.reporting.near_misses import require_recommended
from trtpoets.reporting.recommendation import Limits, Recommendation, recommendation_from_report


def test_the_most_photos_within_the_limits() -> None:
    report = measured(TENSORFLOW, FP16, FP16_8, INT8)
    recommendation = recommendation_from_report(report, Limits(max_drop=0.5, max_p99=5))
    assert (chosen_of(recommendation).runner.name, chosen_of(recommendation).batch, chosen_of(recommendation).file) == (
        "onnxruntime-fp16",
        1,
        "fp16.onnx",
    )
    assert chosen_of(recommendation).precision == "fp16"
    assert recommendation.sentence == (
        "Of what ran on this machine, ship fp16.onnx through onnxruntime, one photo at a time: 4.00 ms (median, p99 "
        "4.60, at most 4.80) and 250 photos/s, 2.5 times as fast as TensorFlow, with the same accuracy (a change of "
        "−11.4 to +11.4 points) on 30 photos; that can't tell whether at most 0.5 points are lost (about 765 "
        "independent photos could)."
    )
    assert chosen_of(recommendation_from_report(report)).batch == 8
    assert chosen_of(recommendation_from_report(report, Limits(batches=(1,)))).batch == 1
    loose = recommendation_from_report(report, Limits(max_drop=10))
    assert chosen_of(loose).runner.name == "onnxruntime-int8"
    assert "for 10.0 points of accuracy lost (" in loose.sentence
    require_recommended(loose)
    assert from_json(Recommendation, json.loads(json.dumps(to_json(loose), allow_nan=False)), "x") == loose


def test_the_forms_of_int8_are_judged_by_their_own_notes() -> None:
    """The CPU form is the fastest, and quantize advises against one of the files."""
    for_cpus = measurement("onnxruntime-int8-cpu", 1, 1.5, 6.7, p99_ms=1.7, p99_bound_ms=1.8)

    def recommended(against: str) -> Recommendation:
        content = documents()
        content["benchmark"]["measurements"] = [TENSORFLOW, FP16, INT8, {**for_cpus, **FOR_CPUS}]
        narrow = next(item for item in content["evaluation"]["evaluations"] if item["runner"] == "onnxruntime-fp16")
        content["evaluation"]["evaluations"].append({**narrow, **FOR_CPUS})
        advice = {name: {"precision": "int8", "why": "x"} for name in ("int8", "int8_cpu")}
        advice[against] = {"precision": "fp16", "why": "it loses answers"}
        notes = {name: {"recommended": entry} for name, entry in advice.items()}
        content["quantisation"] = {**content["quantisation"], **notes}
        return recommendation_from_report(report_of(content))

    chosen = chosen_of(recommended("int8"))
    assert (chosen.runner.name, chosen.file) == ("onnxruntime-int8-cpu", "int8.cpu.onnx")
    other = recommended("int8_cpu")
    assert chosen_of(other).file == "fp16.onnx"
    lacks = {item.file: [lack.what for lack in item.lacks] for item in other.rejected}
    assert lacks == {"int8.cpu.onnx": ["advice"], "int8.onnx": ["drop"]}


FOR_CPUS = {
    "runner": "onnxruntime-int8-cpu",
    "library": "onnxruntime",
    "precision": "int8",
    "way": "",
    "variant": [],
    "form": "cpu",
}


def test_tensorflow_stays_when_nothing_beats_it() -> None:
    recommendation = recommendation_from_report(measured(TENSORFLOW, {**FP16, "photos_per_s": 50.0}, INT8))
    assert chosen_of(recommendation).file == "classifier"
    assert "no other runner that was measured here is faster and within the limits" in recommendation.sentence


def test_what_can_be_shipped_is_judged_and_what_is_beside_it_is_not() -> None:
    keras, xla, cuda = (
        measurement(name, 1, 1.0, 10.0, p99_ms=1.2, p99_bound_ms=1.3)
        for name in ("keras-predict", "tensorflow-xla", "onnxruntime-cuda-fp16")
    )
    recommendation = recommendation_from_report(measured(TENSORFLOW, FP16, keras, xla, cuda))
    assert chosen_of(recommendation).runner.name == "onnxruntime-fp16"
    assert [item.runner.name for item in recommendation.rejected] == ["onnxruntime-cuda-fp16"]
    result = "Faster, but its answers were not evaluated: onnxruntime-cuda-fp16 (trtpoets evaluate NAME --force)."
    assert recommendation.sentence.endswith(result)
    with raises(MissingArtefact, "TP6010", "onnxruntime-cuda-fp16 at batch 1: its answers were not ev") as caught:
        require_recommended(recommendation_from_report(measured(cuda)), "x")
    assert caught.value.hint == "trtpoets evaluate x --force"
    judged = documents()
    judged["benchmark"]["measurements"] = [TENSORFLOW, FP16, cuda]
    same = judged["evaluation"]["evaluations"][1]
    judged["evaluation"]["evaluations"].append({**same, **runner("onnxruntime-cuda-fp16").row()})
    recommendation = recommendation_from_report(report_of(judged))
    assert (chosen_of(recommendation).runner.name, chosen_of(recommendation).file) == (
        "onnxruntime-cuda-fp16",
        "fp16.onnx",
    )
    assert "ship fp16.onnx through onnxruntime-cuda, one photo" in recommendation.sentence


def test_an_engine_is_named_by_its_file() -> None:
    content = documents()
    content["evaluation"]["evaluations"][1].update(runner("rtx-fp16").row())
    content["benchmark"]["measurements"] = [TENSORFLOW, {**FP16, "runner": "rtx-fp16"}]
    del content["engines"][1]
    recommendation = recommendation_from_report(report_of(content))
    assert chosen_of(recommendation).file == "fp16.rtx.engine"
    assert recommendation.sentence.startswith("Ship fp16.rtx.engine through rtx, one photo at a time")


def test_a_tflite_file_is_judged_by_its_own_answers() -> None:
    content = documents()
    same = content["evaluation"]["evaluations"][1]
    content["evaluation"]["evaluations"].append({**same, **runner("tflite-int8").row()})
    content["benchmark"]["measurements"] = [TENSORFLOW, FP16, {**INT8, "runner": "tflite-int8"}]
    content["quantisation"]["int8"]["recommended"] = {"precision": "fp16", "why": "of int8.onnx", "gate": None}
    recommendation = recommendation_from_report(report_of(content))
    assert (chosen_of(recommendation).runner.name, chosen_of(recommendation).file) == ("tflite-int8", "int8.tflite")
    assert "ship int8.tflite through tflite, one photo" in recommendation.sentence
    content["quantisation"]["int8_tflite"] = {"size": 0.28, "recommended": {"precision": "fp32", "why": "it is worse"}}
    recommendation = recommendation_from_report(report_of(content))
    assert chosen_of(recommendation).runner.name == "onnxruntime-fp16"
    (rejected,) = (item for item in recommendation.rejected if item.runner.name == "tflite-int8")
    assert [lack.text for lack in rejected.lacks] == ["bundle advises against it: it is worse"]


def test_a_p99_is_held_to_its_bound_and_not_to_its_estimate() -> None:
    recommendation = recommendation_from_report(measured(FP16), Limits(max_p99=4.7))
    with raises(GateFailed, "TP6011", "4.80 ms") as caught:
        require_recommended(recommendation, "x")
    assert caught.value.hint == "trtpoets recommend x --max-drop 0.5 --max-p99 4.8"
    unsure = {**FP16, "p99_bound_ms": None, "independent_count": 331, "count": 700}
    recommendation = recommendation_from_report(measured(unsure), Limits(max_p99=5))
    with raises(MissingArtefact, "TP6010", "700", "331", "662") as result:
        require_recommended(recommendation, "x")
    assert result.value.hint == "trtpoets bench x --batch 1 --seconds 7"


def test_a_number_that_is_not_valid_is_no_reason() -> None:
    report = measured(TENSORFLOW, {**FP16, "valid": False, "reason": "too busy"})
    assert chosen_of(recommendation_from_report(report)).runner.name == "tensorflow"
    recommendation = recommendation_from_report(measured({**FP16, "valid": False, "reason": "too busy"}))
    with raises(MissingArtefact, "TP6010", "too busy") as caught:
        require_recommended(recommendation, "x")
    assert caught.value.hint == "trtpoets bench x --batch 1"
    # Nor is what it says of its p90 a reason to call it too slow.
    busy = {**FP16, "valid": False, "reason": "too busy"}
    recommendation = recommendation_from_report(measured(busy, {**busy, "batch": 8}), Limits(max_p99=1))
    with raises(MissingArtefact, "TP6010", "too busy (1 more is undecided)"):
        require_recommended(recommendation)


def test_quantize_is_listened_to() -> None:
    content = documents()
    content["benchmark"]["measurements"] = [TENSORFLOW, FP16, INT8]
    narrow = content["evaluation"]["evaluations"][-1]["comparison"]
    narrow |= {"accuracy_change": 0.0, "change_low": 0.0, "change_high": 0.0}
    assert chosen_of(recommendation_from_report(report_of(content))).precision == "int8"
    check = Check("drop", GateOutcome.FAILED, 0.005, 0.02, 0.01, 0.03, 100, 100, 0.02, None)
    judged = RunnerGate(runner("onnxruntime-int8"), GateOutcome.FAILED, (check,), 2, 0, 0.5, {})
    gate = to_json(Gate(GateConfig(max_drop=0.5), GateOutcome.FAILED, (judged,)))
    advice = {"precision": "fp16", "why": "on 100 photos it loses", "gate": gate}
    content["quantisation"]["int8"]["recommended"] = advice
    report = report_of(content)
    assert chosen_of(recommendation_from_report(report)).precision == "fp16"
    strict = recommendation_from_report(report, Limits(max_drop=1))
    assert chosen_of(strict).precision == "fp16"
    assert strict.rejected[0].lacks[0].text == ("it loses 2 points on 100 validation photos, 1 points are allowed")
    assert chosen_of(recommendation_from_report(report, Limits(max_drop=3))).precision == "int8"


@pytest.mark.parametrize(
    ("limits", "code", "values"),
    [
        ({"max_drop": -1}, "TP6012", ("--max-drop", "-1")),
        ({"max_drop": 100}, "TP6012", ("--max-drop", "100")),
        ({"max_p99": 0}, "TP6013", ("--max-p99", "0")),
        ({"max_p99": float("inf")}, "TP6013", ("--max-p99", "inf")),
    ],
)
def test_invalid_limits_are_refused(limits: dict[str, float], code: str, values: tuple[str, str]) -> None:
    with raises(BadInput, code, *values):
        Limits(**limits)  # type: ignore[arg-type]


def test_the_command_exits_3_and_prints_json_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = measured(TENSORFLOW, FP16)
    monkeypatch.setattr("trtpoets.pipeline.recommend.require_current", lambda space: None)
    monkeypatch.setattr("trtpoets.pipeline.recommend.report_documents", lambda space: Documents())
    monkeypatch.setattr("trtpoets.pipeline.recommend.report_from_documents", lambda documents: report)

    def run(*options: str) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["trtpoets", "recommend", "x", "--engines", str(tmp_path), *options])
        with pytest.raises(SystemExit) as caught:
            main.main()
        return caught.value.code

    assert run("--max-p99", "1", "--json") == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["chosen"] is None
    assert err.startswith("Error: ") and "onnxruntime-fp16 at batch 1" in err and "[TP6011]" in err
    assert not run("--max-p99", "5")
    assert "ship fp16.onnx through onnxruntime" in capsys.readouterr().out


def test_measurements_must_be_of_what_is_there_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = Workspace(tmp_path, "x")
    photos = (Photo(Path("a.jpg"), "ant", Split.TEST, "0" * 64),)
    monkeypatch.setattr(result_status, "artefacts_in", lambda space: ())
    monkeypatch.setattr(result_status, "photos_to_judge", lambda space: photos)
    monkeypatch.setattr(result_status, "identities", lambda space, artefacts: ["engine 1"])

    def missing() -> tuple[str, str]:
        with pytest.raises(MissingArtefact) as caught:
            trtpoets.recommend("x", engines=tmp_path)
        return caught.value.message, caught.value.hint

    assert missing() == ("x was not evaluated yet", space.command("evaluate"))
    seal_card(space.evaluation, key=result_status.evaluation_key(["engine 1"], photos), files=[], details={})
    assert missing() == ("x was not benched yet", space.command("bench"))
    config = BenchConfig(batches=(1, 4))
    key = result_status.benchmark_key(["engine 1"], photos, config)
    seal_card(space.benchmark, key=key, files=[], details={"measurements": [], "config": asdict(config)})
    result_status.require_current(space)
    monkeypatch.setattr(result_status, "identities", lambda space, artefacts: ["engine 2"])
    assert missing() == (
        "evaluation.json was measured on other files than those of the run now",
        space.command("evaluate"),
    )
