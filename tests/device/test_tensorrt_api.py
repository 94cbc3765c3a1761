"""Messages of libraries are shortened, and libraries that can't be used are refused with the reason."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.tiny import tiny_graph, tiny_onnx
from trtpoets.core.errors import MissingDependency, RunFailed, TrtPoetsError
from trtpoets.core.types import Flavour
from trtpoets.device.build.engine import engine_from_onnx
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.gpu import libcuda
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt, numpy_type
from trtpoets.device.tensorrt_messages import (
    Messages,
    new_logger,
    new_recorder,
    parser_fix,
    parser_sentence,
    plain,
)
from trtpoets.device.tensorrt_session import TensorRtSession

OUT_OF_MEMORY = "out of memory: no further information"

TURING = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] Cannot "
    "compile operation 'head' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at "
    "/_src/optimizer/myelin/codeGenerator.cpp:2012)"
)


@pytest.mark.parametrize(
    ("said", "means"),
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
def test_messages_become_one_sentence(said: str, means: str) -> None:
    assert plain(said) == means


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


def test_the_real_logger_is_heard() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    library = load_tensorrt(Flavour.RTX)
    assert library.title == f"TensorRT-RTX {trt.__version__}" and library.strongly_typed and library.has_monitor
    messages = Messages()
    logger = new_logger(library, messages)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "Network must have at least one output" in messages.sentence()


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependency) as caught:
        load_tensorrt(Flavour.TENSORRT)
    assert caught.value.message.startswith(
        "building or running tensorrt engines needs tensorrt, but it can't be imported"
    )
    assert caught.value.hint == "pip install 'trtpoets[tensorrt]'"


def test_a_library_without_its_native_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingDependency, match=r"can't be loaded: libnvinfer\.so\.10: cannot open"):
        load_tensorrt(Flavour.TENSORRT)


def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contexts of TensorRT 8.4 (JetPack 5.0.2) have no named tensors."""
    old = SimpleNamespace(__version__="8.4.1", IExecutionContext=SimpleNamespace(execute_async_v2=None))
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(MissingDependency) as caught:
        load_tensorrt(Flavour.TENSORRT)
    assert caught.value.message.startswith("TensorRT 8.4.1 is too old: ")
    assert "JetPack 5.1 or later" in caught.value.hint


def test_both_flavours_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    here = SimpleNamespace(__version__="10.3.0", IExecutionContext=SimpleNamespace(set_tensor_address=None))
    monkeypatch.setitem(sys.modules, "tensorrt", here)
    first, second = load_tensorrt(Flavour.TENSORRT), load_tensorrt(Flavour.RTX)
    assert first.module is here and second.module is sys.modules["tensorrt_rtx"]
    assert (first.title, load_tensorrt(Flavour.TENSORRT)) == ("TensorRT 10.3.0", first)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("DataType.UINT8", "uint8"), ("DataType.INT64", "int64"), ("DataType.HALF", "float16"), ("DataType.BF16", "bf16")],
)
def test_types_in_the_words_of_numpy(kind: str, name: str) -> None:
    assert numpy_type(kind) == name


def parser_error(node: int, desc: str, **more: str) -> Any:
    told = {name: (lambda value=value: value) for name, value in more.items()}
    return SimpleNamespace(desc=lambda: desc, node=lambda: node, **told)


def test_parser_errors_name_the_node_in_every_era() -> None:
    content = tiny_graph().SerializeToString()
    new = parser_error(4, "no.", node_name="conv", node_operator="Conv")
    assert parser_sentence(new, content) == parser_sentence(parser_error(4, "no."), content) == "node 'conv' (Conv): no"
    assert parser_sentence(parser_error(0, "no"), content) == "a Cast node: no"
    for number in (-1, 99):
        assert parser_sentence(parser_error(number, "bad graph"), content) == "bad graph"
    assert parser_sentence(parser_error(0, "no", node_name="", node_operator=""), content) == "no"


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ('creator && "Plugin not found"', "does not support the operator; export it again with the default operators"),
        ("No importer registered for op: Frobnicate", "does not support the operator"),
        ("ctx->getOpsetVersion() < 18 opset", "trtpoets export NAME --opset 17 --force"),
        ("TRT only supports symmetric quantization", "trtpoets quantize NAME --force"),
        ("Scale coefficients must all be positive", "trtpoets quantize NAME --force"),
        ("something else", "export it again with the default operators: trtpoets export NAME --force"),
    ],
)
def test_parser_errors_have_a_fix(said: str, fix: str) -> None:
    assert fix in parser_fix(said) and "{" not in parser_fix(said)


def test_the_real_recorder_is_heard() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    library, messages = load_tensorrt(Flavour.RTX), Messages()
    logger = new_logger(library, messages)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    builder.error_recorder = new_recorder(library, messages)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert messages.sentence() == "Network must have at least one output"
    assert len(messages.recorders[0]._found) >= 1, "the recorder heard it, not the logger"


def test_the_real_runtime_without_a_gpu(tmp_path: Path) -> None:
    """A damaged engine is reported as damaged; a valid one fails because there is no CUDA."""
    pytest.importorskip("tensorrt_rtx")
    library = load_tensorrt(Flavour.RTX)
    with pytest.raises(RunFailed) as caught:
        TensorRtSession(library, b"no engine at all" * 8)
    assert caught.value.message.startswith(f"{library.title} can't load the engine: Serialization assertion")
    try:
        libcuda.load_driver()
    except TrtPoetsError:
        plan = engine_from_onnx(tiny_onnx(tmp_path / "x.onnx"), EngineConfig(Flavour.RTX), tmp_path / "x.engine").path
        with pytest.raises(RunFailed, match=r"can't load the engine: CUDA does not start: no usable driver$"):
            TensorRtSession(library, plan.read_bytes())
