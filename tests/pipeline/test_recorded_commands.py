"""Recorded commands repeat the work: parsed by the program, they give the same configuration."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.cli.test_main import call_main
from trtpoets.cli.main import app
from trtpoets.convert.int8.calibration import CalibrationConfig, Method
from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.core.fine_tuning import Distortions, FineTuneConfig
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.core.types import Precision, Resize
from trtpoets.core.workspace import Workspace
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.judge.bench.bench_options import bench_config
from trtpoets.judge.gate import GateConfig
from trtpoets.judge.race import RaceConfig
from trtpoets.judge.train_benchmark import TrainBenchConfig
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.recorded_commands import (
    bench_command,
    bench_train_command,
    evaluate_command,
    export_command,
    pretrained_command,
    quantize_command,
    race_command,
    retrain_command,
    sweep_command,
)
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.reporting.model import Report, TrainingSummary
from trtpoets.reporting.sections.provenance import commands_from_report
from trtpoets.train.dataset import DatasetConfig


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "my engines", "my flowers")


class Called(Exception):
    pass


def parsed(monkeypatch: pytest.MonkeyPatch, home: str, command: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the program calls the function `home` with for a command."""
    calls: list[Any] = []

    def work(*arguments: Any, **options: Any) -> None:
        calls.append((arguments, options))
        raise Called

    monkeypatch.setattr(home, work)
    with pytest.raises(Called):
        call_main(monkeypatch, *shlex.split(command)[1:])
    arguments, options = calls[0]
    options.pop("progress", None)
    return arguments, options


@pytest.mark.parametrize(
    "config",
    [
        RetrainConfig(),
        RetrainConfig(
            backbone="mobilenet_v2",
            weights=Path("/my weights/w.safetensors"),
            resize=Resize.CROP,
            device=Device.CPU,
            dataset=DatasetConfig(15, 20.5, strict=True, labels="/my photos/labels.csv", class_folders=True),
            head=HeadConfig(
                steps=77,
                batch_size=9,
                learning_rate=1e-05,
                optimizer=Optimizer.SGD,
                l2=0.0,
                label_smoothing=0.1,
                class_weights=True,
                seed=-4,
                early_stop=300,
            ),
            fine_tuning=FineTuneConfig(
                unfreeze="20",
                epochs=2.5,
                learning_rate=0.01,
                distortions=Distortions(False, 5.0, 3.5, 2.0, 1.0),
                seed=-4,
            ),
        ),
        RetrainConfig(distortions=Distortions(True, 5.0, 3.5, 2.0, 1.0)),
        RetrainConfig(try_distortions=True),
        RetrainConfig(backbone="auto", race=RaceConfig(("mobilenet_v2",), 2.5, "nano", Precision.FP16)),
    ],
    ids=["defaults", "everything", "distortions", "auto", "race"],
)
def test_retrain(monkeypatch: pytest.MonkeyPatch, space: Workspace, config: RetrainConfig) -> None:
    command = retrain_command(space, "my photos", config)
    arguments, options = parsed(monkeypatch, "trtpoets.pipeline.retrain.retrain", command)
    assert arguments == (Path("my photos").absolute(), "my flowers", config)
    assert options["engines"] == space.engines
    missing = options_of("retrain") - {word for word in shlex.split(command) if word.startswith("--")}
    if config.weights:
        of_race = {"--candidate", "--max-ms", "--board", "--precision"}
        plain = {"--workers", "--force", "--json", "--no-class-weights", "--flip-left-right", "--auto-distortions"}
        assert missing <= plain | of_race


def options_of(name: str) -> set[str]:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    return {opt for parameter in command.params for opt in parameter.opts if opt.startswith("--")}


def test_quantize(monkeypatch: pytest.MonkeyPatch, space: Workspace) -> None:
    calibration, int8 = CalibrationConfig(64, Method.MSE, seed=5), Int8Config(int8_share=0.5, max_float_layers=3)
    for refit in (True, False):
        command = quantize_command(space, [Precision.INT8], calibration, int8, refit, not refit, distill=refit)
        arguments, options = parsed(monkeypatch, "trtpoets.pipeline.quantize.quantize", command)
        assert arguments == ("my flowers",)
        assert options["precisions"] == (Precision.INT8,) and options["refit_head"] is refit
        assert (options["calibration"], options["int8"]) == (calibration, int8)
        assert options["distill"] == (DistillConfig(seed=5) if refit else None)


