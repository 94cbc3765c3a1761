"""`bench`: interrupted benchmarks, comparison with earlier ones, limits, ways to run an artefact."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.support.benchmarks import QUICK, WARM, benchmark_document, typed
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.cli import main
from trtpoets.core.errors import BadArtefact, BadInput, Interrupted, MissingDependency
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Classifier, Int8Form, OnnxModel, Photo, Precision, Split
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.device.gpu.libcuda import Detected, Gpu
from trtpoets.device.runners import Runnable, Way
from trtpoets.judge.bench.benchmark import Benchmark, benchmark_from_artefacts
from trtpoets.judge.bench.measured_runner import BatchRounds, MeasuredRunner
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import GateConfig
from trtpoets.pipeline.bench import _runnable, _ways


class Measured:
    """Makes benchmarks without measuring, and counts them."""

    def __init__(self, incomplete: str = "") -> None:
        self.incomplete, self.made = incomplete, 0

    def __call__(self, *_: Any) -> Benchmark:
        self.made += 1
        return replace(typed(benchmark_document(self.made, 5.0)), incomplete=self.incomplete)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """A run without artefacts, and a benchmark that takes no time."""
    result = Measured()
    monkeypatch.setattr("trtpoets.pipeline.bench.benchmark_from_artefacts", result)
    monkeypatch.setattr("trtpoets.pipeline.bench.artefacts_in", lambda space: ())
    monkeypatch.setattr("trtpoets.pipeline.bench.photos_to_judge", lambda space: ())
    return result


def test_ctrl_c_writes_an_incomplete_benchmark(measured: Measured, tmp_path: Path) -> None:
    measured.incomplete = "at batch 1, in round 3 of 20"
    with raises(Interrupted, "TP5014", "at batch 1, in round 3 of 20") as caught:
        trtpoets.bench("flowers", QUICK, engines=tmp_path)
    assert caught.value.exit_code == 130
    space = Workspace(tmp_path, "flowers")
    kept = open_card(space.benchmark)
    assert kept is not None
    assert (kept["incomplete"], len(kept["measurements"])) == (measured.incomplete, 2)
    measured.incomplete = ""
    trtpoets.bench("flowers", QUICK, engines=tmp_path, force=False)
    trtpoets.bench("flowers", QUICK, engines=tmp_path, force=False)
    assert measured.made == 2, "an incomplete one is measured again, a complete one is not"


def test_compare_with_an_earlier_benchmark(measured: Measured, tmp_path: Path) -> None:
    trtpoets.bench("flowers", QUICK, engines=tmp_path)
    older = Workspace(tmp_path, "flowers").benchmark
    again = trtpoets.bench("flowers", QUICK, compare=older, engines=tmp_path)
    assert again.compared is not None
    assert [change.verdict for change in again.compared.changes] == ["same", "same"]
    assert open_card(older) == to_json(again)
    broken = {**to_json(again), "measurements": [{"runner": "tensorflow"}]}
    for text in ("{}", json.dumps(broken)):
        (tmp_path / "other.json").write_text(text)
        with raises(BadArtefact, "TP5011"):
            trtpoets.bench("flowers", QUICK, compare=tmp_path / "other.json", engines=tmp_path)
    assert measured.made == 2, "a file that can't be read is reported before anything is measured"


def test_the_default_number_of_inferences_exceeds_the_minimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def ask(request: dict[str, Any], batch: int) -> dict[str, Any]:
        asked.append(request)
        return {"round": {"spans": [1_000_000]}}

    for aim, expected in ((0, 70), (205, 205)):
        config = replace(QUICK, min_count=70, aim_count=aim)
        runner = MeasuredRunner(OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec()), Way.PLAIN, config)
        runner.batch_rounds[1] = BatchRounds(WARM)
        monkeypatch.setattr(runner, "_ask", ask)
        asked.clear()
        for number in range(config.rounds):
            runner.round(1, number)
        assert sum(item["count"] for item in asked) == expected


@pytest.mark.parametrize("options", [("--fail-below", "nan"), ("--max-p99", "inf"), ("--fail-below", "-1")])
def test_invalid_limits_are_rejected_before_measuring(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trtpoets", "bench", "flowers", "--engines", str(tmp_path), *options])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert (caught.value.code in (1, 2), measured.made) == (True, 0)


def test_a_missing_loadgen_is_reported_before_measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    photo = Photo(tmp_path / "a.jpg", "ant", Split.TEST, "0" * 64)
    with raises(MissingDependency, "TP1050", "mlperf_loadgen"):
        benchmark_from_artefacts([Classifier(tmp_path, tiny_spec())], [photo], replace(QUICK, loadgen=True))


def test_scores_are_kept_if_the_gate_rejects_its_options(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.pipeline.evaluate.artefacts_in", lambda space: ())
    monkeypatch.setattr("trtpoets.pipeline.evaluate.photos_to_judge", lambda space: ())
    monkeypatch.setattr("trtpoets.pipeline.evaluate._evaluated", lambda *_: Evaluations(()))
    with pytest.raises(BadInput):
        trtpoets.evaluate("flowers", GateConfig(max_drop=1.0, runners=("rtx-fp8",)), engines=tmp_path)
    kept = open_card(Workspace(tmp_path, "flowers").evaluation)
    assert kept is not None
    assert kept["evaluations"] == []


def test_ways_to_run_each_artefact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("trtpoets.pipeline.runner_access.gpu_providers", lambda: ["cuda"])
    artefacts: list[Runnable] = [
        Classifier(tmp_path, tiny_spec()),
        OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec()),
    ]
    assert _ways(artefacts, QUICK) == {0: (Way.PLAIN,), 1: (Way.PLAIN, Way.CUDA)}
    more = _ways(artefacts, replace(QUICK, xla=True, keras=True, cpu=True))
    assert more[0] == (Way.PLAIN, Way.CPU, Way.XLA, Way.KERAS)


@pytest.mark.parametrize("with_cpu_form", [False, True])
def test_the_file_for_tensorrt_is_not_measured_without_a_gpu(
    tmp_path: Path, with_cpu_form: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, space = tiny_spec(), Workspace(tmp_path, "flowers")
    fp32 = OnnxModel(tmp_path / "fp32.onnx", Precision.FP32, spec)
    pairs = OnnxModel(tmp_path / "int8.onnx", Precision.INT8, spec)
    cpu = OnnxModel(tmp_path / "int8.cpu.onnx", Precision.INT8, spec, Int8Form.CPU)
    artefacts = (fp32, pairs, cpu) if with_cpu_form else (fp32, pairs)
    monkeypatch.setattr("trtpoets.pipeline.bench.detect", Detected)
    runnable, (left_out,) = _runnable(space, artefacts, QUICK)
    assert runnable == [model for model in artefacts if model is not pairs]
    assert left_out.what == "measuring onnxruntime-int8"
    assert "its time is not that of INT8" in left_out.why
    assert f"trtpoets bench flowers --qdq-on-cpu --engines {tmp_path}" in left_out.why
    instead = (
        "int8.cpu.onnx is INT8 for CPUs and is measured" if with_cpu_form else "trtpoets quantize flowers --cpu-form"
    )
    assert instead in left_out.why
    assert _runnable(space, artefacts, replace(QUICK, qdq_on_cpu=True)) == (list(artefacts), [])
    gpu = Gpu("NVIDIA L4", (8, 9), 24 << 30)
    monkeypatch.setattr("trtpoets.pipeline.bench.detect", lambda: Detected((gpu,)))
    assert _runnable(space, artefacts, QUICK) == (list(artefacts), [])
