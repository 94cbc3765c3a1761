"""Formats of networks are distinguished by the fields at the beginning of a protobuf file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtpoets.core.file_kinds import kind_of_content
from trtpoets.core.protobuf_kinds import protobuf_kind


def test_onnx_files_are_distinguished_from_other_protobufs() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph([], "g", [], [])
    for opsets in ([helper.make_opsetid("", 13)], [helper.make_opsetid("ai.onnx.ml", 3)]):
        for ir_version in (1, 3, 8, 10):
            for producer in ("", "pytorch", "tf2onnx"):
                model = helper.make_model(graph, ir_version=ir_version, producer_name=producer, opset_imports=opsets)
                kind = kind_of_content(model.SerializeToString())
                assert kind is not None
                assert kind.name == "onnx"
    tensor = numpy_helper.from_array(np.zeros((2, 3), np.float32), "x")
    kind = kind_of_content(tensor.SerializeToString())
    assert kind is not None
    assert kind.name == "onnx-tensor"
    assert TensorProto.FLOAT == onnx.TensorProto.FLOAT


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


NODE = field(1, field(1, b"Placeholder") + field(2, b"Placeholder"))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("onnx", field(1, 8) + field(2, b"pytorch") + field(7, b"\x0a\x00")),
        ("onnx", field(7, b"\x0a\x00") + field(8, b"\x10\x11")),
        ("onnx-tensor", field(1, 2) + field(1, 3) + field(2, 1) + field(9, b"1234")),
        ("saved-model", field(1, 1) + field(2, field(1, field(2, b"\x0a\x03Add")))),
        ("coreml", field(1, 4) + field(2, field(1, b"\x0a\x05image"))),
        ("graph-def", NODE + NODE),
        ("caffe", field(1, b"AlexNet") + field(2, b"\x0a\x00")),
    ],
)
def test_each_format_is_recognised_by_its_fields_even_if_they_are_cut(kind: str, content: bytes) -> None:
    assert protobuf_kind(content) == kind
    assert protobuf_kind(content[:-1]) == kind


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 30,
        b"\x00\x01",
        field(1, b"\x01\x02") + field(2, b"x"),
        field(3, b"abc"),
        b"\x0b\x01",
        field(30, 1),
    ],
)
def test_other_bytes_are_none_of_them(content: bytes) -> None:
    assert protobuf_kind(content) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_judged(content: bytes) -> None:
    assert protobuf_kind(content) in {None, "onnx", "onnx-tensor", "saved-model", "coreml", "graph-def", "caffe"}
