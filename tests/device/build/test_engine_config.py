"""Configurations that a GPU or a version of TensorRT does not allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tensorrt_builder import fake_library
from tests.support.build_requests import ONE_SIZE, RTX, TENSORRT, TX2, only
from tests.support.errors import raises
from trtpoets.core.errors import (
    BadInput,
)
from trtpoets.core.types import BatchRange, OnnxModel, Precision
from trtpoets.device.build.engine import (
    engine_from_onnx,
    engine_key,
)
from trtpoets.device.build.engine_config import EngineConfig, problems
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu

ORIN = Gpu("Orin", (8, 7), 8 << 30)
NANO = Gpu("NVIDIA Tegra X1", (5, 3), 4 << 30)
T4 = Gpu("Tesla T4", (7, 5), 16 << 30)


def messages_of(config: EngineConfig, precision: Precision, version: str, gpu: Gpu = ORIN) -> list[str]:
    return [
        f"{problem.message} ({problem.hint})" for problem in problems(config, precision, fake_library(version), gpu)
    ]


@pytest.mark.parametrize("gpu", [NANO, TX2])
def test_int8_is_refused_where_there_is_no_dp4a(gpu: Gpu) -> None:
    number = "{}.{}".format(*gpu.compute_capability)
    assert messages_of(TENSORRT, Precision.INT8, "8.6", gpu) == [
        (
            f"int8 is not faster on this {gpu.name}: compute capability {number} has no fast INT8: "
            "dp4a exists since 6.1 (except 6.2), tensor cores for INT8 since 7.2 (build with --precision fp16)"
        )
    ]
    assert messages_of(TENSORRT, Precision.FP16, "8.6", gpu) == []


def test_fp16_is_refused_where_it_is_not_faster() -> None:
    assert messages_of(TENSORRT, Precision.FP16, "8.6", Gpu("Tesla P4", (6, 1), 8 << 30)) == [
        (
            "fp16 is not faster on this Tesla P4: compute capability 6.1 is not faster in FP16 than in FP32 "
            "(5.3, 6.0, 6.2, 7.0 and later are) (build with --precision fp32)"
        )
    ]


def test_a_gpu_that_is_too_old_for_this_tensorrt() -> None:
    (text,) = messages_of(TENSORRT, Precision.FP16, "10.3", TX2)
    assert text.startswith("TensorRT 10.3 needs compute capability 7.0 or later, but this NVIDIA Tegra X2 has 6.2")


def test_volta_ends_with_tensorrt_10_4() -> None:
    """Release notes of 10.5: "NVIDIA Volta support (GPUs with compute capability 7.0) has been removed"."""
    volta = Gpu("Tesla V100", (7, 0), 16 << 30)
    assert messages_of(TENSORRT, Precision.FP16, "10.3", volta) == []
    (text,) = messages_of(TENSORRT, Precision.FP16, "10.7", volta)
    assert text.startswith("TensorRT 10.7 needs compute capability 7.5 or later, but this Tesla V100 has 7.0")


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
        ("8.6", {"dla_core": -1, "batch": ONE_SIZE}, "there is no DLA core -1 (give --dla 0: cores count from 0)"),
        ("10.3", {"dla_core": 0}, "a DLA supports one fixed batch size, not 1:8:32 (give --batch 8:8:8)"),
        ("10.3", {"targets": ("sm86",)}, "builds only for the GPU of this machine, so --target sm86 is not possible"),
        (
            "10.3",
            {"workspace_mib": 15},
            "the workspace must be at least 16 MiB, not 15 (give for example --workspace 1024",
        ),
    ],
)
def test_options_by_version(version: str, changes: dict[str, Any], expected: str | None) -> None:
    messages = messages_of(replace(TENSORRT, **changes), Precision.FP16, version)
    if expected is None:
        assert messages == []
    else:
        assert len(messages) == 1 and expected in messages[0]


def test_what_a_dla_does_not_compute() -> None:
    dla = replace(TENSORRT, dla_core=0, batch=ONE_SIZE)
    assert messages_of(dla, Precision.FP32, "10.3") == [
        "a DLA supports FP16 and INT8, not FP32 (build for the DLA with --precision fp16)"
    ]
    assert messages_of(dla, Precision.INT8, "10.3") == [
        (
            "TensorRT 10.3 does not support INT8 with Q/DQ pairs on a DLA; TensorRT 11.4.1 and later do "
            "(build for the DLA with --precision fp16)"
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
    ("changes", "code", "option", "hint"),
    [
        ({"version_compatible": True}, "TP4029", "--version-compatible", "--flavour tensorrt"),
        ({"hardware_compatible": True}, "TP4030", "--hardware-compatible", "leave --hardware-compatible out"),
        ({"dla_core": 0}, "TP4034", "--dla 0", "--flavour tensorrt"),
    ],
)
def test_what_tensorrt_rtx_lacks(
    rtx: None, model: OnnxModel, changes: dict[str, Any], code: str, option: str, hint: str
) -> None:
    with raises(BadInput, code, "TensorRT-RTX", option) as caught:
        engine_from_onnx(model, replace(RTX, **changes), model.path.with_suffix(".engine"))
    assert hint in caught.value.hint
    assert [path.name for path in model.path.parent.iterdir()] == ["fp32.onnx"]


def test_every_option_is_another_engine(child: Any, model: OnnxModel) -> None:
    child("ok")
    others: list[dict[str, Any]] = [
        {"version_compatible": True},
        {"hardware_compatible": True},
        {"dla_core": 0},
        {"dla_core": 1},
        {"optimization_level": 0},
        {},
    ]
    assert len({engine_key(model, replace(TENSORRT, **changes)) for changes in others}) == len(others)


@pytest.mark.parametrize(
    ("changes", "code", "value", "hint"),
    [
        ({"batch": BatchRange(4, 2, 8)}, "TP4022", "4:2:8", "--batch 1:8:32"),
        ({"batch": BatchRange(1, 9, 8)}, "TP4022", "1:9:8", "--batch 1:8:32"),
        ({"batch": BatchRange(0, 1, 1)}, "TP4022", "0:1:1", "--batch 1:8:32"),
        ({"workspace_mib": 15}, "TP4023", "15", "--workspace"),
        ({"timeout_seconds": 0.0}, "TP4024", "0.0", "--timeout 600"),
        ({"timeout_seconds": float("nan")}, "TP4024", "nan", "--timeout 600"),
        ({"optimization_level": 6}, "TP4026", "6", "--optimization-level"),
        ({"targets": ("sm87", "sm86")}, "TP4028", "sm87", "give one of sm75, sm80, sm86, sm89, sm120, sm121"),
        ({"targets": ("sm90",)}, "TP4028", "sm90", "give one of sm75"),
        ({"targets": ("current",)}, "TP4028", "current", "give one of sm75"),
    ],
)
def test_configs_that_cant_be_met(
    rtx: None, model: OnnxModel, out: Path, changes: dict[str, Any], code: str, value: str, hint: str
) -> None:
    with raises(BadInput, code, value) as caught:
        engine_from_onnx(model, replace(RTX, **changes), out)
    assert hint in caught.value.hint
    assert only(out.parent) == {"fp32.onnx"}


@pytest.mark.slow  # builds an engine
def test_the_least_workspace_builds(rtx: None, model: OnnxModel, out: Path) -> None:
    assert engine_from_onnx(model, replace(RTX, workspace_mib=16), out).card.workspace_mib == 16
