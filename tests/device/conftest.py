"""What the tests of devices share."""

from __future__ import annotations

import pytest

from tests.support.tiny import tiny_classifier, tiny_tflite
from trtpoets.core.types import Precision, TfliteModel


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> TfliteModel:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("tflite")
    return tiny_tflite(folder, tiny_classifier(folder / "classifier"), Precision.INT8)
