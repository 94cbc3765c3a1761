"""Plans of builds: dry runs, and what they and builds refuse alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import trtpoets
from tests.fakes.tensorrt_builder import fake_library
from tests.support.build_requests import ONE_SIZE, RTX, TENSORRT, TX2
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.tiny import tiny_graph, tiny_onnx, tiny_spec
from trtpoets.cli.main import app
from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed
from trtpoets.core.onnx_file import PRECISION_KEY, SPEC_KEY
from trtpoets.core.types import BatchRange, Flavour, OnnxModel, Precision
from trtpoets.device.build.build_plan import machine_here, plan_from_onnx, require_possible
from trtpoets.device.build.engine import engine_from_onnx, load_engine
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.tensorrt_build import machine_of
from trtpoets.device.capability import opset_ceiling
from trtpoets.device.gpu import libcuda
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages


def test_the_card_says_how_the_engine_was_asked_for(child: Any, model: OnnxModel) -> None:
    child("ok")
    config = replace(TENSORRT, optimization_level=4, version_compatible=True, hardware_compatible=True)
    out = model.path.with_name("fp32.tensorrt.engine")
    card = engine_from_onnx(model, config, out).card
    assert (card.optimization_level, card.version_compatible, card.hardware_compatible) == (4, True, True)
    assert (card.targets, card.dla_core) == (("sm80+",), None)
    assert load_engine(out).card == card


def test_a_lean_runtime_that_is_not_installed(child: Any, model: OnnxModel) -> None:
    child("refuse: Error Code 1: Internal Error (Unable to load library: libnvinfer_lean.so.10)")
    with raises(BuildFailed, "TP4050", "Unable to load library: libnvinfer_lean.so.10") as caught:
        engine_from_onnx(model, replace(TENSORRT, version_compatible=True), model.path.with_suffix(".engine"))
    assert caught.value.hint.startswith("install TensorRT's lean runtime (libnvinfer-lean), or leave")


# Dry runs


def plan(model: OnnxModel, config: EngineConfig, opset: int = 17) -> Any:
    out = model.path.with_name(f"fp32.{config.flavour.value}.engine")
    return plan_from_onnx(model, opset, config, out, machine_here(config.flavour))


def test_a_plan_for_tensorrt_rtx(rtx: None, model: OnnxModel) -> None:
    result = plan(model, replace(RTX, targets=("SM89", "sm86")))
    assert result.library == load_tensorrt(Flavour.RTX).title and result.gpu is None
    assert (result.network, result.flags, result.targets) == (("STRONGLY_TYPED",), (), ("sm86", "sm89"))
    assert result.shapes == ((1, 16, 16, 3), (8, 16, 16, 3), (32, 16, 16, 3))
    assert (result.timing_cache, result.problems, result.notes, result.current) == (None, (), (), False)
    engine_from_onnx(model, replace(RTX, targets=("sm86", "sm89")), result.engine)
    assert plan(model, replace(RTX, targets=("SM89", "sm86"))).current


@pytest.mark.slow  # test_engine_config.py has the rule
def test_turing_is_built_alone(rtx: None, model: OnnxModel) -> None:
    result = plan(model, replace(RTX, targets=("sm75", "sm86")))
    alone, together = result.notes
    assert alone.startswith("for sm75 it can't compile FP32 MatMul layers")
    assert together.startswith("sm75 together with other targets")
    assert plan(replace(model, precision=Precision.FP16), replace(RTX, targets=("sm75",))).notes == ()


@pytest.mark.parametrize(
    ("version", "precision", "network", "flags"),
    [
        ("8.6", Precision.INT8, ("EXPLICIT_BATCH",), ("INT8", "FP16")),
        ("10.3", Precision.INT8, ("EXPLICIT_BATCH",), ("INT8", "FP16")),
        ("10.16", Precision.INT8, ("EXPLICIT_BATCH",), ("INT8", "FP16")),
        ("10.3", Precision.FP16, ("EXPLICIT_BATCH", "STRONGLY_TYPED"), ()),
        ("11.0", Precision.INT8, ("STRONGLY_TYPED",), ()),
        ("11.0", Precision.FP16, ("STRONGLY_TYPED",), ()),
    ],
)
def test_plans_of_each_era(
    child: Any, model: OnnxModel, version: str, precision: Precision, network: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    child("ok", version)
    result = plan(replace(model, precision=precision), replace(TENSORRT, version_compatible=True))
    assert (result.network, result.flags) == (network, (*flags, "VERSION_COMPATIBLE"))
    assert result.typing == ("weakly typed, INT8 and FP16 allowed" if flags else "strongly typed")
    assert (result.library, result.gpu, result.targets) == (f"TensorRT {version}", "Paper GPU (sm86)", ("sm86",))
    assert result.timing_cache == model.path.with_name("tensorrt.timing-cache")
    assert result.problems == ()
    assert [path.name for path in model.path.parent.iterdir()] == ["fp32.onnx"], "a dry run writes nothing"


@pytest.mark.slow  # one more program
def test_a_plan_asks_the_started_library(child: Any, model: OnnxModel) -> None:
    child("ok", "8.6", fast=False, cores=2)
    assert machine_here(Flavour.TENSORRT) == machine_of(fake_library("8.6", fast=False, cores=2), Messages())
    dla = replace(TENSORRT, dla_core=2, batch=ONE_SIZE)
    result = plan(replace(model, precision=Precision.FP16), dla, opset=20)
    assert [problem.message for problem in result.problems] == [
        "there is no DLA core 2: this machine has 2",
        "this GPU has no fast FP16, so TensorRT 8.6 would compute in another precision",
    ]


@pytest.mark.parametrize("behaviour", ["no driver", "segfault at start"])
def test_a_library_that_does_not_start(child: Any, model: OnnxModel, behaviour: str) -> None:
    child(behaviour)
    result = plan(model, TENSORRT)
    assert len(result.problems) == 1
    assert {
        "no driver": "can't build here: no usable CUDA driver",
        "segfault at start": "starting tensorrt: the build process was ended by SIGSEGV",
    }[behaviour] in result.problems[0].message


def test_a_dry_run_reports_problems_and_exits_1(rtx: None, model: OnnxModel) -> None:
    run = CliRunner()
    result = run.invoke(app, ["build", str(model.path), "--flavour", "rtx", "--dry-run"])
    assert result.exit_code == 0
    assert "fp32.rtx.engine:canbebuilthere" in "".join(result.stdout.split())
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "photos  16×16×3, 1 to 32 at a time, tuned for 8" in lines
    assert "options STRONGLY_TYPED, workspace 1,024 MiB" in lines and "types   strongly typed" in lines
    result = run.invoke(app, ["build", str(model.path), "--flavour", "rtx", "--dry-run", "--dla", "0", "--json"])
    assert isinstance(result.exception, BuildFailed)
    assert result.exception.code == "TP4004"
    (told_plan,) = json.loads(result.stdout)
    problem = told_plan["problems"][0]["message"]
    assert "TensorRT-RTX" in problem and "--dla 0" in problem and problem in result.exception.message
    assert [path.name for path in model.path.parent.iterdir()] == ["fp32.onnx"]


def test_nothing_is_built_when_one_engine_cant_be(rtx: None, tmp_path: Path) -> None:
    from trtpoets import build

    model = tiny_onnx(tmp_path / "tiny.onnx")
    with raises(BadInput, "TP4028", "sm99"):
        build(str(model.path), flavour=Flavour.RTX, targets=["sm99"])
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_nothing_is_built_when_the_last_of_them_cant_be(
    child: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trtpoets import build, plan_build

    child("ok", "8.6")
    monkeypatch.setattr(libcuda, "gpus", lambda: (TX2,))
    folder = bundle_run(tmp_path).folder
    words: dict[str, Any] = {"flavour": Flavour.TENSORRT, "engines": tmp_path / "engines"}
    with raises(BadInput, "TP4039", "int8", "NVIDIA Tegra X2"):
        build("tiny", **words)
    assert not list(folder.glob("*.engine"))
    plans = plan_build("tiny", **words)
    assert [bool(plan.problems) for plan in plans] == [False, False, True]
    assert [plan.opset for plan in plans] == [17, 17, 17]
    with raises(BuildFailed, "TP4004", "1", "3", "int8"):
        require_possible(plans)
    engines = build("tiny", precisions=[Precision.FP32, Precision.FP16], **words)
    assert [engine.path.name for engine in engines] == ["fp32.tensorrt.engine", "fp16.tensorrt.engine"]


@pytest.mark.parametrize(
    "version", [*(pytest.param(version, marks=pytest.mark.slow) for version in ("8.5", "8.6")), "10.3"]
)
def test_operators_that_a_parser_misreads_are_refused_alike(child: Any, tmp_path: Path, version: str) -> None:
    """The axes of a ReduceMean are an input since opset 18, which the parser of 8.5 and 8.6 ignores."""
    import onnx

    child("ok", version)
    ceiling = opset_ceiling(Flavour.TENSORRT, version)
    assert ceiling is not None
    graph = tiny_graph()
    path = tmp_path / "fp32.onnx"
    for opset in (ceiling, ceiling + 1):
        graph.opset_import[0].version = opset
        graph.ir_version = 8
        onnx.save(graph, str(path))
        (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.TENSORRT)
        if opset == ceiling:
            assert planned.problems == ()
            continue
        with raises(BadInput, "TP4021", version, f"up to {ceiling},", path, f"opset {opset}") as refused:
            trtpoets.build(str(path), flavour=Flavour.TENSORRT)
        assert [(problem.message, problem.hint) for problem in planned.problems] == [
            (refused.value.message, refused.value.hint)
        ]
        assert refused.value.hint == "export it with an older opset: trtpoets export NAME --opset 17 --force"


# Refusals that dry runs and builds share


@pytest.mark.slow  # test_fixed_batch.py of the pipeline builds such an engine
@pytest.mark.parametrize("fixed", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_fixed_batch_is_refused_alike(rtx: None, tmp_path: Path, fixed: int) -> None:
    import onnx

    path = tmp_path / "fp32.onnx"
    onnx.save(tiny_graph(batch=fixed), str(path))
    fits = BatchRange(fixed, fixed, fixed)
    (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.RTX, batch=BatchRange())
    with raises(BadInput, "TP4056", fixed, "1:8:32") as refused:
        trtpoets.build(str(path), flavour=Flavour.RTX, batch=BatchRange())
    assert [(problem.message, problem.hint) for problem in planned.problems] == [
        (refused.value.message, refused.value.hint)
    ]
    assert refused.value.hint == f"give --batch {fixed}:{fixed}:{fixed}"
    result = CliRunner().invoke(app, ["build", str(path), "--flavour", "rtx", "--batch", "1:8:32", "--dry-run"])
    assert result.exit_code == 1
    for batch in (fits, None):  # without a choice, an engine is for exactly the fixed batch
        (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.RTX, batch=batch)
        assert planned.problems == () and planned.shapes == ((fixed, 16, 16, 3),) * 3
    assert trtpoets.build(str(path), flavour=Flavour.RTX, batch=fits)[0].card.batch == fits


def test_photos_of_another_size_are_refused_alike(rtx: None, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    graph = tiny_graph()
    helper.set_model_props(graph, {SPEC_KEY: tiny_spec(side=20).to_json(), PRECISION_KEY: "fp32"})
    path = tmp_path / "fp32.onnx"
    onnx.save(graph, str(path))
    (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.RTX)
    with raises(BadArtefact, "TP4055", "[16, 16, 3]", "[20, 20, 3]") as refused:
        trtpoets.build(str(path), flavour=Flavour.RTX)
    assert [problem.message for problem in planned.problems] == [refused.value.message]
