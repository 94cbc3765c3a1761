"""Which options of a build reach the builder of each version of TensorRT."""

from __future__ import annotations

import pytest

from tests.fakes.tensorrt_builder import fake_library
from tests.fakes.tensorrt_builder import log as build_log
from tests.support.build_requests import request
from tests.support.tiny import tiny_graph
from trtpoets.core.types import LayerReport, Precision
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.tensorrt_build import build_engine
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import Messages


def test_int8_without_fast_fp16_keeps_the_rest_in_fp32() -> None:
    """A Tesla P4 has dp4a and no FP16."""
    module = fake_library("8.6")
    module.module.Builder.platform_has_fast_fp16 = False
    build_engine(module, b"onnx", request(Precision.INT8), lambda _: True, Messages())
    assert build_log["flags"] == ["INT8"]


def layers_built(library: TensorRt, asked: BuildRequest) -> LayerReport:
    """Build a tiny network of the request's precision, and ask for its layers as the build process does."""
    content = tiny_graph(asked.precision).SerializeToString()
    built = build_engine(library, content, asked, lambda _: True, Messages())
    return inspect_engine(library, built.engine, asked, built.logger)


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.0"])
def test_levels_and_compatibility_reach_the_builder(version: str) -> None:
    asked = request(Precision.FP32, optimization_level=5, version_compatible=True, hardware_compatible=True)
    counts = layers_built(fake_library(version), asked).counts
    assert build_log["flags"] == ["VERSION_COMPATIBLE"]
    assert (build_log["level"], build_log["hardware"], build_log["verbosity"]) == (5, "ampere plus", "detailed")
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
    assert (build_log["network"], build_log["flags"], build_log["dla"]) == (network, flags, ("DLA", 1))
    assert counts, "the inspector's runtime was not on the same DLA core"


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3", "11.0"])
def test_default_options_set_no_flags(version: str) -> None:
    build_engine(fake_library(version), b"onnx", request(Precision.FP32), lambda _: True, Messages())
    assert (build_log.get("flags"), build_log["level"], build_log["hardware"], build_log["dla"]) == (
        None,
        None,
        None,
        ("GPU", -1),
    )
