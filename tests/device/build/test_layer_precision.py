"""Types of layers: INT8 networks keep only the listed nodes in FP32, and those stay in FP32."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.fakes.tensorrt_builder import VERSIONS, fake_library
from tests.fakes.tensorrt_builder import log as build_log
from tests.support.named_network import named
from tests.support.small_networks import residual_network
from tests.support.tiny import tiny_onnx
from trtpoets.core.files import read_json
from trtpoets.core.onnx_graph import fp32_nodes, read_graph
from trtpoets.core.types import BatchRange, Flavour, LayerReport, OnnxModel, Precision
from trtpoets.core.workspace import card_of
from trtpoets.device.build.engine import engine_from_onnx, load_engine
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.layer_precision import _owners
from trtpoets.device.build.layer_types import int8_doubt
from trtpoets.device.build.tensorrt_build import Built, build_engine
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_messages import Messages
from trtpoets.reporting.tables.builds import layer_lines

TENSORRT = EngineConfig(Flavour.TENSORRT)
WEAK = [version for version in VERSIONS if version.startswith(("8.", "10."))]
FOR_TENSORRT = [version for version in VERSIONS if version != "rtx"]


def request(precision: Precision, **more: Any) -> BuildRequest:
    return BuildRequest(precision, 16, 16, BatchRange(1, 2, 4), (), 1 << 28, None, **more)


def built(version: str, graph: Any, precision: Precision, behaviour: str = "ok") -> tuple[Built, LayerReport, Messages]:
    library, messages = fake_library(version, behaviour), Messages()
    engine = build_engine(library, graph.SerializeToString(), request(precision), lambda _: True, messages)
    return engine, inspect_engine(library, engine.engine, request(precision), engine.logger), messages


@pytest.mark.parametrize("version", WEAK)
def test_int8_leaves_no_remainder_in_fp32(version: str) -> None:
    """In a strongly typed network, all layers beside INT8 would be FP32 (NVIDIA/Model-Optimizer issue 80)."""
    result, layers, _ = built(version, named(Precision.INT8), Precision.INT8)
    assert result.typing == "weakly typed, INT8 and FP16 allowed"
    assert layers.layers["conv"] == "int8" and set(layers.counts) == {"int8", "fp16"}


@pytest.mark.parametrize("version", WEAK)
def test_int8_keeps_in_fp32_what_its_file_names(version: str) -> None:
    """A Softmax, and a layer that overflows FP16; their neighbours and the layers before Q/DQ pairs are FP16."""
    kept = ("q/Softmax", "head")
    _, layers, messages = built(version, named(Precision.INT8, *kept), Precision.INT8)
    assert build_log["flags"] == ["INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert {name for name, kind in layers.layers.items() if kind == "fp32"} == set(kept)
    assert layers.layers["conv"] == "int8" and layers.layers["shifted/Add"] == "fp16"
    assert messages.doubts == []


@pytest.mark.parametrize("version", FOR_TENSORRT)
def test_fp16_keeps_in_fp32_what_its_file_computes_so(version: str) -> None:
    """TensorRT 8 gets the FP16 flag and would use FP16 there; later versions use the types of the file."""
    graph = named(Precision.FP16)
    _, layers, _ = built(version, graph, Precision.FP16)
    assert fp32_nodes(read_graph(graph.SerializeToString())) == ("q/Softmax",)
    assert {name for name, kind in layers.layers.items() if kind == "fp32"} == {"q/Softmax"}
    assert layers.counts["fp16"] > 3


@pytest.mark.parametrize("version", WEAK)
def test_all_layers_of_a_node_are_kept(version: str) -> None:
    """A Gemm's bias is a separate layer with another name."""
    graph = named(Precision.INT8, "head")
    graph.graph.initializer.append(helper.make_tensor("bias", TensorProto.FLOAT, [3], [0.0, 0.0, 0.0]))
    (head,) = (node for node in graph.graph.node if node.name == "head")
    head.input.append("bias")
    _, layers, _ = built(version, graph, Precision.INT8)
    kept = [name for name, kind in layers.layers.items() if kind == "fp32"]
    assert len(kept) == 2 and "head" in kept and kept[1].endswith("[ElementWise]")


@pytest.mark.parametrize("version", ["8.6", "10.3"])
def test_a_quantised_layer_that_gives_large_numbers_stays_int8(version: str) -> None:
    """It accumulates integers: only its output is FP32."""
    _, layers, _ = built(version, named(Precision.INT8, "conv"), Precision.INT8)
    assert layers.layers["conv"] == "int8" and "OBEY_PRECISION_CONSTRAINTS" in build_log["flags"]


def test_a_layer_that_is_not_found_is_doubted() -> None:
    _, _, messages = built("10.3", named(Precision.INT8, "gone"), Precision.INT8)
    assert messages.doubts == ["TensorRT 10.3 has no layer for gone, which must stay in FP32 and may compute in FP16"]
    assert build_log["flags"] == ["INT8", "FP16"], "constraints that nothing has are not asked for"


