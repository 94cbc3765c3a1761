"""What the tests of devices share."""

from __future__ import annotations

import pytest

from tests.support.tflite_files import tflite_classifier
from tests.support.tiny import SIDE, tiny_spec
from trtpoets.core.tflite_file import write_tflite
from trtpoets.core.types import Precision, TfliteModel


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> TfliteModel:
    """A network of integers, written without TensorFlow."""
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("tflite")
    network = tflite_classifier(shape=(1, SIDE, SIDE, 3), dtype="uint8", classes=3).write(folder / "network")
    return write_tflite(network.read_bytes(), tiny_spec(), Precision.INT8, folder / "int8.tflite")
