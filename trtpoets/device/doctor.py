"""What this machine can do, and the line that mends what it can't."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Callable

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.images import usable_cores
from trtpoets.core.spec import Flavour
from trtpoets.device import libcuda
from trtpoets.device.cuda import load_pycuda
from trtpoets.device.engine import flavour_available
from trtpoets.device.tensorrt_api import load_tensorrt


class State(str, Enum):
    """How things stand with one need."""

    READY = "ready"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found or why not, what it is good for, and what mends it."""

    what: str
    state: State
    found: str
    serves: str
    hint: str


def doctor() -> tuple[Finding, ...]:
    """Look at this machine. Raises nothing: what is missing is a finding.

    TensorRT, TensorRT-RTX and pycuda are imported for real, since their trouble shows only then. TensorFlow and ONNX
    Runtime are looked up among the installed packages: importing them takes seconds.
    """
    return (
        Finding("Python", State.READY, f"{platform.python_version()} ({platform.python_implementation()})", "", ""),
        Finding("system", State.READY, f"{_system()}, {platform.machine()}", "", ""),
        Finding("CPU", State.READY, _cpu(), "training, ONNX Runtime", ""),
        _tried("NVIDIA GPU", _gpus, "running engines; building TensorRT engines"),
        _tried("TensorRT", lambda: _library(Flavour.TENSORRT), "engines for the GPU of this machine"),
        _tried("TensorRT-RTX", lambda: _library(Flavour.RTX), "engines for RTX GPUs, built without one"),
        _tried("pycuda", lambda: str(load_pycuda().get_version()), "running engines"),
        _installed("TensorFlow", ("tensorflow", "tensorflow-cpu"), "train", "training, export, the baseline"),
        _installed("tf2onnx", ("tf2onnx",), "train", "export"),
        _installed("ONNX", ("onnx",), "train", "checking ONNX files"),
        _installed("ONNX Runtime", ("onnxruntime", "onnxruntime-gpu"), "train", "bottlenecks, quantising, ONNX scores"),
        _builds(),
    )


def _tried(what: str, look: Callable[[], str], serves: str) -> Finding:
    try:
        return Finding(what, State.READY, look(), serves, "")
    except TrtPoetsError as error:
        return Finding(what, State.MISSING, error.message, serves, error.hint)


def _gpus() -> str:
    found = libcuda.gpus()
    names = ", ".join(f"{gpu.name} ({gpu.target}, {gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in found)
    return f"{names}; driver {libcuda.driver_version() or 'unknown'}, CUDA {libcuda.cuda_version()}"


def _library(flavour: Flavour) -> str:
    library = load_tensorrt(flavour)
    return f"{library.version}, targets {', '.join(library.targets)}" if library.targets else library.version


def _installed(what: str, packages: tuple[str, ...], extra: str, serves: str) -> Finding:
    for package in packages:
        try:
            return Finding(what, State.READY, metadata.version(package), serves, "")
        except metadata.PackageNotFoundError:
            continue
    return Finding(what, State.MISSING, f"{packages[0]} is not installed", serves, f"pip install 'trtpoets[{extra}]'")


def _builds() -> Finding:
    reasons = {flavour: flavour_available(flavour) for flavour in Flavour}
    able = [flavour.value for flavour, reason in reasons.items() if reason is None]
    if able:
        return Finding("engines", State.READY, f"can be built here: {', '.join(able)}", "trtpoets build", "")
    said = "; ".join(str(reason) for reason in reasons.values())
    return Finding("engines", State.MISSING, said, "trtpoets build", "pip install 'trtpoets[rtx]'")


def _system() -> str:
    release = Path("/etc/os-release")
    if release.is_file():
        found = re.search(r'^PRETTY_NAME="?([^"\n]+)', release.read_text(), re.MULTILINE)
        if found:
            return f"{found.group(1)}, {platform.system()} {platform.release()}"
    return f"{platform.system()} {platform.release()}"


def _cpu() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        name = found.group(1) if found else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {usable_cores()} cores to use, {memory:.0f} GiB of memory"
