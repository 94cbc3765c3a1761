"""TFLite files of other programs, run unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tflite_files import tflite_classifier
from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed
from trtpoets.core.original import Answers, Layout, OriginalInput, OriginalOutput
from trtpoets.device import original_tflite
from trtpoets.device.original_tflite import TfliteNetwork

pytest.importorskip("ai_edge_litert")

INPUT = OriginalInput("photo", "float32", Layout.NHWC, batch=1)
OUTPUT = OriginalOutput("scores", "float32", 4, Answers.PROBABILITIES)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No child process tries the network before."""
    monkeypatch.setattr(original_tflite, "require_sound", lambda *arguments, **options: None)


def values(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)


@pytest.mark.usefixtures("unchecked")
def test_a_fixed_batch_is_divided_and_padded(tmp_path: Path) -> None:
    one = tflite_classifier().write(tmp_path / "one.tflite")
    three = tflite_classifier(shape=(3, 8, 8, 3)).write(tmp_path / "three.tflite")
    with TfliteNetwork(one, INPUT, OUTPUT) as single, TfliteNetwork(three, replace(INPUT, batch=3), OUTPUT) as batched:
        for count in (0, 1, 3, 7):
            expected = single.infer(values(count))
            assert (expected.shape, expected.dtype) == ((count, 4), np.dtype("float32"))
            np.testing.assert_allclose(batched.infer(values(count)), expected, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_integers_are_stored_and_returned(tmp_path: Path) -> None:
    path = tflite_classifier(dtype="uint8").write(tmp_path / "net.tflite")
    input_ = OriginalInput("photo", "uint8", Layout.NHWC, 1 / 255, 0, batch=1)
    output = OriginalOutput("scores", "uint8", 4, Answers.PROBABILITIES, 1 / 256, 0)
    with TfliteNetwork(path, input_, output, threads=1) as network:
        scores = network.infer(abs(values(5)))
    assert (scores.shape, scores.dtype) == ((5, 4), np.dtype("uint8"))
    assert np.max(np.abs(scores.sum(axis=1, dtype=int) - 256)) <= 2


@pytest.mark.usefixtures("unchecked")
def test_values_of_another_size(tmp_path: Path) -> None:
    path = tflite_classifier().write(tmp_path / "net.tflite")
    with TfliteNetwork(path, INPUT, OUTPUT) as network, raises(RunFailed, "TP4113"):
        network.infer(np.zeros((1, 4, 4, 3), np.float32))
    with raises(RunFailed, "TP4079"):
        network.infer(values(1))


def test_a_missing_file(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP1089"):
        TfliteNetwork(tmp_path / "none.tflite", INPUT, OUTPUT).__enter__()
    with raises(BadArtefact, "TP1090"):
        TfliteNetwork(tmp_path, INPUT, OUTPUT).__enter__()


def test_a_network_that_the_interpreter_refuses(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.operator("RELU", [file.inputs[0], file.inputs[0]], file.outputs)
    with raises(BadArtefact, "TP4109") as caught:
        TfliteNetwork(file.write(tmp_path / "net.tflite"), INPUT, OUTPUT).__enter__()
    assert "bundle" not in caught.value.hint
