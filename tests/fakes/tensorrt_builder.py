"""TensorRT's builder in Python, for what is not available here: old versions, crashes, slow builds.

`namespace(...)` has the module's names with exactly the members of a version (`bindings.py`), and fails the test if a
documented rule is broken. Behaviours of the build: "ok", "slow" (checks the monitor), "deaf" (does not), "segfault",
"exit", "killed", "out of memory", "bug", "noisy", or "refuse: TEXT" with TensorRT's message; before it: "no driver",
"segfault at start", "unknown operator"; after it: "inspector fails", "inspector crashes".

Rules: arguments have the required type, and subclasses of TensorRT's classes are initialised; a network is created with
valid flags; ONNX files are parsed once, into an empty network with an explicit batch; networks, configurations and
parsers belong to an existing builder; profiles get ascending shapes before they are added; precision flags are set only
for weakly typed networks, and constraints on layers apply only with their flag (`tensorrt_network.py`); a recorder
outlives its builder and is set after parsing (TensorRT-RTX crashes otherwise); an engine outlives its inspector,
which 8.x does not ensure; `is_network_supported` of TensorRT returns False for networks that can be built; a timing
cache that does not match is reported as an error.

Stands for the builders of TensorRT 8.5 to 11. `test_tensorrt_builder.py` compares it with the real TensorRT-RTX.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.fakes.bindings import bound, enumeration, instance_of, present, rule
from tests.fakes.tensorrt_network import inspected, layers_of, mistyped
from trtpoets.core.types import Flavour
from trtpoets.device.tensorrt_api import TensorRt

VERSIONS = ("8.5", "8.6", "10.3", "10.7", "10.13", "10.16", "11.0", "11.4", "rtx")

_ENUMERATIONS = (
    *("BuilderFlag", "ComputeCapability", "DataType", "DeviceType", "ErrorCodeTRT", "HardwareCompatibilityLevel"),
    *("LayerInformationFormat", "LayerType", "MemoryPoolType", "ProfilingVerbosity"),
)

_TYPE_FLAGS = {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"}

MIN_WORKSPACE = 8 << 20

TIMINGS = b"timings of a fake"

LAYERS = """{"Layers": [
  {"Name": "in", "LayerType": "Reformat", "Inputs": [{"Name": "photos", "Format/Datatype": "Row major linear UInt8"}]},
  {"Name": "conv", "LayerType": "CaskConvolution", "Weights": {"Type": "Int8", "Count": 216}, "Inputs": [{"Name": "x",
   "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}], "Outputs": []},
  {"Name": "head", "LayerType": "gemm", "Inputs": [{"Name": "p", "Format/Datatype": "Half"}]},
  {"Name": "softmax", "LayerType": "kgen", "Inputs": [{"Name": "l", "Format/Datatype": "Half"}]},
  {"Name": "out", "LayerType": "kgen", "Inputs": [{"Name": "q", "DataType": "Float"}]}
], "Bindings": ["photos", "scores"]}"""

log: dict[str, Any] = {}
"""The settings of the last build: "network" flags, builder "flags", "shapes", "workspace" and more."""


def fake_library(version: str, behaviour: str = "ok", fast: bool = True, cores: int = 0) -> TensorRt:
    """The adapter over a module of `namespace`, in this process."""
    flavour = Flavour.RTX if version == "rtx" else Flavour.TENSORRT
    module = ModuleType("tensorrt")
    module.__dict__.update(namespace(version, behaviour, fast=fast, cores=cores))
    return TensorRt(flavour, module, version)


def namespace(
    version: str, behaviour: str = "ok", pid_file: str = "", fast: bool = True, cores: int = 0, layers: str = ""
) -> dict[str, Any]:
    """The names of the module of a version. `layers` is the inspector's result for any engine."""
    rtx, names = version == "rtx", present(dict.fromkeys(_ENUMERATIONS), version)
    enums = SimpleNamespace(**{name: enumeration(name, version) for name in names})
    network_flags = enumeration("NetworkDefinitionCreationFlag", version, _network_numbers(version))

    class Logger:
        _ready = False
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self) -> None:
            self._ready = True

        def log(self, severity: int, text: str) -> None:
            raise NotImplementedError

    class Recorder:
        _ready = False

        def __init__(self) -> None:
            self._ready = True

    class Monitor:
        _ready = False

        def __init__(self) -> None:
            self._ready = True

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            raise NotImplementedError

        def step_complete(self, name: str, index: int) -> bool:
            raise NotImplementedError

        def phase_finish(self, name: str) -> None:
            raise NotImplementedError

    logger_class, recorder_class = bound("ILogger", version, Logger), bound("IErrorRecorder", version, Recorder)
    monitor_class = None if version.startswith("8.") else bound("IProgressMonitor", version, Monitor)

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> bytes:
            return (self._content or TIMINGS) + b" measured"

    timing_class = bound("ITimingCache", version, TimingCache)

    class Profile:
        def __init__(self, builder: Any) -> None:
            self._builder = weakref.ref(builder)
            self._shapes: dict[str, tuple[Any, Any, Any]] = {}

        def set_shape(self, tensor: str, least: Any, usual: Any, most: Any) -> None:
            log["shapes"] = (tensor, least, usual, most)
            self._shapes[tensor] = (least, usual, most)

        def _rises(self) -> bool:
            return all(a <= b <= c for a, b, c in self._shapes.values())

    profile_class = bound("IOptimizationProfile", version, Profile)

    class Config:
        DLA_core = -1
        profiling_verbosity = enums.ProfilingVerbosity.LAYER_NAMES_ONLY
        default_device_type = enums.DeviceType.GPU
        builder_optimization_level = hardware_compatibility_level = progress_monitor = None

        def __init__(self, builder: Any) -> None:
            self._builder: Callable[[], Any] = weakref.ref(builder)
            self._flags: list[Any] = []
            self._profiles: list[Any] = []
            self._capabilities: dict[Any, Any] = {}
            self._count = 0

        def _set_count(self, count: int) -> None:
            if count < 0:
                raise ValueError("num_compute_capabilities")
            self._count = count

        num_compute_capabilities = property(lambda self: self._count, _set_count)

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            instance_of(enums.MemoryPoolType, pool, "set_memory_pool_limit")
            log[pool.name.lower()] = size

        def set_flag(self, flag: Any) -> None:
            instance_of(enums.BuilderFlag, flag, "set_flag")
            log.setdefault("flags", []).append(flag.name)
            self._flags.append(flag.name)

        def get_flag(self, flag: Any) -> bool:
            instance_of(enums.BuilderFlag, flag, "get_flag")
            return flag.name in self._flags

        def create_timing_cache(self, content: bytes) -> Any:
            if content.startswith(TIMINGS) or not content:
                return timing_class(content)
            self._builder()._say("IBuilderConfig::createTimingCache: Error Code 3: API Usage Error (bad cache)")
            return None

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            instance_of(timing_class, cache, "set_timing_cache")
            rule(not ignore_mismatch, "timings of another device are worse than none")
            log["timings"] = cache._content
            fits = b"Another GPU" not in cache._content
            if not fits:
                self._builder()._say("Error Code 1: Timing Cache (cache of another device: mismatch)")
            return fits

        def set_compute_capability(self, capability: Any, index: int) -> bool:
            instance_of(enums.ComputeCapability, capability, "set_compute_capability")
            rule(index < self._count, "how many capabilities there are is set first")
            self._capabilities[index] = capability.name
            log["targets"] = tuple(self._capabilities.values())
            return capability.name not in ("NONE", *self._capabilities)

        def add_optimization_profile(self, profile: Any) -> int:
            instance_of(profile_class, profile, "add_optimization_profile")
            rule(profile._builder() is self._builder() is not None, "a profile of another builder, or of a dead one")
            if not profile._rises():
                return -1
            self._profiles.append(profile)
            return len(self._profiles) - 1

    config_class = bound("IBuilderConfig", version, Config)

    class Network:
        def __init__(self, builder: Any, flags: int) -> None:
            self._builder, self._flags, self._content = weakref.ref(builder), flags, None
            self._layers: list[Any] = []

        def _flag(self, name: str) -> bool:
            member = network_flags.__members__.get(name)
            return member is not None and bool(self._flags & 1 << int(member))

        @property
        def _strong(self) -> bool:
            return version.startswith("11") or rtx or self._flag("STRONGLY_TYPED")

        @property
        def num_layers(self) -> int:
            return len(self._layers)

        def get_layer(self, index: int) -> Any:
            return self._layers[index] if 0 <= index < len(self._layers) else None

        @property
        def num_inputs(self) -> int:
            return int(bool(self._content))

        num_outputs = num_inputs

        def get_input(self, index: int) -> Any:
            return SimpleNamespace(name="photos", shape=(-1, 16, 16, 3)) if index < self.num_inputs else None

        def get_output(self, index: int) -> Any:
            return SimpleNamespace(name="scores", shape=(-1, 3)) if index < self.num_inputs else None

    network_class = bound("INetworkDefinition", version, Network)

    class Builder:
        num_DLA_cores = property(lambda self: cores)  # noqa: N815 - TensorRT's name
        platform_has_fast_fp16 = platform_has_fast_int8 = property(lambda self: fast)

        def __init__(self, logger: Any) -> None:
            instance_of(logger_class, logger, "Builder")
            if behaviour == "no driver":
                raise TypeError("pybind11::init(): factory function returned nullptr")
            if behaviour == "segfault at start":
                ctypes.string_at(0)
            self._logger, self._recorded_early = logger, False
            self._recorder: weakref.ref[Any] | None = None

        def _set_recorder(self, recorder: Any) -> None:
            instance_of(recorder_class, recorder, "error_recorder")
            self._recorder = weakref.ref(recorder)

        error_recorder = property(lambda self: self._recorder and self._recorder(), _set_recorder)

        def _say(self, text: str) -> None:
            if self._recorder is None:
                self._logger.log(self._logger.ERROR, text)
                return
            recorder = self._recorder()
            assert recorder is not None, "a rule of TensorRT is broken: a recorder is freed before its builder"
            rule(recorder.get_num_errors() >= 0, "the bindings count errors by get_num_errors")
            recorder.report_error(enums.ErrorCodeTRT.UNSPECIFIED_ERROR, text)

        def __del__(self) -> None:
            recorder = getattr(self, "_recorder", None)
            if recorder is not None and recorder() is None:
                log["broken"] = "a recorder is freed before its builder"

        def create_network(self, flags: int) -> Any:
            rule(type(flags) is int, "flags are bits of an int")
            rule(not flags & ~sum(1 << int(network_flag) for network_flag in network_flags), "bits that no flag has")
            log.clear()
            log["network"] = flags
            return network_class(self, flags)

        def create_builder_config(self) -> Any:
            return config_class(self)

        def create_optimization_profile(self) -> Any:
            return profile_class(self)

        def is_network_supported(self, network: Any, config: Any) -> bool:
            instance_of(network_class, network, "network")
            instance_of(config_class, config, "config")
            return rtx and not self._refused(network, config, _problem(network, config))

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            instance_of(network_class, network, "network")
            instance_of(config_class, config, "config")
            problem = (
                _problem(network, config)
                or mistyped(network._layers, version, network._strong)
                or _late_problem(network, config, log.get("workspace"), cores, rtx)
            )
            if self._refused(network, config, problem):
                return None
            if network._layers:
                log["layers"] = inspected(network._layers, version, network._strong, set(config._flags))
            log["verbosity"] = _spoken(config.profiling_verbosity)
            log["hardware"] = _spoken(getattr(config, "hardware_compatibility_level", None))
            log["dla"] = (config.default_device_type.name, config.DLA_core)
            log["level"] = getattr(config, "builder_optimization_level", None)
            if pid_file:
                Path(pid_file).write_text(str(os.getpid()))
            monitor = getattr(config, "progress_monitor", None)
            if monitor is not None:
                assert monitor_class is not None, "TensorRT 8 has no progress monitor"
                instance_of(monitor_class, monitor, "progress_monitor")
            return _build(behaviour, self._say, monitor)

        def _refused(self, network: Any, config: Any, problem: str) -> bool:
            rule(network._builder() is self is config._builder(), "a network or configuration of another builder")
            if problem:
                self._say(f"IBuilder::isNetworkSupported: Error Code 4: API Usage Error ({problem}. In f at /a.cpp:1)")
            return bool(problem)

    class Parser:
        def __init__(self, network: Any, logger: Any) -> None:
            instance_of(network_class, network, "OnnxParser")
            instance_of(logger_class, logger, "OnnxParser")
            self._network = network
            self._errors: list[Any] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index] if index < len(self._errors) else None

        def parse(self, content: bytes) -> bool:
            network = self._network
            builder = network._builder()
            rule(builder is not None, "a network outlives its builder")
            rule(not (rtx and builder._recorder), "TensorRT-RTX crashes when a builder with a recorder parses")
            explicit = "EXPLICIT_BATCH" not in network_flags.__members__ or network._flag("EXPLICIT_BATCH")
            problem = (
                "A model was previously parsed!"
                if network._content is not None
                else "This version of the ONNX parser only supports networks with an explicit batch dimension"
                if not explicit
                else 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
                if behaviour == "unknown operator"
                else ""
            )
            network._content = content
            network._layers = layers_of(content, version, enums, network._strong)
            if problem:
                self._errors.append(error_class(problem))
            return not problem

    class ParserError:
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

        def node(self) -> int:
            return 4

        def node_name(self) -> str:
            return "conv"

        def node_operator(self) -> str:
            return "Conv"

    error_class = bound("ParserError", version, ParserError)

    class Inspector:
        def __init__(self, engine: Any) -> None:
            self._engine = weakref.ref(engine)
            self._kept = None if version.startswith("8.") else engine

        def __del__(self) -> None:
            if self._engine() is None:
                log["broken"] = "an engine is freed before its inspector"

        def get_engine_information(self, form: Any) -> str:
            instance_of(enums.LayerInformationFormat, form, "get_engine_information")
            if behaviour == "inspector fails":
                raise RuntimeError("no information\nfor this engine")
            if behaviour == "inspector crashes":
                ctypes.string_at(0)
            return (layers or log.get("layers", LAYERS)) if form is enums.LayerInformationFormat.JSON else ""

    class Engine:
        def create_engine_inspector(self) -> Any:
            return bound("EngineInspector", version, Inspector)(self)

    class Runtime:
        engine_host_code_allowed = False
        DLA_core = -1

        def __init__(self, logger: Any) -> None:
            instance_of(logger_class, logger, "Runtime")
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            compatible = "VERSION_COMPATIBLE" in log.get("flags", [])
            allowed = getattr(self, "engine_host_code_allowed", False)
            if rtx:  # its engines are built where no GPU can load them
                self._logger.log(self._logger.ERROR, "Cuda Runtime (cudaError 35: CUDA driver version is insufficient)")
            if rtx or allowed != compatible or self.DLA_core != log["dla"][1]:
                return None
            return bound("ICudaEngine", version, Engine)()

    classes = {
        "ILogger": logger_class,
        "IErrorRecorder": recorder_class,
        "IProgressMonitor": monitor_class,
        "ITimingCache": timing_class,
        "IOptimizationProfile": profile_class,
        "IBuilderConfig": config_class,
        "INetworkDefinition": network_class,
        "ParserError": error_class,
        "NetworkDefinitionCreationFlag": network_flags,
        "Builder": bound("Builder", version, Builder),
        "OnnxParser": bound("OnnxParser", version, Parser),
        "Runtime": bound("Runtime", version, Runtime),
        "IExecutionContext": bound("IExecutionContext", version, object),
        **vars(enums),
    }
    return {"__version__": version, **present(classes, version)}


def _network_numbers(version: str) -> dict[str, int]:
    typed = 0 if version.startswith("11") or version == "rtx" else 1
    return {
        "EXPLICIT_BATCH": 0,
        "EXPLICIT_PRECISION": 1,
        "STRONGLY_TYPED": typed,
        "PREFER_JIT_PYTHON_PLUGINS": typed + 1,
        "PREFER_AOT_PYTHON_PLUGINS": typed + 2,
    }


def _spoken(member: Any) -> str | None:
    return None if member is None else str(member.name.replace("_", " ").lower())


def _problem(network: Any, config: Any) -> str:
    """Why a network is not supported with a configuration; empty if it is."""
    if not network.num_outputs:
        return "Network must have at least one output"
    if not config._profiles:
        return "Network has dynamic or shape inputs, but no optimization profile has been defined"
    if any(not profile._shapes for profile in config._profiles):
        return "photos: dynamic input is missing dimensions in profile 0"
    return ""


def _late_problem(network: Any, config: Any, workspace: int | None, cores: int, rtx: bool) -> str:
    """Why the build of a supported network gives no engine; empty if it gives one."""
    flags = set(config._flags)
    strong = network._strong
    rule(not (strong and flags & _TYPE_FLAGS), "strongly typed networks take no precision flags")
    if b"QuantizeLinear" in network._content and not strong and "INT8" not in flags:
        return "Int8 precision has not been set to ON, and the network has QuantizeLinear nodes"
    if workspace is not None and workspace < MIN_WORKSPACE:
        return "Tactic Selection: no tactics to implement the operation within workspace limit"
    if len(config._capabilities) != config._count:
        return "bad optional access"
    if rtx and "VERSION_COMPATIBLE" in flags:
        return "Unable to load library: libnvinfer_lean.so.1: cannot open shared object file"
    if config.default_device_type.name == "DLA":
        if not 0 <= config.DLA_core < cores:
            return f"DLA core {config.DLA_core} does not exist"
        if "GPU_FALLBACK" not in flags:
            return "softmax cannot run on DLA, and GPU fallback is not enabled"
    return ""


def _build(behaviour: str, say: Any, monitor: Any) -> bytes | None:
    if behaviour == "segfault":
        ctypes.string_at(0)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "out of memory":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()
    if behaviour == "exit":
        os.write(2, b"fatal: no\n\n")
        os._exit(3)
    if behaviour == "bug":
        raise ValueError("a wrong turn")
    if behaviour == "deaf":
        time.sleep(60)
    if behaviour == "noisy":
        for _ in range(200):
            os.write(1, b"native noise\n" * 500)
            sys.stderr.write("more noise\n")
    if behaviour.startswith("refuse: "):
        say(behaviour[len("refuse: ") :])
        return None
    steps = 1000 if behaviour == "slow" else 5
    if monitor is not None:
        monitor.phase_start("Building engine", None, steps)
        for step in range(steps):
            time.sleep(0.05 if behaviour == "slow" else 0)
            if monitor.step_complete("Building engine", step) is not True:
                say("IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled ()")
                return None
        monitor.phase_finish("Building engine")
    return b"engine of a fake"
