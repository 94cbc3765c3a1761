"""The TFLite runner, beyond the contract of all runners (test_runners.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_classifier, tiny_photos, tiny_tflite
from trtpoets.core.errors import BadArtefact, MissingArtefact, MissingDependency, RunFailed
from trtpoets.core.images import usable_cores
from trtpoets.core.types import Precision, TfliteModel
from trtpoets.device.runners import Way, open_runner
from trtpoets.device.runners.tflite import TfliteRunner


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> TfliteModel:
    """A network that the export wrote: integers between photos and float scores."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("tflite")
    return tiny_tflite(folder, tiny_classifier(folder / "classifier"), Precision.INT8)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What interpreters were made with; those of ai-edge-litert, as usual."""
    litert: Any = pytest.importorskip("ai_edge_litert.interpreter")
    calls: list[dict[str, Any]] = []

    class Interpreter(litert.Interpreter):
        def __init__(self, **options: Any) -> None:
            calls.append(options)
            super().__init__(**options)

    monkeypatch.setattr(litert, "Interpreter", Interpreter)
    return calls


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (3, 3), (0, usable_cores())])
def test_threads_are_honoured(int8: TfliteModel, asked: list[dict[str, Any]], threads: int, expected: int) -> None:
    with open_runner(int8, threads) as runner:
        runner.infer(tiny_photos(1))
    assert [item["num_threads"] for item in asked] == [expected]


def test_kernels_of_its_own_round_elsewhere_and_no_more(int8: TfliteModel, asked: list[dict[str, Any]]) -> None:
    photos = tiny_photos(16)
    with TfliteRunner(int8) as usual, TfliteRunner(int8, own_kernels=True) as plain:
        assert abs(usual.infer(photos) - plain.infer(photos)).max() < 0.05
    kinds = [item["experimental_op_resolver_type"].name for item in asked]
    assert kinds == ["AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"]


def test_tensorflows_interpreter_where_there_is_no_other(int8: TfliteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tiny_photos(5)
    with open_runner(int8) as runner:
        expected = runner.infer(photos)
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    with open_runner(int8) as runner:
        np.testing.assert_allclose(runner.infer(photos), expected, atol=0.02)


def test_without_any_interpreter(int8: TfliteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    for tensorflow in (SimpleNamespace(), None):  # one that has lost TFLite, and none at all
        monkeypatch.setattr("trtpoets.core.optional.tensorflow", _gives(tensorflow))
        with raises(MissingDependency, "TP1955") as caught:
            open_runner(int8).__enter__()
        assert caught.value.hint == "pip install 'trtpoets[tflite]'"


def _gives(tensorflow: Any) -> Any:
    def give() -> Any:
        if tensorflow is None:
            raise MissingDependency("this step needs tensorflow")
        return tensorflow

    return give


def test_nothing_is_written_to_stderr(int8: TfliteModel, capfd: pytest.CaptureFixture[str]) -> None:
    with open_runner(int8) as runner:
        runner.infer(tiny_photos(2))
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_gone_or_damaged(int8: TfliteModel, tmp_path: Path) -> None:
    gone = TfliteModel(tmp_path / "gone.tflite", int8.precision, int8.spec)
    with raises(MissingArtefact, "TP1089"), open_runner(gone):
        pass
    content = bytearray(int8.path.read_bytes())
    content[1000] ^= 1
    gone.path.write_bytes(content)
    with raises(BadArtefact, "TP1093"), open_runner(gone):
        pass


"""An interpreter on which a network has an effect that a damaged one has on the real one."""


def test_an_interpreter_that_breaks(int8: TfliteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter")

    def broken(self: Any) -> None:
        raise RuntimeError("Node number 3 (CONV_2D) failed to invoke.\nmore")

    monkeypatch.setattr(litert.Interpreter, "invoke", broken)
    reason = "Node number 3 (CONV_2D) failed to invoke."
    with open_runner(int8) as runner, raises(RunFailed, "TP4091", "tflite-int8", int8.path, reason) as caught:
        runner.infer(tiny_photos(2))
    assert "more" not in caught.value.message


def test_there_is_one_way_to_run_it(int8: TfliteModel) -> None:
    for way in set(Way) - {Way.PLAIN}:
        with pytest.raises(ValueError, match=f"TfliteModel can't be run by {way.value}"):
            open_runner(int8, way=way)
