"""The adapter's words exist in every version of the real bindings, and what libraries say is made readable."""

from __future__ import annotations

import ast
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trtpoets.core.errors import MissingDependency
from trtpoets.core.spec import Flavour
from trtpoets.device.tensorrt_api import PROBED, REQUIRED, TensorRt, load_tensorrt
from trtpoets.device.tensorrt_messages import Messages, new_logger, plain

ROOT = Path(__file__).parent.parent
API = ROOT.parent / "shared" / "tensorrt_api"
FILES = sorted(API.glob("api_*.json"))
PARTS = ("api", "messages", "config", "build", "layers", "session")
ADAPTER = [ROOT / "trtpoets" / "device" / f"tensorrt_{part}.py" for part in PARTS]

OUR_WORDS = {
    *("batch", "build_engine", "engine", "enqueue", "flavour", "logger", "message", "module", "precision", "reset"),
    *("runtime", "step", "title", "version", "workspace"),
}
"""Names of ours that some class of TensorRT happens to have too."""

TURING = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] Cannot "
    "compile operation 'head' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at "
    "/_src/optimizer/myelin/codeGenerator.cpp:2012)"
)


@cache
def members(path: Path) -> dict[str, set[str]]:
    """The members of every class of one version, by class."""
    return {name: set(entry["members"]) for name, entry in json.loads(path.read_text()).items()}


def version_of(path: Path) -> str:
    return path.stem[len("api_") :]


@cache
def touched() -> frozenset[str]:
    """Every attribute and every name in quotes that the adapter uses."""
    found = set()
    for path in ADAPTER:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found.add(node.value)
            elif isinstance(node, ast.FunctionDef):
                found.add(node.name)
    return frozenset(found)


needs_api = pytest.mark.skipif(not FILES, reason="the members of the real bindings are in ../shared, which is not here")


@needs_api
@pytest.mark.parametrize("path", FILES, ids=version_of)
def test_what_is_required_is_everywhere(path: Path) -> None:
    known = members(path)
    missing = [
        f"{cls}.{name}" for cls, names in REQUIRED.items() for name in names if name not in known.get(cls, set())
    ]
    assert not missing


@needs_api
@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls, names in PROBED.items() for name in names])
def test_what_is_probed_is_somewhere(cls: str, name: str) -> None:
    assert any(name in members(path).get(cls, set()) for path in FILES), "no version has it: a slip of the pen"


@needs_api
def test_only_what_differs_is_probed() -> None:
    """8.5, which has neither levels nor compatibility, is not among the bindings that can be had."""
    everywhere = {
        f"{cls}.{name}"
        for cls, names in PROBED.items()
        for name in names
        if all(name in members(path).get(cls, set()) for path in FILES)
    }
    assert everywhere == {
        "BuilderFlag.VERSION_COMPATIBLE",
        "HardwareCompatibilityLevel.AMPERE_PLUS",
        "IBuilderConfig.builder_optimization_level",
        "IBuilderConfig.hardware_compatibility_level",
        "Runtime.engine_host_code_allowed",
    }


@needs_api
def test_the_lists_are_what_the_code_touches() -> None:
    """Both ways: no name of TensorRT in the adapter that is not listed, nothing listed that is not used."""
    listed = {name for table in (REQUIRED, PROBED) for names in table.values() for name in names}
    of_tensorrt = {name for path in FILES for names in members(path).values() for name in names}
    python = {name for kind in (str, dict, list, bytes, BaseException) for name in dir(kind)} | {"value", "start"}
    unlisted = (touched() & of_tensorrt) - listed - python - OUR_WORDS
    unlisted = {name for name in unlisted if not name.startswith("__")}
    assert not unlisted
    assert not listed - touched() - {"platform_has_fast_fp16", "platform_has_fast_int8"}  # put together from flags


@needs_api
def test_flag_names_make_the_probes() -> None:
    """platform_has_fast_<flag> exists for each flag, in each version that has the flags."""
    for path in FILES:
        for flag in ("FP16", "INT8"):
            if flag in members(path)["BuilderFlag"] and "STRONGLY_TYPED" not in members(path).get(
                "NetworkDefinitionCreationFlag", set()
            ):
                assert f"platform_has_fast_{flag.lower()}" in members(path)["Builder"]


@needs_api
@pytest.mark.parametrize("path", FILES, ids=version_of)
def test_probes_see_what_each_version_has(path: Path) -> None:
    """The properties of `TensorRt` on a module with exactly that version's names."""
    module = ModuleType("tensorrt")
    for cls, names in members(path).items():
        setattr(module, cls, SimpleNamespace(**dict.fromkeys(names), __members__=dict.fromkeys(names, 0)))
    library = TensorRt(Flavour.TENSORRT, module, version_of(path))
    is_eight, is_rtx = version_of(path).startswith("8."), "rtx" in version_of(path)
    assert library.strongly_typed is not is_eight
    assert library.has_monitor is not is_eight
    assert library.has_optimization_level
    assert set(library.targets) == ({"sm75", "sm80", "sm86", "sm89", "sm120", "sm121"} if is_rtx else set())


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (TURING, "Cannot compile operation 'head' for Turing (SM75): FP32 GEMM is not supported"),
        (
            "[network.cpp::validate::3478] Error Code 4: Internal Error (photos: dynamic input lacks dimensions.)",
            "photos: dynamic input lacks dimensions",
        ),
        ("10: Could not find any implementation\n for node {a}.", "10: Could not find any implementation for node {a}"),
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
    assert messages.sentence() == "" and messages.errors == []
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
        "building or running tensorrt engines needs tensorrt, and it does not import"
    )
    assert caught.value.hint == "pip install 'trtpoets[tensorrt]'"


def test_a_library_without_its_native_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingDependency, match=r"does not load here: libnvinfer\.so\.10: cannot open"):
        load_tensorrt(Flavour.TENSORRT)
