"""The TFLite files of a run."""

from __future__ import annotations

import pytest

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Precision
from trtpoets.pipeline.tflite_files import tflite_wanted


def test_the_precisions_of_tflite() -> None:
    assert tflite_wanted(()) == (Precision.FP32, Precision.INT8)
    assert tflite_wanted((Precision.INT8, Precision.FP32)) == (Precision.FP32, Precision.INT8)
    assert tflite_wanted([Precision.INT8]) == (Precision.INT8,)
    with pytest.raises(BadInput) as caught:
        tflite_wanted([Precision.FP32, Precision.FP16])
    assert caught.value.code == "TP8042"
