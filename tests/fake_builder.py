"""TensorRT's builder as a module of Python, for what can't be had here: old versions, crashes, slowness.

`namespace(...)` gives the module's names. Behaviours of the build: "ok", "slow" (listens to the monitor), "deaf" (does
not), "segfault", "exit", "killed", "out of memory", "bug", "noisy", or "refuse: TEXT" with what TensorRT logs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class _Flags(IntEnum):
    EXPLICIT_BATCH = 0


class _StrongFlags(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class _OnlyStrong(IntEnum):
    STRONGLY_TYPED = 0


class _BuilderFlag(IntEnum):
    FP16 = 0
    INT8 = 1


FLAGS = {"8.6": _Flags, "10.3": _StrongFlags, "11.0": _OnlyStrong}

log: dict[str, Any] = {}
"""What the last build was told: "network" flags, builder "flags", "shapes", "workspace"."""


def namespace(version: str, behaviour: str = "ok", pid_file: str = "", fast: bool = True) -> dict[str, Any]:
    class Logger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

        def log(self, severity: int, text: str) -> None:
            raise NotImplementedError

    class Monitor:
        pass

    class Config:
        progress_monitor: Any = None
        builder_optimization_level = 3

        def set_memory_pool_limit(self, pool: str, size: int) -> None:
            log["workspace"] = size

        def set_flag(self, flag: _BuilderFlag) -> None:
            assert version == "8.6", "strongly typed builders take no precision flags"
            log.setdefault("flags", []).append(flag.name)

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
        platform_has_fast_fp16 = platform_has_fast_int8 = fast

        def __init__(self, logger: Any) -> None:
            if behaviour == "no driver":
                raise TypeError("pybind11::init(): factory function returned nullptr")
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
            if pid_file:
                Path(pid_file).write_text(str(os.getpid()))
            return _build(behaviour, self.logger, config.progress_monitor)

    class Parser:
        num_errors = 0

        def __init__(self, network: Network, logger: Any) -> None:
            pass

        def parse(self, content: bytes) -> bool:
            return True

    names = {
        "__version__": version,
        "ILogger": Logger,
        "Builder": Builder,
        "IBuilderConfig": Config,
        "OnnxParser": Parser,
        "NetworkDefinitionCreationFlag": FLAGS[version],
        "MemoryPoolType": SimpleNamespace(WORKSPACE="workspace"),
    }
    if version == "8.6":
        names["BuilderFlag"] = _BuilderFlag
    else:
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