def test_export_evaluate_and_pretrained(monkeypatch: pytest.MonkeyPatch, space: Workspace) -> None:
    _, options = parsed(monkeypatch, "trtpoets.pipeline.export.export", export_command(space, 13))
    assert options["opset"] == 13
    gate = GateConfig(0.5, 98, ("onnxruntime-int8", "tensorrt fp16"))
    for item in (gate, None):
        arguments, _ = parsed(monkeypatch, "trtpoets.pipeline.evaluate.evaluate", evaluate_command(space, item))
        assert arguments == ("my flowers", item)
    config = DatasetConfig(labels="l.csv", class_folders=True)
    command = pretrained_command(space, "mobilenet_v2", "photos", "w.h5", config)
    arguments, options = parsed(monkeypatch, "trtpoets.pipeline.pretrained.pretrained", command)
    assert arguments == ("mobilenet_v2", "my flowers")
    assert (options["photos"], options["weights"]) == (Path("photos").absolute(), Path("w.h5").absolute())
    assert options["config"] == DatasetConfig(labels=str(Path("l.csv").absolute()), class_folders=True)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scenario": Scenario.SERVER, "target_qps": 50.5, "max_p99": 20.0, "loadgen": True},
        {"xla": True, "cpu": True},
    ],
)
def test_bench(monkeypatch: pytest.MonkeyPatch, space: Workspace, more: dict[str, Any]) -> None:
    config = bench_config([1, 4], 0.5, 2, **more)
    command = bench_command(space, config, "old.json")
    arguments, options = parsed(monkeypatch, "trtpoets.pipeline.bench.bench", command)
    assert arguments == ("my flowers", config)
    assert options["compare"] == Path("old.json").absolute()


def test_bench_train(monkeypatch: pytest.MonkeyPatch, space: Workspace) -> None:
    config = TrainBenchConfig((0.1, 1e-05), unfreeze="20")
    command = bench_train_command(space, config, "w.h5")
    arguments, options = parsed(monkeypatch, "trtpoets.pipeline.bench_train.bench_train", command)
    assert arguments == ("my flowers", config)
    assert options["weights"] == Path("w.h5").absolute()


def test_sweep(monkeypatch: pytest.MonkeyPatch, space: Workspace) -> None:
    dataset = DatasetConfig(15, 20.5, strict=True, labels="/my photos/labels.csv", class_folders=True)
    head = HeadConfig(steps=7, batch_size=9, class_weights=True, seed=3)
    config = RetrainConfig(weights=Path("/my weights/w.h5"), resize=Resize.CROP, dataset=dataset, head=head)
    arguments, options = parsed(monkeypatch, "trtpoets.pipeline.sweep.sweep", sweep_command(space, "/photos", config))
    assert arguments == (Path("/photos"), "my flowers", config)
    assert options == {"engines": space.engines, "force": False, "workers": ""}


def test_race(monkeypatch: pytest.MonkeyPatch, space: Workspace) -> None:
    candidates = ("mobilenet_v2", "resnet50=/my weights/r.h5")
    asked = RaceConfig(candidates, 4.5, "orin-nano", Precision.FP16)
    config = RetrainConfig(backbone="auto", head=HeadConfig(steps=7, seed=3), race=asked)
    arguments, options = parsed(monkeypatch, "trtpoets.pipeline.race.race", race_command(space, "/photos", config))
    assert arguments == (Path("/photos"), "my flowers", config)
    assert options == {"engines": space.engines, "force": False, "workers": ""}


def test_the_page_lists_what_was_recorded() -> None:
    recorded = {"retrain": ("trtpoets retrain A --weights W",), "bench": ("trtpoets bench x --compare B",)}
    training = TrainingSummary(HeadConfig(), best_step=1, seconds=1.0)
    report = Report(name="x", backbone="b", training=training, engines_folder="/my engines", commands=recorded)
    assert commands_from_report(report) == [
        "trtpoets retrain A --weights W",
        "trtpoets bench x --compare B",
        "trtpoets report x --engines '/my engines'",
    ]
