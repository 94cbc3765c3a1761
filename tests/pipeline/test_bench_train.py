"""`bench --train` on small photos: bottlenecks per second and learning rates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_main import call_main
from tests.conftest import SMALL
from tests.support.errors import raises
from tests.support.report_documents import train_benchmark
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.training import HeadConfig
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.judge.train_benchmark import TrainBenchConfig, TrainBenchmark
from trtpoets.pipeline.artefacts import classifier_in
from trtpoets.pipeline.bench_train import _extractors, bench_train, train_bench_config
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.result_status import train_benchmark_now
from trtpoets.pipeline.retrain import RetrainConfig, retrain
from trtpoets.reporting.tables.results import print_table


@pytest.mark.slow
def test_learning_rates_and_devices_are_measured(
    tmp_path: Path, small_photos: Path, small_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = HeadConfig(steps=60, eval_interval=20)
    retrain(small_photos, "small", RetrainConfig(backbone=SMALL, weights=small_weights, head=head), engines=tmp_path)
    space = Workspace(tmp_path, "small")
    before = {path.name for path in space.logs.iterdir()}
    other = replace(classifier_in(space).spec, weights_id="others")
    with raises(BadInput, "TP8008", "small", small_weights) as caught:
        _extractors(other, small_weights, [Device.CPU])
    assert "--weights FILE" in caught.value.hint

    config = TrainBenchConfig(learning_rates=(0.001, 1e30), photos=8, rounds=2, unfreeze="3", steps=2)
    measured = bench_train("small", config, weights=small_weights, engines=tmp_path)
    assert open_card(space.train_benchmark) == json.loads(json.dumps(to_json(measured)))
    assert train_benchmark_now(space) == measured
    result = to_json(measured)
    (cpu, *_) = result["bottlenecks"]
    assert (cpu["device"], cpu["by"], cpu["photos"]) == ("cpu", "onnxruntime", 8)
    assert 0 < cpu["low"] <= cpu["photos_per_s"] <= cpu["high"]
    (tuned, *_) = result["fine_tuning"]
    assert (tuned["device"], tuned["layers"], tuned["total"]) == ("cpu", 3, 27)
    assert 0 < tuned["low"] <= tuned["steps_per_s"] <= tuned["high"] <= 1 / tuned["step_seconds"]
    good, astray = result["heads"][:2]
    assert (good["learning_rate"], good["device"], good["curves"]["steps"][-1]) == (0.001, "cpu", 60)
    assert good["seconds"] > 0
    assert 0.3 < good["validation_accuracy"] <= 1
    assert good["best_step"] in good["curves"]["steps"]
    assert astray["learning_rate"] == 1e30
    assert "diverged" in astray["failed"]
    assert "learning rate 1e+30" in caplog.text
    assert {path.name.rpartition("_")[2] for path in space.logs.iterdir() if path.name not in before} == {
        "adam-0.001",
        "adam-1e+30",
    }


def test_bench_train_needs_a_trained_classifier(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP8001"):
        bench_train("nothing", engines=tmp_path)


def test_configuration() -> None:
    assert train_bench_config(None) == TrainBenchConfig()
    assert train_bench_config([0.1]).learning_rates == (0.1,)
    assert train_bench_config(None, "20") == TrainBenchConfig(unfreeze="20")
    with raises(BadInput, "TP5101"):
        train_bench_config([0.1, 0.1])
    for rate in (-1.0, 0.0, float("nan"), float("inf")):
        with raises(BadInput, "TP5102"):
            train_bench_config([0.1, rate])
    with raises(BadInput, "TP5103", "0", "3"):
        TrainBenchConfig(photos=0)


def test_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("train benchmark", from_json(TrainBenchmark, train_benchmark(), "x"))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert ["cpu", "onnxruntime", "200", "190", "to", "210"] in [line.split() for line in text.splitlines()]
    assert "diverged" in text
    assert "Skipped: bottlenecks on a GPU" in text


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--train", "--compare", "x.json"], "--compare would have no effect with --train", "leave --compare out"),
        (
            ["--train", "--fail-below", "2", "--max-p99", "5"],
            "--fail-below and --max-p99 would have no effect with --train",
            "leave --fail-below and --max-p99 out",
        ),
        (["--train", "--batch", "8"], "--batch would have no effect with --train", "leave --batch out"),
        (["--train", "--seconds", "8"], "--seconds would have no effect with --train", "leave --seconds out"),
        (
            ["--learning-rate", "0.1"],
            "--learning-rate would have no effect without --train",
            "add --train, or leave --learning-rate out",
        ),
        (
            ["--unfreeze", "20"],
            "--unfreeze would have no effect without --train",
            "add --train, or leave --unfreeze out",
        ),
    ],
)
def test_options_without_an_effect_are_refused(
    words: list[str],
    message: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call_main(monkeypatch, "bench", "x", *words) == 1
    assert capsys.readouterr().err == f"Error: {message} [TP8037]\n  try: {hint}\n"