@pytest.mark.parametrize("version", FOR_TENSORRT)
def test_fp32_sets_no_constraints(version: str) -> None:
    built(version, named(Precision.FP32), Precision.FP32)
    assert build_log.get("flags") is None


# The inspector


@pytest.mark.parametrize("version", FOR_TENSORRT)
def test_the_inspector_goes_before_its_engine(version: str) -> None:
    """The bindings of 8.5 free the engine first, which crashes the process."""
    result, layers, _ = built(version, named(Precision.FP32), Precision.FP32)
    assert layers.counts
    del result
    gc.collect()
    assert "broken" not in build_log


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return tiny_onnx(tmp_path / "tiny" / "int8.onnx", Precision.INT8)


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("inspector fails", "the engine inspector failed: no information"),
        ("inspector crashes", "the build process ended while the engine was inspected"),
    ],
)
def test_an_engine_is_good_without_its_layers(child: Any, model: OnnxModel, behaviour: str, why: str) -> None:
    child(behaviour, "8.5")
    out = model.path.with_name("int8.tensorrt.engine")
    engine = engine_from_onnx(model, TENSORRT, out)
    assert out.read_bytes() == b"engine of a fake" and load_engine(out) == engine
    assert engine.card.layers == LayerReport({}, {}, {}, why)
    assert model.path.with_name("tensorrt.timing-cache").is_file()


# What cards say


@pytest.mark.parametrize(
    ("version", "typing"),
    [
        pytest.param("8.5", "weakly typed, INT8 and FP16 allowed", marks=pytest.mark.slow),
        ("10.3", "weakly typed, INT8 and FP16 allowed"),
    ],
)
def test_cards_say_how_a_network_was_typed(child: Any, model: OnnxModel, version: str, typing: str) -> None:
    child("ok", version)
    out = model.path.with_name("int8.tensorrt.engine")
    card = engine_from_onnx(model, TENSORRT, out).card
    assert card.typing == typing and card.notes == ()
    assert load_engine(out).card == card
    assert read_json(card_of(out))["details"]["typing"] == typing


def test_an_int8_engine_that_runs_in_fp32_does_not_pass_in_silence(
    child: Any, model: OnnxModel, caplog: pytest.LogCaptureFixture
) -> None:
    layers = [
        {"Name": name, "LayerType": "conv", "Inputs": [{"Name": "x", "Format/Datatype": kind}]}
        for name, kind in (("a", "Int8"), ("b", "Float"), ("c", "Float"), ("d", "Half"))
    ]
    child("ok", "10.3", layers=json.dumps({"Layers": layers}))
    with caplog.at_level(logging.WARNING):
        engine = engine_from_onnx(model, TENSORRT, model.path.with_name("int8.tensorrt.engine"))
    doubt = "of 4 layers, 1 run in INT8 and 2 in FP32: the INT8 engine may not be faster than FP32"
    assert engine.card.notes == (doubt,) and load_engine(engine.path).card.notes == (doubt,)
    assert f"int8.tensorrt.engine: {doubt}" in caplog.text
    assert layer_lines([engine])[-1] == f"int8.tensorrt.engine: {doubt}"


@pytest.mark.parametrize(
    ("counts", "doubted"),
    [
        ({"int8": 40, "fp16": 60, "fp32": 2}, False),
        ({"int8": 2, "fp32": 2}, True),
        ({"fp16": 9}, True),
        ({}, False),
    ],
)
def test_when_an_int8_engine_is_doubted(counts: dict[str, int], doubted: bool) -> None:
    total = sum(counts.values())
    report = LayerReport({"x": "int8"}, counts, {kind: count / total for kind, count in counts.items()})
    assert bool(int8_doubt(report)) is doubted


# The real parser


def test_layers_of_the_real_parser_belong_to_their_nodes() -> None:
    """TensorRT-RTX's parser, which is that of TensorRT 11, names layers and tensors as assumed."""
    trt = pytest.importorskip("tensorrt_rtx")
    content = residual_network().SerializeToString()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1)
    assert trt.OnnxParser(network, logger).parse(content)
    graph = read_graph(content)
    owners = _owners(network, graph)
    lost = {network.get_layer(index).type.name for index in set(range(network.num_layers)) - set(owners)}
    assert lost <= {"SHAPE", "CAST"}, "what the parser computes of shapes after the last node"
    operators = {node.name: node.operator for node in graph.nodes}
    values: dict[str, set[str]] = {operators[owner]: set() for owner in owners.values()}
    for index, owner in owners.items():
        values[operators[owner]].add(network.get_layer(index).type.name)
    assert values.keys() == set(operators.values())
    assert "CONVOLUTION" in values["Conv"] and "SOFTMAX" in values["Softmax"] and "MATRIX_MULTIPLY" in values["Gemm"]
    assert "ELEMENTWISE" in values["Gemm"], "its bias"
    assert not {"CONVOLUTION", "MATRIX_MULTIPLY"} & {
        kind for name in ("Softmax", "Add", "Relu") for kind in values[name]
    }
