"""Builds by the fake builder of each version, in this process."""

from __future__ import annotations

import pytest

from tests.fakes.tensorrt_builder import fake_library
from tests.fakes.tensorrt_builder import log as build_log
from tests.support.build_requests import request
from tests.support.errors import raises
from tests.support.tiny import tiny_graph
from trtpoets.core.errors import (
    BadInput,
    BuildFailed,
)
from trtpoets.core.types import BatchRange, Precision
from trtpoets.device.build.tensorrt_build import build_engine
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_messages import Messages


@pytest.mark.parametrize(
    ("cores", "code", "values", "hint"),
    [
        (0, "TP4053", ("TensorRT 10.3", "--dla 2"), "Xavier, Orin NX and AGX Orin have one"),
        (2, "TP4054", ("core 2", "has 2"), "give --dla 0 to --dla 1"),
    ],
)
def test_a_dla_that_is_not_there(cores: int, code: str, values: tuple[str, str], hint: str) -> None:
    with raises(BadInput, code, *values) as caught:
        build_engine(
            fake_library("10.3", cores=cores), b"onnx", request(Precision.FP16, dla_core=2), lambda _: True, Messages()
        )
    assert hint in caught.value.hint


def small_request(precision: Precision, level: int | None = None) -> BuildRequest:
    return BuildRequest(precision, 16, 16, BatchRange(1, 2, 4), (), 1 << 28, level)


@pytest.mark.parametrize(
    ("version", "precision", "network", "flags"),
    [
        ("8.6", Precision.FP32, 0b1, None),
        ("8.6", Precision.FP16, 0b1, ["FP16"]),
        ("8.6", Precision.INT8, 0b1, ["INT8", "FP16"]),
        ("10.3", Precision.FP16, 0b11, None),
        ("10.3", Precision.INT8, 0b1, ["INT8", "FP16"]),
        ("10.16", Precision.INT8, 0b1, ["INT8", "FP16"]),
        ("11.0", Precision.INT8, 0b1, None),
    ],
)
def test_each_version_gets_its_own_flags(
    version: str, precision: Precision, network: int, flags: list[str] | None
) -> None:
    steps: list[float] = []

    def step(fraction: float) -> bool:
        steps.append(fraction)
        return True

    content = tiny_graph(precision).SerializeToString()
    built = build_engine(fake_library(version), content, small_request(precision), step, Messages())
    assert built.engine == b"engine of a fake"
    assert build_log["network"] == network and build_log.get("flags") == flags
    assert build_log["workspace"] == 1 << 28
    assert build_log["shapes"] == ("photos", (1, 16, 16, 3), (2, 16, 16, 3), (4, 16, 16, 3))
    assert steps == ([] if version == "8.6" else [0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_gpu_without_the_arithmetic_is_refused() -> None:
    with raises(BuildFailed, "TP4058", "INT8", "TensorRT 8.6") as caught:
        build_engine(
            fake_library("8.6", fast=False), b"onnx", small_request(Precision.INT8), lambda _: True, Messages()
        )
    assert caught.value.hint == "build with --precision fp16"
