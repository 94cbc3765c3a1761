"""Messages of TensorRT, as sentences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.tiny import tiny_graph
from trtpoets.core.types import Flavour
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt
from trtpoets.device.tensorrt_messages import (
    Messages,
    new_logger,
    new_recorder,
    parser_fix,
    parser_sentence,
    plain,
)

OUT_OF_MEMORY = "out of memory: no further information"
TURING = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] Cannot "
    "compile operation 'head' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at "
    "/_src/optimizer/myelin/codeGenerator.cpp:2012)"
)


@pytest.mark.parametrize(
    ("message", "means"),
    [
        (TURING, "Cannot compile operation 'head' for Turing (SM75): FP32 GEMM is not supported"),
        (
            "[network.cpp::validate::3478] Error Code 4: Internal Error (photos: dynamic input lacks dimensions.)",
            "photos: dynamic input lacks dimensions",
        ),
        ("10: Could not find any implementation\n for node {a}.", "10: Could not find any implementation for node {a}"),
        ("[a.cpp::b::1] Error Code 2: OutOfMemory (9 bytes.)", "out of memory: 9 bytes"),
        ("2: [memory.cpp::resize::145] Error Code 2: Out of Memory (no further information)", OUT_OF_MEMORY),
        (
            "10: [optimizer.cpp::cost::3728] Error Code 10: Internal Error (Could not find any implementation for a.)",
            "Could not find any implementation for a",
        ),
        ('creator && "Plugin not found"', 'creator && "Plugin not found"'),
        ("Invalid box [3, 4] (of 5)", "Invalid box [3, 4] (of 5)"),
        ("", ""),
    ],
)
def test_messages_become_one_sentence(message: str, means: str) -> None:
    assert plain(message) == means


def recording(base: Any) -> tuple[Any, Messages]:
    messages = Messages()
    library = TensorRt(Flavour.RTX, SimpleNamespace(ILogger=base), "1")
    return new_logger(library, messages), messages


def test_noise_is_left_out() -> None:
    class Logger:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    logger, messages = recording(Logger)
    logger.log(Logger.INTERNAL_ERROR, "Thread context has not been set! Using global log stream.")
    logger.log(Logger.ERROR, "Error Code 1: Cuda Runtime (In f at /a.cpp:2 (cudaError 35: driver version))")
    logger.log(Logger.INFO, "by the way")
    assert messages.errors == [] and messages.sentence() == "CUDA does not start: no usable driver"
    logger.log(Logger.WARNING, "scales are converted")
    logger.log(Logger.ERROR, "Error Code 4: API Usage Error (first. In f at /a.cpp:2)")
    logger.log(Logger.ERROR, "second")
    assert messages.sentence() == "first" and messages.warnings == ["scales are converted"]


def test_messages_of_the_real_logger_are_recorded() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    library = load_tensorrt(Flavour.RTX)
    assert library.title == f"TensorRT-RTX {trt.__version__}" and library.strongly_typed and library.has_monitor
    messages = Messages()
    logger = new_logger(library, messages)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "Network must have at least one output" in messages.sentence()


def parser_error(node: int, desc: str, **more: str) -> Any:
    values = {name: (lambda value=value: value) for name, value in more.items()}
    return SimpleNamespace(desc=lambda: desc, node=lambda: node, **values)


def test_parser_errors_name_the_node_in_every_era() -> None:
    content = tiny_graph().SerializeToString()
    new = parser_error(4, "no.", node_name="conv", node_operator="Conv")
    assert parser_sentence(new, content) == parser_sentence(parser_error(4, "no."), content) == "node 'conv' (Conv): no"
    assert parser_sentence(parser_error(0, "no"), content) == "a Cast node: no"
    for number in (-1, 99):
        assert parser_sentence(parser_error(number, "bad graph"), content) == "bad graph"
    assert parser_sentence(parser_error(0, "no", node_name="", node_operator=""), content) == "no"


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ('creator && "Plugin not found"', "does not support the operator; export it again with the default operators"),
        ("No importer registered for op: Frobnicate", "does not support the operator"),
        ("ctx->getOpsetVersion() < 18 opset", "trtpoets export NAME --opset 17 --force"),
        ("TRT only supports symmetric quantization", "trtpoets quantize NAME --force"),
        ("Scale coefficients must all be positive", "trtpoets quantize NAME --force"),
        ("something else", "export it again with the default operators: trtpoets export NAME --force"),
    ],
)
def test_parser_errors_have_a_fix(message: str, fix: str) -> None:
    assert fix in parser_fix(message) and "{" not in parser_fix(message)


def test_errors_of_the_real_recorder_are_recorded() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    library, messages = load_tensorrt(Flavour.RTX), Messages()
    logger = new_logger(library, messages)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    builder.error_recorder = new_recorder(library, messages)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert messages.sentence() == "Network must have at least one output"
    assert len(messages.recorders[0]._found) >= 1, "the recorder heard it, not the logger"
