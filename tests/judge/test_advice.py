"""The precision that quantize recommends, as the card of int8.onnx stores it."""

from __future__ import annotations

import json

from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Precision
from trtpoets.judge.advice import Advice, Recommended


def test_advice_is_read_as_it_was_written() -> None:
    for advice in (Advice(Precision.FP16, "int8 loses answers"), Recommended(Precision.INT8, "it agrees", 128, None)):
        assert from_json(type(advice), json.loads(json.dumps(to_json(advice))), "the card") == advice


def test_a_card_of_an_earlier_version_has_no_gate() -> None:
    read = from_json(Recommended, {"precision": "fp16", "why": "faster"}, "the card")
    assert (read.precision, read.photos, read.gate) == (Precision.FP16, 0, None)
