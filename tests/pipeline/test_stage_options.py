"""Command-line options become the configurations of the stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.convert.int8.calibration import CalibrationConfig
from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import Distortions, FineTuneConfig
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Resize
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.stage_options import (
    bench_config,
    calibration_config,
    distill_config,
    fine_tune_config,
    gate_config,
    head_distortions,
    int8_config,
    race_config,
    require_unused,
    retrain_config,
    run_config,
)
from trtpoets.train.dataset import DatasetConfig


def test_options_become_a_configuration() -> None:
    assert bench_config(None, 2.0, 0) == BenchConfig()
    assert bench_config(None, 60.0, 0).max_seconds == 120.0
    bounded = bench_config(None, 2.0, 0, max_p99=5.0)
    assert (bounded.min_count, bounded.aim_count, bounded.max_seconds) == (662, 1986, 120.0)
    assert bench_config(None, 2.0, 0, loadgen=True).scenario == "single-stream"
    server = bench_config([4], 2.0, 1, scenario=Scenario.SERVER, target_qps=100.0, max_p99=20.0)
    assert (server.batches, server.target_qps, server.max_p99_ms, server.threads) == ((4,), 100.0, 20.0, 1)
    with raises(BadInput, "TP5006", "100"):
        bench_config(None, 2.0, 0, target_qps=100.0)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: calibration_config(8, "guess", 0), "TP8036"),
        (lambda: retrain_config("mobilenet_v2", None, Resize.STRETCH, "tpu"), "TP8036"),
        (lambda: retrain_config("mobilenet_v2", None, Resize.STRETCH, "auto", optimizer="luck"), "TP8036"),
        (lambda: require_unused("with --dry-run", {"--strict": False, "--out": "x"}), "TP8037"),
    ],
)
def test_invalid_values_name_the_option(call: Callable[[], object], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        call()
    assert caught.value.code == code


def test_options_without_an_effect_are_named_with_what_would_give_them_one() -> None:
    with pytest.raises(BadInput) as caught:
        race_config("efficientnet_lite0", ["mobilenet_v2"], 5.0, None, None)
    assert caught.value.hint == "add --backbone auto, or leave --candidate and --max-ms out"
    assert "efficientnet_lite0" not in caught.value.message  # which may be the default


def test_fine_tuning_has_options() -> None:
    assert fine_tune_config(None, seed=3) is None
    assert fine_tune_config("auto", seed=3) == FineTuneConfig(seed=3)
    own = fine_tune_config("20", epochs=2, learning_rate=0.01, random_crop=0.0, flip_left_right=False, random_scale=5.0)
    assert own is not None
    assert (own.unfreeze, own.epochs, own.learning_rate) == ("20", 2, 0.01)
    assert own.distortions == Distortions(random_scale=5.0, random_brightness=10)
    for epochs in (2, 0):
        with raises(BadInput, "TP8037", "--fine-tuning-epochs", "without --unfreeze"):
            fine_tune_config(None, epochs=epochs)


def test_distortions_are_those_of_the_head_or_of_fine_tuning() -> None:
    options = {"flip_left_right": True, "random_crop": 5.0, "random_scale": None}
    assert head_distortions(None, False, **options) == Distortions(flip_left_right=True, random_crop=5.0)
    assert head_distortions(FineTuneConfig(), False, **options) == Distortions()
    with raises(BadInput, "TP8037", "--flip-left-right and --random-crop", "--auto"):
        head_distortions(None, True, **options)
    with raises(BadInput, "TP8037", "--no-flip-left-right would", "with --auto-distortions"):
        head_distortions(None, True, flip_left_right=False)


def test_auto_distortions_have_no_effect_on_fine_tuning() -> None:
    """The layers are unfrozen, with the distortions that are given, so --auto-distortions is what to leave out."""
    with raises(BadInput, "TP8037", "--auto-distortions would", "with --unfreeze") as caught:
        head_distortions(FineTuneConfig(), True, random_crop=5.0)
    assert caught.value.hint == "leave --auto-distortions out"


def test_options_that_are_not_set_keep_their_defaults() -> None:
    config = retrain_config("mobilenet_v2", None, Resize.STRETCH, "auto", steps=None, seed=3)
    assert config.head == HeadConfig(seed=3)
    assert calibration_config(None, None, 0) == CalibrationConfig(seed=0)
    assert int8_config(None, 2).max_float_layers == 2
    assert distill_config(False, 1) is None
    distill = distill_config(True, 1)
    assert distill is not None and distill.seed == 1
    require_unused("with --dry-run", {"--strict": False, "--out": ""})


def test_a_gate_needs_a_limit() -> None:
    assert gate_config(None, None, None) is None
    gate = gate_config(1.0, None, ["fp16"])
    assert gate is not None and gate.runners == ("fp16",)
    with pytest.raises(BadInput):
        gate_config(None, None, ["fp16"])


def test_options_of_training_have_no_effect_on_a_file_that_is_adopted() -> None:
    plain = RetrainConfig()
    assert run_config(plain, None, (), 0, Path("net.onnx")).model == Path("net.onnx")
    with raises(BadInput, "TP8047", "--model", "--backbone would"):
        run_config(replace(plain, backbone="other"), None, (), 0, Path("net.onnx"))


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ("--backbone and --steps", replace(RetrainConfig(backbone="other"), head=HeadConfig(steps=5))),
        ("--weights", RetrainConfig(weights=Path("w.h5"))),
        ("--device", RetrainConfig(device=Device.CPU)),
        ("--unfreeze", RetrainConfig(fine_tuning=FineTuneConfig())),
        ("--labels", RetrainConfig(dataset=DatasetConfig(labels="labels.csv"))),
        ("--validation-percent and --test-percent", RetrainConfig(dataset=DatasetConfig(20, 20))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_only_the_options_of_training_that_are_given_are_named(options: str, config: RetrainConfig) -> None:
    with raises(BadInput, "TP8047") as caught:
        run_config(config, None, (), 0, Path("net.onnx"))
    assert caught.value.hint == f"leave {options} out"
