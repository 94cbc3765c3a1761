"""Options have the defaults of the configurations, and wrong values are rejected."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import call_main
from tests.support.errors import raises
from trtpoets.cli import main
from trtpoets.core.errors import BadInput
from trtpoets.core.shared_options import BATCH_RANGE


@pytest.mark.parametrize("name", ["../up", "a/b", "", "\t"])
def test_invalid_run_names_are_rejected(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call_main(monkeypatch, "export", name) == 1
    assert "the name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_have_the_defaults_of_the_configurations() -> None:
    from trtpoets.convert.int8.calibration import CalibrationConfig
    from trtpoets.convert.onnx_export import ExportConfig
    from trtpoets.core.types import BatchRange
    from trtpoets.device.build.engine_config import EngineConfig
    from trtpoets.judge.bench.benchmark import BenchConfig
    from trtpoets.pipeline.retrain import RetrainConfig
    from trtpoets.pipeline.stage_options import batch_range, bench_config, calibration_config, retrain_config

    def defaults(command: str) -> dict[str, Any]:
        parameters = inspect.signature(getattr(main, command)).parameters.values()
        return {own.name: own.default for own in parameters if own.default is not inspect.Parameter.empty}

    retrain, quantize = defaults("retrain"), defaults("quantize")
    config = retrain_config(
        retrain["backbone"],
        retrain["weights"],
        retrain["resize"],
        retrain["device"],
        validation_percent=retrain["validation_percent"],
        test_percent=retrain["test_percent"],
        strict=retrain["strict"],
        **{name: retrain[name] for name in ("steps", "batch_size", "seed", "learning_rate", "optimizer", "l2")},
        **{name: retrain[name] for name in ("label_smoothing", "class_weights", "early_stop")},
    )
    assert config == RetrainConfig()
    run = defaults("run")
    assert {name: run[name] for name in run.keys() & retrain.keys()} == {
        name: retrain[name] for name in run.keys() & retrain.keys()
    }
    assert calibration_config(quantize["photos"], quantize["method"], quantize["seed"]) == CalibrationConfig()
    assert defaults("export")["opset"] == ExportConfig().opset
    assert defaults("build")["workspace"] == EngineConfig.workspace_mib
    stated = re.search(r"default: ([0-9:]+), or the network's batch", BATCH_RANGE.help)
    assert defaults("build")["batch"] is None and stated and batch_range(stated.group(1)) == BatchRange()
    bench = defaults("bench")
    assert bench_config(bench["batches"], bench["seconds"], bench["threads"]) == BenchConfig()


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:3:4", "1:2:x"])
def test_an_invalid_batch_range_is_rejected(text: str) -> None:
    from trtpoets.pipeline.stage_options import batch_range

    with raises(BadInput, "TP4020"):
        batch_range(text)
