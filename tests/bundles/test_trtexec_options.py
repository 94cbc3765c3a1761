"""Options of trtexec."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.named_network import named
from tests.support.precisions import FP16, FP32, INT8
from tests.support.tiny import tiny_graph, tiny_spec
from trtpoets.bundles.trtexec_options import type_options
from trtpoets.core.types import OnnxModel, Precision


@pytest.mark.parametrize(
    ("precision", "kept", "tensorrt", "options"),
    [
        (FP32, (), "8.6.2", ""),
        (FP32, (), "10.3.0", "--stronglyTyped"),
        (FP16, (), "8.6.2", "--fp16"),
        (FP16, (), "10.3.0", "--stronglyTyped"),
        (FP16, (), "11.4.1", ""),
        (INT8, (), "8.2.1", "--int8 --fp16"),
        (INT8, ("q/Softmax",), "8.2.1", "--int8 --fp16"),
        (
            *(INT8, ("q/Softmax", "head"), "8.5.2"),
            (
                "--int8 --fp16 --precisionConstraints=obey --layerPrecisions=head:fp32,q/Softmax:fp32 "
                "--layerOutputTypes=head:fp32,q/Softmax:fp32"
            ),
        ),
        (INT8, ("q/Softmax",), "10.3.0", "--int8 --fp16"),
        (INT8, ("q/Softmax", "head"), "10.16.2", "--stronglyTyped"),
        (INT8, ("q/Softmax",), "11.4.1", ""),
    ],
)
def test_types_that_trtexec_gets(
    precision: Precision, kept: tuple[str, ...], tensorrt: str, options: str, tmp_path: Path
) -> None:
    """As `build` tells the builder: INT8 with FP16 allowed, and what must not overflow in FP32."""
    import onnx

    graph = named(precision, *kept) if precision is INT8 else tiny_graph(precision)
    path = tmp_path / "x.onnx"
    onnx.save(graph, str(path))
    assert type_options(OnnxModel(path, precision, tiny_spec()), tensorrt) == options


def test_trtexec_keeps_the_softmax_of_an_fp16_file_in_fp32(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "fp16.onnx"
    onnx.save(named(FP16), str(path))
    result = type_options(OnnxModel(path, FP16, tiny_spec()), "8.6.2")
    assert result.startswith("--fp16 --precisionConstraints=obey --layerPrecisions=q/Softmax:fp32 ")
    assert type_options(OnnxModel(path, FP16, tiny_spec()), "10.3.0") == "--stronglyTyped"
