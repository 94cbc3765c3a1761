"""The types of the layers of an engine, read from what the inspector writes."""

from __future__ import annotations

import json

import pytest

from trtpoets.device.build.layer_types import report_from_inspector


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{", '{"Layers": 3}', '{"Layers": ["conv", "head"]}', '{"Layers": [{}, {"Inputs": 3}]}'),
        '{"Layers": [{"Inputs": [3, null, {"Format/Datatype": ["x"]}], "Weights": "Int8"}]}',
        "[" * 100_000,
    ],
)
def test_what_the_inspector_might_say_instead(text: str) -> None:
    report = report_from_inspector(text)
    assert (report.layers, report.counts, report.shares) == ({}, {}, {})
    assert report.why_not.startswith("the engine inspector")


def test_types_are_read_in_every_spelling() -> None:
    spellings = {
        "Row major linear FP32": "fp32",
        "Channel major FP16 format where channel % 8 == 0": "fp16",
        "Four wide channel vectorized row major Int8 format.": "int8",
        "Half": "fp16",
        "Float": "fp32",
        "BFloat16": "bf16",
        "FP8": "fp8",
    }
    for field in ("Format/Datatype", "DataType"):
        layers = [
            {"Name": word, "LayerType": "conv", "Inputs": [{field: word}]} for word in [*spellings, "UInt8", "Int32"]
        ]
        assert report_from_inspector(json.dumps({"Layers": layers})).layers == spellings
