"""The layers of an engine in its card."""

from __future__ import annotations

from typing import Any

from tests.fakes.tensorrt_builder import LAYERS
from tests.support.build_requests import RTX, TENSORRT
from trtpoets.core.types import OnnxModel
from trtpoets.device.build.engine import engine_from_onnx
from trtpoets.device.build.layer_types import report_from_inspector
from trtpoets.reporting.tables.builds import layer_lines


def test_the_card_contains_the_layers(child: Any, model: OnnxModel) -> None:
    child("ok", layers=LAYERS)
    engine = engine_from_onnx(model, TENSORRT, model.path.with_name("fp32.tensorrt.engine"))
    layers = engine.card.layers
    assert layers is not None
    assert layers == report_from_inspector(LAYERS)
    assert layers.layers == {"conv": "int8", "head": "fp16", "softmax": "fp16", "out": "fp32"}
    assert layers.counts == {"fp16": 2, "int8": 1, "fp32": 1}
    assert layers.shares == {"fp16": 0.5, "int8": 0.25, "fp32": 0.25}
    assert layer_lines([engine]) == [
        "fp32.tensorrt.engine: 4 layers: 2 in FP16 (50.0 %), 1 in INT8 (25.0 %) and 1 in FP32 (25.0 %)"
    ]


def test_layers_of_tensorrt_rtx_without_a_gpu(rtx: None, model: OnnxModel) -> None:
    engine = engine_from_onnx(model, RTX, model.path.with_name("fp32.rtx.engine"))
    assert engine.card.layers is not None and engine.card.layers.counts == {}
    assert layer_lines([engine, engine]) == [
        "Layer by layer: inspecting the layers needs a GPU that can run the engine, but there is none"
    ]
