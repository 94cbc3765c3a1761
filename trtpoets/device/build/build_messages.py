"""The messages between a build and its child process: one order to it, and its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Flavour, LayerReport
from trtpoets.device.build.tensorrt_build import Machine
from trtpoets.device.build.tensorrt_config import BuildRequest


@dataclass(frozen=True)
class BuildOrder:
    """What to build, and from which file. Paths, which need not be valid UTF-8, and the timing cache are hex.

    `in_manifest` says that the file is listed in a bundle's manifest, so that it was checked when the bundle was made.
    """

    onnx_path: str
    onnx_sha256: str
    in_manifest: bool
    spec: str
    request: BuildRequest
    timing_cache: str
    out_path: str


@dataclass(frozen=True)
class Order:
    """The order to a child: a `task`, "build" or "probe"."""

    task: str
    flavour: Flavour
    memory_bytes: int
    build: BuildOrder | None = None


@dataclass(frozen=True)
class Failure:
    """A TrtPoetsError of the child, by the name of its class."""

    kind: str
    message: str
    hint: str
    code: str


@dataclass(frozen=True)
class ProbeResult:
    """What a library supports on this machine."""

    machine: Machine
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildResult:
    """The properties of an engine that was built. `timing_cache` is hex; None if the library has no timing cache."""

    seconds: float
    calibration: str | None
    timing_cache: str | None
    typing: str
    layers: LayerReport
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """One line of the child: exactly one field is set. `built` and `done` are the task's result as JSON."""

    progress: float | None = field(default=None, metadata=OPTIONAL)
    built: Any = field(default=None, metadata=OPTIONAL)
    done: Any = field(default=None, metadata=OPTIONAL)
    error: Failure | None = field(default=None, metadata=OPTIONAL)
    bug: str | None = field(default=None, metadata=OPTIONAL)
