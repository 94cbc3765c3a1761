"""The network of an ONNX or TFLite file, by its format."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.original import Answers, Format, Layout, OriginalInput, OriginalOutput
from trtpoets.device.original_onnx import OnnxNetwork
from trtpoets.device.original_tflite import TfliteNetwork
from trtpoets.device.originals import onnx_or_tflite_network


@pytest.mark.parametrize(("kind", "expected"), [(Format.ONNX, OnnxNetwork), (Format.TFLITE, TfliteNetwork)])
def test_each_format_has_its_network_and_no_file_is_opened_before_it_is_entered(
    kind: Format, expected: type[object]
) -> None:
    input_ = OriginalInput("x", "float32", Layout.NHWC)
    output = OriginalOutput("y", "float32", 3, Answers.LOGITS)
    network = onnx_or_tflite_network(kind, Path("/nowhere/net"), input_, output)
    assert type(network) is expected
