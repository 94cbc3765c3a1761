"""Build options in all versions of TensorRT, dry runs, timing caches, layer reports."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import trtpoets
from tests.fakes.tensorrt_builder import LAYERS, TIMINGS, fake_library
from tests.fakes.tensorrt_builder import log as told
from tests.support.bundle_run import bundle_run
from tests.support.tiny import tiny_graph, tiny_onnx, tiny_spec
from trtpoets.cli.main import app
from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed
from trtpoets.core.files import read_json
from trtpoets.core.onnx_file import PRECISION_KEY, SPEC_KEY
from trtpoets.core.system_files import available_memory
from trtpoets.core.types import BatchRange, Flavour, LayerReport, OnnxModel, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.build_plan import machine_here, plan_from_onnx, require_possible
from trtpoets.device.build.engine import engine_from_onnx, engine_key, load_engine
from trtpoets.device.build.engine_config import EngineConfig, problems, request_of
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.layer_types import report_from_inspector
from trtpoets.device.build.tensorrt_build import build_engine, machine_of
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.capability import arithmetic_of, fastest, least_capability, opset_ceiling, why_not
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt
from trtpoets.device.tensorrt_messages import Messages
from trtpoets.reporting.tables.builds import layer_lines

RTX = EngineConfig(Flavour.RTX)
TENSORRT = EngineConfig(Flavour.TENSORRT)
ONE_SIZE = BatchRange(4, 4, 4)
ORIN = Gpu("Orin", (8, 7), 8 << 30)
NANO = Gpu("NVIDIA Tegra X1", (5, 3), 4 << 30)
TX2 = Gpu("NVIDIA Tegra X2", (6, 2), 8 << 30)
T4 = Gpu("Tesla T4", (7, 5), 16 << 30)


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return tiny_onnx(tmp_path / "tiny" / "fp32.onnx")


def messages_of(config: EngineConfig, precision: Precision, version: str, gpu: Gpu = ORIN) -> list[str]:
    return [f"{each.message} ({each.hint})" for each in problems(config, precision, fake_library(version), gpu)]


# What GPUs can


@pytest.mark.parametrize(
    ("capability", "fp16", "int8", "tensor_cores", "bf16", "fp8"),
    [
        ((5, 0), False, False, False, False, False),
        ((5, 3), True, False, False, False, False),
        ((6, 0), True, False, False, False, False),
        ((6, 1), False, True, False, False, False),
        ((6, 2), True, False, False, False, False),
        ((7, 0), True, True, False, False, False),
        ((7, 2), True, True, True, False, False),
        ((7, 5), True, True, True, False, False),
        ((8, 0), True, True, True, True, False),
        ((8, 7), True, True, True, True, False),
        ((8, 9), True, True, True, True, True),
        ((9, 0), True, True, True, True, True),
        ((11, 0), True, True, True, True, True),
        ((12, 0), True, True, True, True, True),
    ],
)
def test_what_a_capability_computes_fast(
    capability: tuple[int, int], fp16: bool, int8: bool, tensor_cores: bool, bf16: bool, fp8: bool
) -> None:
    found = arithmetic_of(capability)
    assert (found.fp16, found.int8, found.int8_tensor_cores, found.bf16, found.fp8) == (
        *(fp16, int8, tensor_cores),
        *(bf16, fp8),
    )
    assert found.precisions == tuple(p for p in Precision if not why_not(capability, p))
    assert fastest(capability) is (Precision.FP16 if fp16 else Precision.FP32)


@pytest.mark.parametrize(
    ("version", "opset", "least"),
    [
        ("8.2.1", 13, (5, 0)),
        ("8.4.1", 17, (5, 0)),
        ("8.6.1", 17, (5, 0)),
        ("10.3.0", 20, (7, 0)),
        ("10.4.0", 20, (7, 0)),
        ("10.5.0", 20, (7, 5)),
        ("10.9.0.34", 22, (7, 5)),
        ("10.13.3.9", 24, (7, 5)),
        ("11.4.0.106", 24, (7, 5)),
        ("7.1.3", None, None),
        ("", None, None),
    ],
)
def test_what_a_version_reads(version: str, opset: int | None, least: tuple[int, int] | None) -> None:
    assert opset_ceiling(Flavour.TENSORRT, version) == opset
    assert least_capability(Flavour.TENSORRT, version) == least
    assert opset_ceiling(Flavour.RTX, "1.7.1.116") is None and least_capability(Flavour.RTX, "1.7.1") == (7, 5)


@pytest.mark.parametrize("gpu", [NANO, TX2])
def test_int8_is_refused_where_there_is_no_dp4a(gpu: Gpu) -> None:
    number = "{}.{}".format(*gpu.compute_capability)
    assert messages_of(TENSORRT, Precision.INT8, "8.6", gpu) == [
        (
            f"int8 is not faster on this {gpu.name}: compute capability {number} has no fast INT8: "
            "dp4a exists since 6.1 (except 6.2), tensor cores for INT8 since 7.2 (build --precision fp16)"
        )
    ]
    assert messages_of(TENSORRT, Precision.FP16, "8.6", gpu) == []


def test_fp16_is_refused_where_it_is_not_faster() -> None:
    assert messages_of(TENSORRT, Precision.FP16, "8.6", Gpu("Tesla P4", (6, 1), 8 << 30)) == [
        (
            "fp16 is not faster on this Tesla P4: compute capability 6.1 is not faster in FP16 than in FP32 "
            "(5.3, 6.0, 6.2, 7.0 and later are) (build --precision fp32)"
        )
    ]


def test_a_gpu_that_this_tensorrt_has_left_behind() -> None:
    (text,) = messages_of(TENSORRT, Precision.FP16, "10.3", TX2)
    assert text.startswith("TensorRT 10.3 needs compute capability 7.0 or later, but this NVIDIA Tegra X2 has 6.2")


def test_volta_ends_with_tensorrt_10_4() -> None:
    """Release notes of 10.5: "NVIDIA Volta support (GPUs with compute capability 7.0) has been removed"."""
    volta = Gpu("Tesla V100", (7, 0), 16 << 30)
    assert messages_of(TENSORRT, Precision.FP16, "10.3", volta) == []
    (text,) = messages_of(TENSORRT, Precision.FP16, "10.7", volta)
    assert text.startswith("TensorRT 10.7 needs compute capability 7.5 or later, but this Tesla V100 has 7.0")


def test_int8_without_fast_fp16_keeps_the_rest_in_fp32() -> None:
    """A Tesla P4 has dp4a and no FP16."""
    module = fake_library("8.6")
    module.module.Builder.platform_has_fast_fp16 = False
    build_engine(module, b"onnx", request(Precision.INT8), lambda _: True, Messages())
    assert told["flags"] == ["INT8"]


# What each version can be asked for


def request(precision: Precision, **changes: Any) -> Any:
    model = OnnxModel(Path("x.onnx"), precision, tiny_model().spec)
    return request_of(model, replace(TENSORRT, batch=BatchRange(1, 2, 4), **changes))


def tiny_model() -> OnnxModel:
    from tests.support.tiny import tiny_spec

    return OnnxModel(Path("x.onnx"), Precision.FP32, tiny_spec())


@pytest.mark.parametrize(
    ("version", "changes", "expected"),
    [
        ("8.5", {"optimization_level": 3}, "TensorRT 8.5 has no optimisation levels (leave --optimization-level out"),
        ("8.6", {"optimization_level": 5}, None),
        ("8.5", {"version_compatible": True}, "TensorRT 8.5 can't build engines for later versions"),
        ("8.6", {"version_compatible": True}, None),
        ("11.0", {"version_compatible": True}, None),
        (
            "8.5",
            {"hardware_compatible": True},
            "so --hardware-compatible is not possible (leave --hardware-compatible out: it needs TensorRT 8.6",
        ),
        ("10.3", {"hardware_compatible": True}, None),
        ("8.6", {"dla_core": 0, "batch": ONE_SIZE}, None),
        ("8.6", {"dla_core": -1, "batch": ONE_SIZE}, "there is no DLA core -1 (cores count from 0: --dla 0)"),
        ("10.3", {"dla_core": 0}, "a DLA supports one fixed batch size, not 1:8:32 (--batch 8:8:8)"),
        ("10.3", {"targets": ("sm86",)}, "builds only for the GPU of this machine, so --target sm86 is not possible"),
        ("10.3", {"workspace_mib": 15}, "the workspace must be at least 16 MiB, not 15 (for example: --workspace 1024"),
    ],
)
def test_options_by_version(version: str, changes: dict[str, Any], expected: str | None) -> None:
    found = messages_of(replace(TENSORRT, **changes), Precision.FP16, version)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and expected in found[0]


def test_what_a_dla_does_not_compute() -> None:
    dla = replace(TENSORRT, dla_core=0, batch=ONE_SIZE)
    assert messages_of(dla, Precision.FP32, "10.3") == [
        "a DLA supports FP16 and INT8, not FP32 (for the DLA: build --precision fp16)"
    ]
    assert messages_of(dla, Precision.INT8, "10.3") == [
        (
            "TensorRT 10.3 does not support INT8 with Q/DQ pairs on a DLA; TensorRT 11.4.1 and later do "
            "(for the DLA: build --precision fp16)"
        )
    ]
    assert messages_of(dla, Precision.INT8, "11.0") == []  # strongly typed: Q/DQ pairs are all there is


def test_hardware_compatibility_is_for_ampere_and_no_jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TENSORRT, hardware_compatible=True)
    (text,) = messages_of(config, Precision.FP16, "10.3", T4)
    assert text.startswith("--hardware-compatible needs compute capability 8.0 (Ampere) or later, but this Tesla T4")
    monkeypatch.setattr(libcuda, "driver_version", lambda: "L4T R36.4.3")
    (text,) = messages_of(config, Precision.FP16, "10.3", ORIN)
    assert text.startswith("on a Jetson, TensorRT can't build for other GPUs")
    monkeypatch.setattr(libcuda, "driver_version", lambda: "540.4.0")  # in a container, which has no nv_tegra_release
    (text,) = messages_of(config, Precision.FP16, "10.3", replace(ORIN, integrated=True))
    assert text.startswith("on a Jetson, TensorRT can't build for other GPUs")


@pytest.mark.parametrize(
    ("changes", "text", "hint"),
    [
        ({"version_compatible": True}, "can't build engines for later versions", "--flavour tensorrt"),
        ({"hardware_compatible": True}, "its engines run on Ampere and later", "leave --hardware-compatible out"),
        ({"dla_core": 0}, "does not support DLA, so --dla 0 is not possible", "--flavour tensorrt"),
    ],
)
def test_what_tensorrt_rtx_lacks(rtx: None, model: OnnxModel, changes: dict[str, Any], text: str, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        engine_from_onnx(model, replace(RTX, **changes), model.path.with_suffix(".engine"))
    assert text in caught.value.message and hint in caught.value.hint
    assert [path.name for path in model.path.parent.iterdir()] == ["fp32.onnx"]


# What the builder is told


def layers_built(library: TensorRt, asked: BuildRequest) -> LayerReport:
    """Build a tiny network of the request's precision, and ask for its layers as the build process does."""
    content = tiny_graph(asked.precision).SerializeToString()
    built = build_engine(library, content, asked, lambda _: True, Messages())
    return inspect_engine(library, built.engine, asked, built.logger)


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.0"])
def test_levels_and_compatibility_reach_the_builder(version: str) -> None:
    asked = request(Precision.FP32, optimization_level=5, version_compatible=True, hardware_compatible=True)
    counts = layers_built(fake_library(version), asked).counts
    assert told["flags"] == ["VERSION_COMPATIBLE"]
    assert (told["level"], told["hardware"], told["verbosity"]) == (5, "ampere plus", "detailed")
    assert counts, "the inspector's runtime was not allowed to run the engine's own code"


