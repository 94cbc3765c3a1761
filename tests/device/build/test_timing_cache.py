"""Timing caches: kept, used again, and ignored where they do not match."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tensorrt_builder import TIMINGS, fake_library
from tests.fakes.tensorrt_builder import log as build_log
from tests.support.build_requests import RTX, TENSORRT, request
from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, BuildFailed
from trtpoets.core.files import read_json
from trtpoets.core.types import OnnxModel, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.engine import engine_from_onnx, load_engine
from trtpoets.device.build.tensorrt_build import build_engine
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_messages import Messages


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
        *("gpu", "not JSON"),
        *(pytest.param(change, marks=pytest.mark.slow) for change in ("content", "card", "no card", "deep JSON")),
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
        card_of(timings).write_text("{" if change == "no card" else "[" * 100_000)
    with caplog.at_level(logging.INFO):
        engine_from_onnx(model, TENSORRT, out)
    assert f"{timings} is ignored: " in caplog.text
    assert timings.read_bytes() == TIMINGS + b" measured", "and what was measured now is kept"


def test_timings_that_tensorrt_refuses(child: Any, model: OnnxModel) -> None:
    """The card is valid, but TensorRT rejects the timing cache."""
    messages = Messages()
    for content in (b"garbage", TIMINGS + b" of Another GPU"):
        built = build_engine(fake_library("10.3"), b"onnx", request(Precision.FP32), lambda _: True, messages, content)
        assert build_log["timings"] == b"" and built.timing_cache == TIMINGS + b" measured"
    assert (
        messages.notes == ["the timing cache does not match this device and library: all kernels are timed again"] * 2
    )
    assert len(messages.warnings) == 2 and messages.errors == []


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.0"])
def test_timings_that_do_not_fit_are_no_reason_of_a_failure(version: str) -> None:
    """TensorRT reports them as errors before the build fails for another reason."""
    library = fake_library(version, "refuse: Error Code 10: Internal Error (Could not find any implementation for a.)")
    for content in (b"garbage", TIMINGS + b" of Another GPU"):
        with raises(BuildFailed, "TP4050", "fp32", "Could not find any implementation for a"):
            build_engine(library, b"onnx", request(Precision.FP32), lambda _: True, Messages(), content)


def test_tensorrt_rtx_times_nothing(rtx: None, model: OnnxModel) -> None:
    engine_from_onnx(model, RTX, model.path.with_name("fp32.rtx.engine"))
    assert not list(model.path.parent.glob("*timing*"))


def test_a_sealed_card_of_timings_is_no_engine(tmp_path: Path) -> None:
    """Cards of the two kinds lie in one folder."""
    (tmp_path / "x.engine").write_bytes(b"x")
    seal_card(card_of(tmp_path / "x.engine"), key="k", files=[tmp_path / "x.engine"], details={"library": "x"})

    with raises(BadArtefact, "TP4014"):
        load_engine(tmp_path / "x.engine")
