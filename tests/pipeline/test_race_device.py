"""The device of a race: its precision, and the time of networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.small_networks import residual_network, saved
from trtpoets.convert.int8.gpu_classes import GPU_CLASSES
from trtpoets.core.errors import BadInput
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import Precision
from trtpoets.judge.race import RaceConfig
from trtpoets.pipeline.race_device import device_of, latencies_ms, measured_ms


@pytest.mark.parametrize(
    ("board", "precision"),
    [("orin-nano", Precision.INT8), ("nano", Precision.FP16), ("T4", Precision.INT8), ("Jetson TX2", Precision.FP16)],
)
def test_the_precision_is_the_fastest_of_the_board(board: str, precision: Precision) -> None:
    device = device_of(RaceConfig(board=board))
    assert device.gpu is not None and device.gpu.name == device.name
    assert device.precision is precision
    assert device_of(RaceConfig(board=board, precision=Precision.FP32)).precision is Precision.FP32


def test_without_a_board_it_is_this_machine() -> None:
    device = device_of(RaceConfig())
    assert device.gpu is None
    assert device.precision is Precision.INT8
    assert "this machine's CPU" in device.name


def test_an_unknown_board_and_a_limit_of_nothing_are_refused() -> None:
    with raises(BadInput, "TP4071", "toaster", *GPU_CLASSES):
        device_of(RaceConfig(board="toaster"))
    with raises(BadInput, "TP8091", "0"):
        device_of(RaceConfig(max_ms=0.0))


def test_times_are_measured_here_or_estimated_for_a_board(tmp_path: Path) -> None:
    path = saved(residual_network(), tmp_path / "fp32.onnx").path
    shown: list[tuple[str, int, int]] = []
    measured = latencies_ms({3: path}, device_of(RaceConfig()), lambda *state: shown.append(state))
    assert measured[3] > 0
    assert shown[-1][1] == shown[-1][2]
    int8, fp16, faster = (
        latencies_ms({3: path}, device_of(RaceConfig(board=board, precision=precision)))[3]
        for board, precision in (
            ("orin-nano", Precision.INT8),
            ("orin-nano", Precision.FP16),
            ("agx-orin", Precision.FP16),
        )
    )
    assert 0 < int8 <= 1.5 * fp16
    assert 0 < faster <= fp16


def test_a_network_is_timed_when_the_threads_of_the_one_before_are_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(residual_network(), tmp_path / "fp32.onnx").path
    calls: list[str] = []

    class Session:
        def __init__(self, name: str) -> None:
            self._name, self._session = name, open_session(path)

        def get_inputs(self) -> object:
            return self._session.get_inputs()

        def run(self, outputs: None, inputs: dict[str, object]) -> object:
            calls.append(self._name)
            return self._session.run(outputs, inputs)

    monkeypatch.setattr("trtpoets.pipeline.race_device.open_session", lambda file: Session(file.name))
    monkeypatch.setattr("trtpoets.pipeline.race_device.wait_until_idle", lambda: calls.append("idle"))
    assert set(measured_ms({1: Path("first"), 2: Path("second")})) == {1, 2}
    assert calls[:12] == ["idle", *["first"] * 5, "idle", *["second"] * 5]