@pytest.mark.parametrize(
    ("version", "network", "flags"),
    [
        ("8.5", 0b1, ["FP16", "GPU_FALLBACK"]),
        ("8.6", 0b1, ["FP16", "GPU_FALLBACK"]),
        ("10.3", 0b1, ["FP16", "GPU_FALLBACK"]),  # weakly typed, as no DLA of 10.x is served otherwise
        ("11.0", 0b1, ["GPU_FALLBACK"]),
    ],
)
def test_a_dla_falls_back_on_the_gpu(version: str, network: int, flags: list[str]) -> None:
    asked = request(Precision.FP16, dla_core=1)
    counts = layers_built(fake_library(version, cores=2), asked).counts
    assert (told["network"], told["flags"], told["dla"]) == (network, flags, ("DLA", 1))
    assert counts, "the inspector's runtime was not on the same DLA core"


@pytest.mark.parametrize(
    ("cores", "text", "hint"),
    [
        (
            0,
            "TensorRT 10.3 finds no DLA on this machine, so --dla 2 is not possible",
            "Xavier, Orin NX and AGX Orin have one",
        ),
        (2, "there is no DLA core 2: this machine has 2", "give --dla 0 to --dla 1"),
    ],
)
def test_a_dla_that_is_not_there(cores: int, text: str, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        build_engine(
            fake_library("10.3", cores=cores), b"onnx", request(Precision.FP16, dla_core=2), lambda _: True, Messages()
        )
    assert caught.value.message == text and hint in caught.value.hint


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3", "11.0"])
def test_default_options_set_no_flags(version: str) -> None:
    build_engine(fake_library(version), b"onnx", request(Precision.FP32), lambda _: True, Messages())
    assert (told.get("flags"), told["level"], told["hardware"], told["dla"]) == (None, None, None, ("GPU", -1))


def test_every_option_is_another_engine(child: Any, model: OnnxModel) -> None:
    child("ok")
    others = [
        {"version_compatible": True},
        {"hardware_compatible": True},
        {"dla_core": 0},
        {"dla_core": 1},
        {"optimization_level": 0},
        {},
    ]
    assert len({engine_key(model, replace(TENSORRT, **changes)) for changes in others}) == len(others)


def test_the_card_says_how_the_engine_was_asked_for(child: Any, model: OnnxModel) -> None:
    child("ok")
    config = replace(TENSORRT, optimization_level=4, version_compatible=True, hardware_compatible=True)
    out = model.path.with_name("fp32.tensorrt.engine")
    card = engine_from_onnx(model, config, out).card
    assert (card.optimization_level, card.version_compatible, card.hardware_compatible) == (4, True, True)
    assert (card.targets, card.dla_core) == (("sm80+",), None)
    assert load_engine(out).card == card


# Timings


def test_timings_are_kept_and_used(child: Any, model: OnnxModel) -> None:
    child("ok")
    out = model.path.with_name("fp32.tensorrt.engine")
    timings = model.path.with_name("tensorrt.timing-cache")
    engine_from_onnx(model, TENSORRT, out)
    assert timings.read_bytes() == TIMINGS + b" measured"
    assert read_json(card_of(timings))["details"] == {
        "library": "TensorRT 10.3",
        "gpu": "Paper GPU",
        "compute_capability": [8, 6],
    }
    engine_from_onnx(model, TENSORRT, out)
    assert timings.read_bytes() == TIMINGS + b" measured measured"


@pytest.fixture(scope="module")
def kept_timings() -> dict[str, bytes]:
    """Files that a build left beside its network, by their names; the first test that builds it fills it."""
    return {}


@pytest.mark.parametrize(
    "change",
    [
        *("gpu", "content", "card", "not JSON"),
        *(pytest.param(change, marks=pytest.mark.slow) for change in ("no card", "deep JSON")),
    ],
)
def test_a_timing_cache_that_does_not_match_is_ignored(
    child: Any,
    model: OnnxModel,
    change: str,
    kept_timings: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    child("ok")
    out = model.path.with_name("fp32.tensorrt.engine")
    timings = model.path.with_name("tensorrt.timing-cache")
    if not kept_timings:
        engine_from_onnx(model, TENSORRT, out)
        kept_timings.update({path.name: path.read_bytes() for path in (timings, card_of(timings))})
    for name, content in kept_timings.items():
        timings.with_name(name).write_bytes(content)
    if change == "gpu":
        monkeypatch.setattr(libcuda, "gpus", lambda: (Gpu("Rock GPU", (8, 6), 8 << 30),))
    elif change == "content":
        timings.write_bytes(b"something else")
    elif change == "card":
        card_of(timings).write_text(card_of(timings).read_text().replace("Paper", "Stone"))
    elif change == "no card":
        card_of(timings).unlink()
    else:
        card_of(timings).write_text("{" if change == "not JSON" else "[" * 100_000)
    with caplog.at_level(logging.INFO):
        engine_from_onnx(model, TENSORRT, out)
    assert f"{timings} is ignored: " in caplog.text
    assert timings.read_bytes() == TIMINGS + b" measured", "and what was measured now is kept"


def test_timings_that_tensorrt_refuses(child: Any, model: OnnxModel) -> None:
    """The card is valid, but TensorRT rejects the timing cache."""
    messages = Messages()
    for content in (b"garbage", TIMINGS + b" of Another GPU"):
        built = build_engine(fake_library("10.3"), b"onnx", request(Precision.FP32), lambda _: True, messages, content)
        assert told["timings"] == b"" and built.timing_cache == TIMINGS + b" measured"
    assert (
        messages.notes == ["the timing cache does not match this device and library: all kernels are timed again"] * 2
    )
    assert len(messages.warnings) == 2 and messages.errors == []


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.0"])
def test_timings_that_do_not_fit_are_no_reason_of_a_failure(version: str) -> None:
    """TensorRT reports them as errors before the build fails for another reason."""
    library = fake_library(version, "refuse: Error Code 10: Internal Error (Could not find any implementation for a.)")
    for content in (b"garbage", TIMINGS + b" of Another GPU"):
        with pytest.raises(BuildFailed, match=r"fp32 engine: Could not find any implementation for a$"):
            build_engine(library, b"onnx", request(Precision.FP32), lambda _: True, Messages(), content)


def test_a_lean_runtime_that_is_not_installed(child: Any, model: OnnxModel) -> None:
    child("refuse: Error Code 1: Internal Error (Unable to load library: libnvinfer_lean.so.10)")
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, replace(TENSORRT, version_compatible=True), model.path.with_suffix(".engine"))
    assert caught.value.message.endswith("engine: Unable to load library: libnvinfer_lean.so.10")
    assert caught.value.hint.startswith("install TensorRT's lean runtime (libnvinfer-lean), or leave")


def test_tensorrt_rtx_times_nothing(rtx: None, model: OnnxModel) -> None:
    engine_from_onnx(model, RTX, model.path.with_name("fp32.rtx.engine"))
    assert not list(model.path.parent.glob("*timing*"))


# Layers


def test_the_card_contains_the_layers(child: Any, model: OnnxModel) -> None:
    child("ok", layers=LAYERS)
    engine = engine_from_onnx(model, TENSORRT, model.path.with_name("fp32.tensorrt.engine"))
    layers = engine.card.layers
    assert layers is not None
    assert layers == report_from_inspector(LAYERS)
    assert layers.layers == {"conv": "int8", "head": "fp16", "softmax": "fp16", "out": "fp32"}
    assert layers.counts == {"fp16": 2, "int8": 1, "fp32": 1}
    assert layers.shares == {"fp16": 0.5, "int8": 0.25, "fp32": 0.25}
    assert layer_lines([engine]) == [
        "fp32.tensorrt.engine: 4 layers: 2 in FP16 (50.0 %), 1 in INT8 (25.0 %) and 1 in FP32 (25.0 %)"
    ]


def test_layers_of_tensorrt_rtx_without_a_gpu(rtx: None, model: OnnxModel) -> None:
    engine = engine_from_onnx(model, RTX, model.path.with_name("fp32.rtx.engine"))
    assert engine.card.layers is not None and engine.card.layers.counts == {}
    assert layer_lines([engine, engine]) == [
        "Layer by layer: inspecting the layers needs a GPU that can run the engine, but there is none"
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{", '{"Layers": 3}', '{"Layers": ["conv", "head"]}', '{"Layers": [{}, {"Inputs": 3}]}'),
        '{"Layers": [{"Inputs": [3, null, {"Format/Datatype": ["x"]}], "Weights": "Int8"}]}',
        "[" * 100_000,
    ],
)
def test_what_the_inspector_might_say_instead(text: str) -> None:
    report = report_from_inspector(text)
    assert (report.layers, report.counts, report.shares) == ({}, {}, {})
    assert report.why_not.startswith("the engine inspector")


def test_types_are_read_in_every_spelling() -> None:
    spellings = {
        "Row major linear FP32": "fp32",
        "Channel major FP16 format where channel % 8 == 0": "fp16",
        "Four wide channel vectorized row major Int8 format.": "int8",
        "Half": "fp16",
        "Float": "fp32",
        "BFloat16": "bf16",
        "FP8": "fp8",
    }
    for field in ("Format/Datatype", "DataType"):
        layers = [
            {"Name": word, "LayerType": "conv", "Inputs": [{field: word}]} for word in [*spellings, "UInt8", "Int32"]
        ]
        assert report_from_inspector(json.dumps({"Layers": layers})).layers == spellings


# Dry runs


def plan(model: OnnxModel, config: EngineConfig, opset: int = 17) -> Any:
    out = model.path.with_name(f"fp32.{config.flavour.value}.engine")
    return plan_from_onnx(model, opset, config, out, machine_here(config.flavour))


def test_a_plan_for_tensorrt_rtx(rtx: None, model: OnnxModel) -> None:
    found = plan(model, replace(RTX, targets=("SM89", "sm86")))
    assert found.library == load_tensorrt(Flavour.RTX).title and found.gpu is None
    assert (found.network, found.flags, found.targets) == (("STRONGLY_TYPED",), (), ("sm86", "sm89"))
    assert found.shapes == ((1, 16, 16, 3), (8, 16, 16, 3), (32, 16, 16, 3))
    assert (found.timing_cache, found.problems, found.notes, found.current) == (None, (), (), False)
    engine_from_onnx(model, replace(RTX, targets=("sm86", "sm89")), found.engine)
    assert plan(model, replace(RTX, targets=("SM89", "sm86"))).current


def test_turing_is_built_alone(rtx: None, model: OnnxModel) -> None:
    found = plan(model, replace(RTX, targets=("sm75", "sm86")))
    assert [note.partition(":")[0] for note in found.notes] == [
        "for sm75 it can't compile FP32 MatMul layers",
        "sm75 together with other targets may slow the engine down on all of them",
    ]
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
    found = plan(replace(model, precision=precision), replace(TENSORRT, version_compatible=True))
    assert (found.network, found.flags) == (network, (*flags, "VERSION_COMPATIBLE"))
    assert found.typing == ("weakly typed, INT8 and FP16 allowed" if flags else "strongly typed")
    assert (found.library, found.gpu, found.targets) == (f"TensorRT {version}", "Paper GPU (sm86)", ("sm86",))
    assert found.timing_cache == model.path.with_name("tensorrt.timing-cache")
    assert found.problems == ()
    assert [path.name for path in model.path.parent.iterdir()] == ["fp32.onnx"], "a dry run writes nothing"


def test_a_plan_asks_the_started_library(child: Any, model: OnnxModel) -> None:
    child("ok", "8.6", fast=False, cores=2)
    assert machine_here(Flavour.TENSORRT) == machine_of(fake_library("8.6", fast=False, cores=2), Messages())
    dla = replace(TENSORRT, dla_core=2, batch=ONE_SIZE)
    found = plan(replace(model, precision=Precision.FP16), dla, opset=20)
    assert [problem.message for problem in found.problems] == [
        "there is no DLA core 2: this machine has 2",
        "this GPU has no fast FP16, so TensorRT 8.6 would compute in another precision",
    ]


@pytest.mark.parametrize("behaviour", ["no driver", "segfault at start"])
def test_a_library_that_does_not_start(child: Any, model: OnnxModel, behaviour: str) -> None:
    child(behaviour)
    found = plan(model, TENSORRT)
    assert len(found.problems) == 1
    assert {
        "no driver": "can't build here: no usable CUDA driver",
        "segfault at start": "starting tensorrt: the build process was ended by SIGSEGV",
    }[behaviour] in found.problems[0].message


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
    assert result.exception.message.startswith("1 of 1 engines can't be built here: TensorRT-RTX")
    (told_plan,) = json.loads(result.stdout)
    assert told_plan["problems"][0]["message"].endswith("does not support DLA, so --dla 0 is not possible")
    assert [path.name for path in model.path.parent.iterdir()] == ["fp32.onnx"]


def test_nothing_is_built_when_one_engine_cant_be(rtx: None, tmp_path: Path) -> None:
    from trtpoets import build

    model = tiny_onnx(tmp_path / "tiny.onnx")
    with pytest.raises(BadInput, match="has no target sm99"):
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
    with pytest.raises(BadInput, match="int8 is not faster on this NVIDIA Tegra X2"):
        build("tiny", **words)
    assert not list(folder.glob("*.engine"))
    plans = plan_build("tiny", **words)
    assert [bool(plan.problems) for plan in plans] == [False, False, True]
    assert [plan.opset for plan in plans] == [17, 17, 17]
    with pytest.raises(BuildFailed, match="1 of 3 engines can't be built here: int8 is not faster"):
        require_possible(plans)
    engines = build("tiny", precisions=[Precision.FP32, Precision.FP16], **words)
    assert [engine.path.name for engine in engines] == ["fp32.tensorrt.engine", "fp16.tensorrt.engine"]


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
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
        with pytest.raises(BadInput) as refused:
            trtpoets.build(str(path), flavour=Flavour.TENSORRT)
        assert [(each.message, each.hint) for each in planned.problems] == [(refused.value.message, refused.value.hint)]
        assert (
            refused.value.message
            == f"TensorRT {version} supports ONNX opsets up to {ceiling}, but {path} has opset {opset}"
        )
        assert refused.value.hint == "export it with an older opset: trtpoets export NAME --opset 17 --force"


# The child's memory


def test_the_child_takes_no_more_memory_than_is_free(
    rtx: None, model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.device.build.build_child.available_memory", lambda: 200 << 20)
    monkeypatch.setattr("trtpoets.device.build.build_child._RESERVED", 0)
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, RTX, model.path.with_suffix(".engine"))
    assert "memory" in caught.value.message or "bad_alloc" in caught.value.message
    assert "free some memory" in caught.value.hint


def test_the_child_is_ended_first_without_memory(child: Any, model: OnnxModel) -> None:
    """The limits of the child during a build, as the system shows them."""
    pid_file = child("slow")
    found: list[str] = []

    def look(task: str, done: int, total: int) -> None:
        if done and not found:
            process = Path("/proc") / pid_file.read_text()
            found.append((process / "oom_score_adj").read_text().strip())
            (limit,) = (line for line in (process / "limits").read_text().splitlines() if "Max data size" in line)
            found.append(limit.split()[3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(model, TENSORRT, model.path.with_suffix(".engine"), progress=look)
    assert found[0] == "1000"
    assert 0 < int(found[1]) < 2 * (available_memory() + (512 << 20))


@pytest.mark.parametrize(
    ("limit", "used", "mib"), [("max", 0, 3000), ("2147483648", 1 << 30, 1024), ("1", 5, 0), (str(1 << 40), 0, 3000)]
)
def test_memory_to_use(tmp_path: Path, limit: str, used: int, mib: int) -> None:
    """A container's limit, where there is one, counts too."""
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.parent.mkdir()
    meminfo.write_text("MemTotal: 9999999 kB\nMemAvailable: 2048000 kB\nSwapFree: 1024000 kB\nHugePages_Free: 0\n")
    assert available_memory(tmp_path) == 3000 << 20
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    assert available_memory(tmp_path) == mib << 20


def test_a_sealed_card_of_timings_is_no_engine(tmp_path: Path) -> None:
    """Cards of the two kinds lie in one folder."""
    (tmp_path / "x.engine").write_bytes(b"x")
    seal_card(card_of(tmp_path / "x.engine"), key="k", files=[tmp_path / "x.engine"], details={"library": "x"})
    from trtpoets.core.errors import BadArtefact

    with pytest.raises(BadArtefact, match="was written by another version"):
        load_engine(tmp_path / "x.engine")


# Refusals that dry runs and builds share


@pytest.mark.parametrize("fixed", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_fixed_batch_is_refused_alike(rtx: None, tmp_path: Path, fixed: int) -> None:
    import onnx

    path = tmp_path / "fp32.onnx"
    onnx.save(tiny_graph(batch=fixed), str(path))
    fits = BatchRange(fixed, fixed, fixed)
    (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.RTX)
    with pytest.raises(BadInput) as refused:
        trtpoets.build(str(path), flavour=Flavour.RTX)
    assert [(each.message, each.hint) for each in planned.problems] == [(refused.value.message, refused.value.hint)]
    assert refused.value.message == f"the network has the fixed batch size {fixed}, not 1:8:32"
    assert refused.value.hint == f"--batch {fixed}:{fixed}:{fixed}"
    told = CliRunner().invoke(app, ["build", str(path), "--flavour", "rtx", "--dry-run"])
    assert told.exit_code == 1
    (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.RTX, batch=fits)
    assert planned.problems == ()
    assert trtpoets.build(str(path), flavour=Flavour.RTX, batch=fits)[0].card.batch == fits


def test_photos_of_another_size_are_refused_alike(rtx: None, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    graph = tiny_graph()
    helper.set_model_props(graph, {SPEC_KEY: tiny_spec(side=20).to_json(), PRECISION_KEY: "fp32"})
    path = tmp_path / "fp32.onnx"
    onnx.save(graph, str(path))
    (planned,) = trtpoets.plan_build(str(path), flavour=Flavour.RTX)
    with pytest.raises(BadArtefact) as refused:
        trtpoets.build(str(path), flavour=Flavour.RTX)
    assert [each.message for each in planned.problems] == [refused.value.message]
    assert "the input of the network is [16, 16, 3], but its model.json has [20, 20, 3]" in refused.value.message
