"""TensorRT's builder as a module of Python, for what can't be had here: old versions, crashes, slowness.

`namespace(...)` gives the module's names. Behaviours of the build: "ok", "slow" (listens to the monitor), "deaf" (does
not), "segfault", "exit", "killed", "out of memory", "bug", "noisy", or "refuse: TEXT" with what TensorRT logs; before
it: "no driver", "segfault at start".
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from trtpoets.core.spec import Flavour
from trtpoets.device.tensorrt_api import TensorRt


class _Flags(IntEnum):
    EXPLICIT_BATCH = 0


class _StrongFlags(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class _OnlyStrong(IntEnum):
    STRONGLY_TYPED = 0


class _OldBuilderFlag(IntEnum):
    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3


class _BuilderFlag(IntEnum):
    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3
    VERSION_COMPATIBLE = 20


class _TypedBuilderFlag(IntEnum):
    GPU_FALLBACK = 1
    VERSION_COMPATIBLE = 10


FLAGS = {"8.5": _Flags, "8.6": _Flags, "10.3": _StrongFlags, "11.0": _OnlyStrong}
BUILDER_FLAGS = {"8.5": _OldBuilderFlag, "8.6": _BuilderFlag, "10.3": _BuilderFlag, "11.0": _TypedBuilderFlag}

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
"""What the last build was told: "network" flags, builder "flags", "shapes", "workspace" and more."""


def fake_library(version: str, behaviour: str = "ok", fast: bool = True, cores: int = 0) -> TensorRt:
    """The adapter over a module of `namespace`, in this process."""
    module = ModuleType("tensorrt")
    module.__dict__.update(namespace(version, behaviour, fast=fast, cores=cores))
    return TensorRt(Flavour.TENSORRT, module, version)


def namespace(
    version: str, behaviour: str = "ok", pid_file: str = "", fast: bool = True, cores: int = 0
) -> dict[str, Any]:
    class Logger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

        def log(self, severity: int, text: str) -> None:
            raise NotImplementedError

    class Monitor:
        pass

    class Recorder:
        pass

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> bytes:
            return (self.content or TIMINGS) + b" measured"

    class Config:
        progress_monitor: Any = None
        default_device_type = "GPU"
        DLA_core = -1
        profiling_verbosity = "names"
        if version != "8.5":
            builder_optimization_level = 3
            hardware_compatibility_level = "none"

        def set_memory_pool_limit(self, pool: str, size: int) -> None:
            log["workspace"] = size

        def set_flag(self, flag: IntEnum) -> None:
            assert isinstance(flag, BUILDER_FLAGS[version])
            strong = "STRONGLY_TYPED" in FLAGS[version].__members__ and log["network"] & (
                1 << FLAGS[version]["STRONGLY_TYPED"]
            )
            assert not (strong and flag.name in ("FP16", "INT8")), "strongly typed builders take no precision flags"
            log.setdefault("flags", []).append(flag.name)

        def create_timing_cache(self, content: bytes) -> TimingCache | None:
            return TimingCache(content) if content.startswith(TIMINGS) or not content else None

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch, "timings of another device are worse than none"
            log["timings"] = cache.content
            return b"Another GPU" not in cache.content

        def add_optimization_profile(self, profile: Any) -> int:
            return 0

    class Profile:
        def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
            log["shapes"] = (name, *shapes)

    class Network:
        num_inputs = num_outputs = 1

        def get_input(self, index: int) -> Any:
            return SimpleNamespace(name="photos", shape=(-1, 16, 16, 3))

        def get_output(self, index: int) -> Any:
            return SimpleNamespace(name="scores", shape=(-1, 3))

    class Builder:
        num_DLA_cores = cores  # noqa: N815 - TensorRT's name
        if version != "11.0":
            platform_has_fast_fp16 = platform_has_fast_int8 = fast

        def __init__(self, logger: Any) -> None:
            if behaviour == "no driver":
                raise TypeError("pybind11::init(): factory function returned nullptr")
            if behaviour == "segfault at start":
                ctypes.string_at(0)
            self.logger = logger

        def create_network(self, flags: int) -> Network:
            log.clear()
            log["network"] = flags
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def is_network_supported(self, network: Network, config: Config) -> bool:
            return True

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            log["verbosity"], log["hardware"] = (
                config.profiling_verbosity,
                vars(config).get("hardware_compatibility_level"),
            )
            log["dla"] = (config.default_device_type, config.DLA_core)
            log["level"] = vars(config).get("builder_optimization_level")
            if pid_file:
                Path(pid_file).write_text(str(os.getpid()))
            return _build(behaviour, self.logger, config.progress_monitor)

    class Parser:
        num_errors = 0

        def __init__(self, network: Network, logger: Any) -> None:
            pass

        def parse(self, content: bytes) -> bool:
            return True

    class Runtime:
        engine_host_code_allowed = False
        DLA_core = -1

        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            compatible = "VERSION_COMPATIBLE" in log.get("flags", [])
            if self.engine_host_code_allowed != compatible or self.DLA_core != log["dla"][1]:
                return None
            inspector = SimpleNamespace(get_engine_information=lambda form: LAYERS if form == "json" else "")
            return SimpleNamespace(create_engine_inspector=lambda: inspector)

    names = {
        "__version__": version,
        "Runtime": Runtime,
        "BuilderFlag": BUILDER_FLAGS[version],
        "ProfilingVerbosity": SimpleNamespace(DETAILED="detailed"),
        "LayerInformationFormat": SimpleNamespace(JSON="json"),
        "DeviceType": SimpleNamespace(DLA="DLA", GPU="GPU"),
        "ILogger": Logger,
        "IErrorRecorder": Recorder,
        "IExecutionContext": SimpleNamespace(set_tensor_address=None),
        "Builder": Builder,
        "IBuilderConfig": Config,
        "OnnxParser": Parser,
        "NetworkDefinitionCreationFlag": FLAGS[version],
        "MemoryPoolType": SimpleNamespace(WORKSPACE="workspace"),
    }
    if version != "8.5":
        names["HardwareCompatibilityLevel"] = SimpleNamespace(AMPERE_PLUS="ampere plus")
    if not version.startswith("8."):
        names["IProgressMonitor"] = Monitor
    return names


def _build(behaviour: str, logger: Any, monitor: Any) -> bytes | None:
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
        logger.log(logger.ERROR, behaviour[len("refuse: ") :])
        return None
    steps = 1000 if behaviour == "slow" else 5
    if monitor is not None:
        monitor.phase_start("Building engine", None, steps)
        for step in range(steps):
            time.sleep(0.05 if behaviour == "slow" else 0)
            if not monitor.step_complete("Building engine", step):
                logger.log(logger.ERROR, "IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled ()")
                return None
        monitor.phase_finish("Building engine")
    return b"engine of a fake"
