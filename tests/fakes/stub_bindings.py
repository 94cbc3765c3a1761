"""The real Python bindings of TensorRT on a machine without TensorRT, imported over empty native libraries.

NVIDIA publishes the bindings of each version as a wheel of one megabyte. They can be imported if the native libraries
that they are linked to can be loaded; a few symbols are enough, all of which return NULL here, like TensorRT's own if
CUDA does not start. `described(version)` runs this module in a child process, which lists what its bindings contain.

The bindings are the original; only the native libraries are replaced.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.bindings import TABLE

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "8.6": "tensorrt-bindings==8.6.1",
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.7": "tensorrt-cu12-bindings==10.7.0",
    "10.13": "tensorrt-cu12-bindings==10.13.3.9",
    "10.16": "tensorrt-cu12-bindings==10.16.1.11",
    "11.0": "tensorrt-cu13-bindings==11.0.0.114",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
"""Which package has the bindings of which version. 8.5's were never published; TensorRT-RTX is installed whole."""

VERSIONS = (*PACKAGES, "rtx")

SINCE_8_6 = {
    "Builder": {"get_plugin_registry"},
    "BuilderFlag": {"FP8", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"},
    "DataType": {"FP8"},
    "HardwareCompatibilityLevel": None,
    "IBuilderConfig": {
        *("builder_optimization_level", "max_aux_streams", "hardware_compatibility_level", "plugins_to_serialize"),
    },
    "ICudaEngine": {"num_aux_streams", "hardware_compatibility_level"},
    "IExecutionContext": {"set_aux_streams"},
    "ILayer": {"metadata"},
    "LayerType": {"CAST", "NORMALIZATION", "REVERSE_SEQUENCE"},
    "MemoryPoolType": {"TACTIC_DRAM"},
    "OnnxParser": {"flags", "set_flag", "clear_flag", "get_flag", "get_used_vc_plugin_libraries"},
    "Runtime": {
        "get_plugin_registry",
        "engine_host_code_allowed",
        "load_runtime",
        "temporary_directory",
        "tempfile_control_flags",
    },
}
"""What 8.5 lacks of 8.6, class by class, after the published sources of its bindings; None: all of it. Networks and
tensors, of which little is used, are not compared."""

LISTED = (
    *("Builder", "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "DataType", "DeviceType", "EngineInspector"),
    *("ErrorCodeTRT", "HardwareCompatibilityLevel", "IBuilderConfig", "ICudaEngine", "IErrorRecorder"),
    *("IExecutionContext", "IHostMemory", "ILayer", "ILogger", "INetworkDefinition", "IOptimizationProfile"),
    *("IProgressMonitor", "IRuntimeCache", "IRuntimeConfig", "ITensor", "ITimingCache", "LayerInformationFormat"),
    *("LayerType", "MemoryPoolType"),
    *("NetworkDefinitionCreationFlag", "OnnxParser", "ParserError", "ProfilingVerbosity", "Runtime"),
)
"""The classes whose members `bindings.json` lists, for the fakes."""

_FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    *("initLibNvInferPlugins", "getPluginRegistry", "getBuilderPluginRegistry"),
    # The parsers of Caffe and UFF, which 8.6 still links, by their C++ names.
    *("_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi"),
    *("_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv"),
)

_LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers")

_SECONDS = 120.0

_CACHE = os.environ.get("TRTPOETS_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
"""As it is when tests are collected: each run of the tests has a TRTPOETS_CACHE of its own later."""


class _Absent(Exception):
    """Why the bindings of a version can't be had here."""


def described(version: str) -> dict[str, Any]:
    """What the bindings of a version contain and do: see `describe`. Skips the test if they are not available."""
    result = _described(version)
    if isinstance(result, str):
        pytest.skip(result)
    return result


@functools.cache
def _described(version: str) -> dict[str, Any] | str:
    """The description, or why there is none; determined once."""
    try:
        name, environment = _place(version)
    except _Absent as absent:
        return str(absent)
    child = subprocess.run(
        [sys.executable, "-m", "tests.fakes.stub_bindings", name],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    document: dict[str, Any] = json.loads(child.stdout)
    return document


def _place(version: str) -> tuple[str, dict[str, str]]:
    """The module name of a version, and the environment in which it can be imported."""
    if version == "rtx":
        if importlib.util.find_spec("tensorrt_rtx") is None:
            raise _Absent("tensorrt_rtx is not installed")
        return "tensorrt_rtx", {}
    paths = os.pathsep.join([str(_bindings(version)), os.environ.get("PYTHONPATH", "")])
    return "tensorrt_bindings", {"PYTHONPATH": paths, "LD_LIBRARY_PATH": str(stub_libraries(version.partition(".")[0]))}


def classes_of(version: str) -> dict[str, Any]:
    """The classes of a version, including 8.5."""
    if version != "8.5":
        class_name: dict[str, Any] = described(version)["classes"]
        return class_name
    classes = json.loads(json.dumps(described("8.6")["classes"]))
    for name, later in SINCE_8_6.items():
        if later is None:
            del classes[name]
            continue
        for part in ("members", "enum"):
            if part in classes[name]:
                classes[name][part] = [member for member in classes[name][part] if member not in later]
        for part in ("methods", "properties"):
            classes[name][part] = {key: value for key, value in classes[name][part].items() if key not in later}
    return classes


def listing_of(version: str) -> dict[str, set[str]]:
    """The members of the listed classes of a version; for an enum, its values."""
    classes = classes_of(version)
    return {name: set(classes[name].get("enum", classes[name]["members"])) for name in LISTED if name in classes}


def _write_table() -> None:
    listings = {version: listing_of(version) for version in ("8.5", *VERSIONS)}
    table: dict[str, dict[str, list[str]]] = {}
    for name in LISTED:
        for member in sorted(set().union(*(listing.get(name, set()) for listing in listings.values()))):
            versions = " ".join(version for version in listings if member in listings[version].get(name, set()))
            table.setdefault(name, {}).setdefault(versions, []).append(member)
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


def _cache() -> Path:
    folder = Path(_CACHE, "trtpoets-tests", f"bindings-{sys.implementation.cache_tag}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _bindings(version: str) -> Path:
    """The folder of the unpacked wheel of a version, downloaded once."""

    def fill(folder: Path) -> None:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=15", f"--dest={folder}"]
        done = _run([sys.executable, "-m", "pip", "download", *options, PACKAGES[version]])
        if done:
            raise _Absent(f"{PACKAGES[version]} can't be had for this Python, or from here: {done}")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
        wheel.unlink()

    return _made_once(version, fill)


@functools.cache
def stub_libraries(major: str) -> Path:
    """A folder with empty libraries under the names that the bindings of a major version need."""

    def fill(folder: Path) -> None:
        source = folder / "stub.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS))
        for name in _LIBRARIES:
            library = folder / f"lib{name}.so.{major}"
            done = _run(["cc", "-shared", "-fPIC", "-w", "-o", str(library), str(source)])
            if done:
                raise _Absent(f"the libraries under the bindings can't be compiled here: {done}")

    return _made_once(f"stubs-{major}", fill)


def _run(command: list[str]) -> str:
    """Run a program; returns its error output, empty on success."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip().splitlines() or ["it gave no reason"])[-1] if done.returncode else ""


def _made_once(name: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled atomically by the first process."""
    folder = _cache() / name
    if not folder.is_dir():
        part = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=_cache()))
        try:
            fill(part)
            with contextlib.suppress(OSError):  # another run was faster
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


# In the child process


def describe(name: str) -> dict[str, Any]:
    """What the bindings `name` hold.

    "classes": by name, "members", "methods" as overloads of {"parameters": [[name, type, has a default]], "returns"},
    and "properties" as {"type", "settable"}. "probes": what the adapter's own probes answer. "failures": what the
    adapter says where the library does not start.
    """
    from trtpoets.core.types import Flavour
    from trtpoets.device.tensorrt_api import TensorRt

    module = importlib.import_module(name)
    flavour = Flavour.RTX if name == "tensorrt_rtx" else Flavour.TENSORRT
    library = TensorRt(flavour, module, str(module.__version__))
    return {
        "version": library.version,
        "classes": {key: _class(value) for key, value in vars(module).items() if isinstance(value, type)},
        "probes": probes(library),
        "failures": {} if flavour is Flavour.RTX else failures(library),
        "subclasses": subclasses(library),
    }


def probes(library: Any) -> dict[str, Any]:
    """The results of the adapter's feature probes."""
    from trtpoets.core.types import Precision
    from trtpoets.device.build import tensorrt_config as config
    from trtpoets.device.tensorrt_session import shares_memory

    return {
        "strongly_typed": library.strongly_typed,
        "weakly_typed": config.weakly_typed(library, Precision.FP16),
        "weakly_typed_for_int8": config.weakly_typed(library, Precision.INT8),
        "weakly_typed_for_dla": config.weakly_typed(library, Precision.FP16, dla=True),
        "has_monitor": library.has_monitor,
        "has_optimization_level": library.has_optimization_level,
        "has_version_compatible": config.has_version_compatible(library),
        "has_hardware_compatible": config.has_hardware_compatible(library),
        "has_timing_cache": config.has_timing_cache(library),
        "targets": library.targets,
        "IRuntimeCache": hasattr(library.module, "IRuntimeCache"),
        "shares_memory": shares_memory(library),
    }


def failures(library: Any) -> dict[str, str]:
    """The errors of building, running and probing with a library that does not start."""
    from trtpoets.core.errors import TrtPoetsError
    from trtpoets.core.types import BatchRange, Precision
    from trtpoets.device.build.tensorrt_build import build_engine, machine_of
    from trtpoets.device.build.tensorrt_config import BuildRequest
    from trtpoets.device.tensorrt_messages import Messages
    from trtpoets.device.tensorrt_session import TensorRtSession

    request = BuildRequest(Precision.FP16, 16, 16, BatchRange(1, 2, 4), (), 1 << 28, None)
    attempts: dict[str, Callable[[], object]] = {
        "build": lambda: build_engine(library, b"onnx", request, lambda _: True, Messages()),
        "look": lambda: machine_of(library, Messages()),
        "run": lambda: TensorRtSession(library, b"plan"),
    }
    values = {}
    for what, attempt in attempts.items():
        try:
            attempt()
        except TrtPoetsError as error:
            values[what] = f"{type(error).__name__}: {error.message} ({error.hint})"
    return values


def subclasses(library: Any) -> dict[str, Any]:
    """What our subclasses of TensorRT's classes do when the real bindings call them, as TensorRT does."""
    from trtpoets.device.build.tensorrt_build import _new_monitor
    from trtpoets.device.tensorrt_messages import Messages, new_logger, new_recorder

    messages, module = Messages(), library.module
    logger = new_logger(library, messages)
    for severity, text in (("ERROR", "an error"), ("WARNING", "a warning"), ("INFO", "a word")):
        module.ILogger.log(logger, getattr(module.ILogger, severity), text)
    recorder, base = new_recorder(library, messages), module.IErrorRecorder
    taken = base.report_error(recorder, module.ErrorCodeTRT.FAILED_ALLOCATION, "no room")
    values = {
        "errors": messages.errors,
        "warnings": messages.warnings,
        "recorded": [taken, base.num_errors(recorder), base.get_error_desc(recorder, 0), base.has_overflowed(recorder)],
        "code": base.get_error_code(recorder, 0) == module.ErrorCodeTRT.FAILED_ALLOCATION,
    }
    base.clear(recorder)
    values["cleared"] = base.num_errors(recorder)
    if library.has_monitor:
        fractions: list[float] = []
        monitor = _new_monitor(library, lambda done: fractions.append(done) is None)
        module.IProgressMonitor.phase_start(monitor, "build", "", 2)
        values["goes_on"] = module.IProgressMonitor.step_complete(monitor, "build", 0)
        module.IProgressMonitor.phase_finish(monitor, "build")
        values["told"] = fractions
    return values


_SIGNATURE = re.compile(r"^(?:\d+\. )?\w+\((?P<parameters>.*)\) -> (?P<returns>.+)$", re.MULTILINE)
_PARAMETER = re.compile(r"(\w+)(?:: ([^=]*?))?(?: = (.*))?")


def _class(value: type) -> dict[str, Any]:
    members = sorted(name for name in dir(value) if not name.startswith("_"))
    values: dict[str, Any] = {"members": members, "methods": {}, "properties": {}}
    if hasattr(value, "__members__"):
        values["enum"] = sorted(value.__members__)
    for name in ("__init__", *members):
        member = getattr(value, name, None)
        if isinstance(member, property):
            returns = re.search(r"-> (.+)", member.fget.__doc__ or "") if member.fget else None
            kind = _short(returns.group(1)) if returns else ""
            values["properties"][name] = {"type": kind, "settable": member.fset is not None}
        elif callable(member) and _SIGNATURE.search(member.__doc__ or ""):
            values["methods"][name] = [
                {"parameters": _parameters(match["parameters"]), "returns": _short(match["returns"])}
                for match in _SIGNATURE.finditer(member.__doc__ or "")
                if not match["parameters"].startswith("*args")
            ]
    return values


def _parameters(text: str) -> list[list[Any]]:
    """ "self: a.B, flags: int = 0" -> [["flags", "int", True]]."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text + ","):
        depth += (character in "[(<{") - (character in "])>}")
        if character == "," and not depth:
            parts.append(text[start:index].strip())
            start = index + 1
    collected = []
    for part in parts:
        match = _PARAMETER.fullmatch(part)
        if match and match[1] != "self":
            collected.append([match[1], _short(match[2] or ""), match[3] is not None])
    return collected


def _short(kind: str) -> str:
    """ "tensorrt_bindings.tensorrt.Builder" -> "Builder"."""
    return kind if "[" in kind else re.split(r"[.:]", kind.strip())[-1]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(describe(sys.argv[1])))  # noqa: T201
    else:
        _write_table()
