"""The ONNX networks that are written for TFLite files, compared with the interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tflite_files import TfliteFile, tflite_classifier
from tests.support.tflite_networks import Network, kinds, random_values, real_answers, unary_network
from trtpoets.adoption.tflite import network_from_tflite
from trtpoets.adoption.tflite.to_onnx import session_of
from trtpoets.core.errors import BadArtefact, ConversionFailed

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


@pytest.mark.parametrize("last", ["SOFTMAX", "LOGISTIC", "LOG_SOFTMAX", ""])
@pytest.mark.parametrize("batch", [1, 3])
def test_float_files(tmp_path: Path, last: str, batch: int) -> None:
    path = tflite_classifier(last=last, shape=(batch, 8, 8, 3)).write(tmp_path / "net.tflite")
    rounded, smooth = network_from_tflite(path)
    assert rounded is smooth
    values = np.random.default_rng(1).uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(session_of(smooth)(values), real_answers(path, values), atol=1e-5)


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("uint8", 0), ("int8", -100), ("uint8", 140)])
@pytest.mark.parametrize("last", ["SOFTMAX", "LOGISTIC", ""])
def test_integer_files(tmp_path: Path, dtype: str, zero_point: int, last: str) -> None:
    path = tflite_classifier(dtype=dtype, zero_point=zero_point, last=last).write(tmp_path / "net.tflite")
    rounded, smooth = network_from_tflite(path)
    values = np.random.default_rng(1).uniform(-0.5, 1.2, (40, 8, 8, 3)).astype(np.float32)
    expected = real_answers(path, values)
    np.testing.assert_allclose(session_of(rounded)(values), expected, atol=1e-6)
    assert abs(session_of(smooth)(values) - expected).max() < 0.2
    assert not {"QuantizeLinear", "DequantizeLinear"} & kinds(smooth).keys()


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_opsets(tmp_path: Path, opset: int) -> None:
    path = unary_network("SQUARE").write(tmp_path / "net.tflite")
    _, smooth = network_from_tflite(path, opset)
    assert [entry.version for entry in smooth.opset_import] == [opset]
    values = random_values()
    np.testing.assert_allclose(session_of(smooth)(values), real_answers(path, values), atol=1e-5)


def test_pixels_as_uint8_without_quantisation(tmp_path: Path) -> None:
    file = tflite_classifier(last="")
    photo, (network,) = file.tensor("pixels", (1, 8, 8, 3), "uint8"), file.inputs
    file.operator("CAST", [photo], [network], at_start=True)
    file.inputs = [photo]
    path = file.write(tmp_path / "net.tflite")
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
        session_of(network_from_tflite(path)[1])(values), real_answers(path, values), rtol=1e-5, atol=1e-4
    )


def refused(file: TfliteFile, path: Path) -> None:
    network_from_tflite(file.write(path))


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    with raises(BadArtefact, "TP9360", "SIN"):
        refused(unary_network("SIN"), path)
    network = Network()
    weights = network.add("MEAN", [network.start, network.constant([0, 1])], (8, 4), "ReducerOptions", keepDims=False)
    mean = network.add("MEAN", [network.start, network.constant([1, 2])], (1, 4), "ReducerOptions", keepDims=False)
    current = network.add("FULLY_CONNECTED", [mean, weights], (1, 8), "FullyConnectedOptions")
    with raises(ConversionFailed, "TP9350", "FULLY_CONNECTED"):
        refused(network.finish(current), path)


def test_photos_of_a_batch_that_are_mixed(tmp_path: Path) -> None:
    network = Network()
    current = network.add(
        "REDUCE_MAX", [network.start, network.constant([0])], (8, 8, 4), "ReducerOptions", keepDims=False
    )
    current = network.add("RESHAPE", [current, network.constant([1, 256])], (1, 256))
    with raises(ConversionFailed, "TP9362"):
        refused(network.finish(current), tmp_path / "net.tflite")
