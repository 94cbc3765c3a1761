"""Where the numbers come from: machine, versions, weights, and commands."""

from __future__ import annotations

import shlex
from dataclasses import asdict

from typer.main import get_command

from tests.support.report_documents import documents, report_of, train_benchmark
from trtpoets.cli.main import app
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.bench.benchmark import BenchConfig
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import GateConfig, gate_from_evaluations
from trtpoets.reporting.sections.provenance import commands_from_report, conditions_from_report


def test_the_commands_on_the_page_are_commands() -> None:
    content = documents()
    content |= {"opset": 17, "train_benchmark": train_benchmark()}
    content["train_benchmark"]["config"] = {"learning_rates": [0.001, 0.01]}
    content["quantisation"]["int8"] |= {
        "calibration": {"asked": "auto", "photos": 64, "seed": 3, "method": "mse"},
        "config": {"int8_share": 0.9, "max_float_layers": 4},
        "head": {"kept": True, "why": "it helps"},
    }
    for card in content["engines"]:
        card |= {"workspace_mib": 512, "optimization_level": 3, "version_compatible": True, "dla_core": 0}
    evaluations = from_json(Evaluations, content["evaluation"], "x").evaluations
    config = GateConfig(max_drop=0.5, min_agreement=98, runners=("onnxruntime-fp16",))
    content["evaluation"]["gate"] = to_json(gate_from_evaluations(evaluations, config))
    server = BenchConfig(batches=(4,), scenario="server", target_qps=50, max_p99_ms=20, loadgen=True, cpu=True)
    content["benchmark"]["config"] = asdict(server)
    commands = commands_from_report(report_of(content))
    assert commands[1:] == [
        "trtpoets export insects --opset 17",
        (
            "trtpoets quantize insects --precision fp16 --precision int8 --method auto --photos 64 --int8-share 0.9 "
            "--max-fp16-layers 4 --refit-head --seed 3"
        ),
        (
            "trtpoets build insects --precision fp16 --precision int8 --flavour rtx --batch 1:8:32 --workspace 512 "
            "--optimization-level 3 --version-compatible --dla 0"
        ),
        "trtpoets evaluate insects --max-drop 0.5 --min-agreement 98 --runner onnxruntime-fp16",
        (
            "trtpoets bench insects --batch 4 --seconds 2.0 --cpu --scenario server --target-qps 50 --max-p99 20 "
            "--loadgen --threads 0"
        ),
        "trtpoets bench insects --train --learning-rate 0.001 --learning-rate 0.01",
        "trtpoets report insects",
    ]
    there = get_command(app).commands  # type: ignore[attr-defined]
    for command in commands:
        words = shlex.split(command)
        options = {option for parameter in there[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, command


def test_conditions_that_are_not_known_are_left_out() -> None:
    lines = dict(conditions_from_report(report_of(documents())))
    assert lines["when"] == "2026-01-01T00:00:00+00:00"
    assert lines["processor"] == "a processor, 2 usable cores"
    assert lines["threads"] == "all cores"
    assert "memory" not in lines
    assert all(value for value in lines.values())


def test_a_report_of_nothing_has_no_commands() -> None:
    assert commands_from_report(report_of({})) == []
