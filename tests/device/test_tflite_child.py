"""The trial of a TFLite network that its child process makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_files import tflite_classifier
from trtpoets.device import tflite_child
from trtpoets.device.tflite_child import failure_of


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_sound_network(dtype: str, tmp_path: Path) -> None:
    network = tflite_classifier(dtype=dtype).write(tmp_path / "net.tflite").read_bytes()
    assert failure_of(network, 1, False) == ""


def test_bytes_that_are_no_network() -> None:
    failure = failure_of(b"no network", 1, False)
    assert failure
    assert "\n" not in failure


@pytest.mark.parametrize("shape", [[], [1, 0, 8, 3], [1 << 20, 1 << 20, 3]])
def test_an_input_without_values_or_with_too_many(shape: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    class Interpreter:
        def get_input_details(self) -> list[dict[str, Any]]:
            return [{"shape": np.array(shape, int), "dtype": np.float32, "index": 0}]

        def get_output_details(self) -> list[dict[str, Any]]:
            return [{"index": 1}]

    monkeypatch.setattr(tflite_child, "loaded_interpreter", lambda *_: Interpreter())
    assert "invalid shape" in failure_of(b"", 1, False)
