"""What tests of conversions share: a small TFLite network."""

from __future__ import annotations

import pytest

from tests.support.tiny import tiny_classifier, tiny_tflite
from trtpoets.core.tflite_file import network_in
from trtpoets.core.types import Precision


@pytest.fixture(scope="session")
def tiny_tflite_network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An FP32 TFLite network with the weights of `tiny_graph`."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("tflite")
    return network_in(tiny_tflite(folder, tiny_classifier(folder / "classifier"), Precision.FP32).path)
