"""What is installed here and loads: drivers, TensorRT of both flavours, pycuda, TensorFlow, ONNX Runtime.

TensorRT, TensorRT-RTX, pycuda and ONNX Runtime are imported for real, since their trouble shows only then. TensorFlow
takes seconds to import: it is looked up among the installed packages, and asked in a process of its own whether it sees
the GPU, only where there is one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.optional import installed, needs, onnxruntime
from trtpoets.core.spec import Flavour
from trtpoets.device import libcuda
from trtpoets.device.cuda import load_pycuda
from trtpoets.device.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt

PACKAGES = (
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu12-bindings",
    "tensorrt-cu12-libs",
    "tensorrt-cu13",
    "tensorrt-cu13-bindings",
    "tensorrt-cu13-libs",
    "tensorrt-rtx",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "pycuda",
    "cuda-bindings",
    "tensorflow",
    "tensorflow-cpu",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
)
"""Packages that say what can be done here, or stand in each other's way."""

_ASK_TENSORFLOW = "import json, tensorflow as tf; print(json.dumps(len(tf.config.list_physical_devices('GPU'))))"
_TENSORFLOW_SECONDS = 90


@dataclass(frozen=True)
class Loaded:
    """A library that was imported: its version and targets (TensorRT-RTX), or the reason why it does not load."""

    version: str = ""
    targets: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Software:
    """What is installed and loads. `packages` maps those of PACKAGES that are installed to their versions.

    `driver_cuda` is the newest CUDA that the driver serves. `tensorflow_gpus` is how many GPUs TensorFlow sees; None
    where there was no need to ask, or it did not answer. `providers` are those of ONNX Runtime, best first. The
    version of `pycuda` is that of the CUDA that it was built with.
    """

    gpus: tuple[Gpu, ...]
    gpu_problem: str
    gpu_hint: str
    driver: str | None
    driver_cuda: str | None
    tensorrt: Loaded
    rtx: Loaded
    pycuda: Loaded
    packages: Mapping[str, str]
    tensorflow_gpus: int | None
    providers: tuple[str, ...]


def software_here() -> Software:
    """Look at this process's Python and driver. Raises nothing: what does not load is told."""
    gpus: tuple[Gpu, ...] = ()
    problem = hint = ""
    driver_cuda = None
    try:
        gpus = libcuda.gpus()
        driver_cuda = libcuda.cuda_version()
    except TrtPoetsError as error:
        problem, hint = error.message, error.hint
    packages = installed(PACKAGES)
    return Software(
        gpus=gpus,
        gpu_problem=problem,
        gpu_hint=hint,
        driver=libcuda.driver_version(),
        driver_cuda=driver_cuda,
        tensorrt=_tried(lambda: _loaded(load_tensorrt(Flavour.TENSORRT))),
        rtx=_tried(lambda: _loaded(load_tensorrt(Flavour.RTX))),
        pycuda=_tried(lambda: Loaded(".".join(map(str, load_pycuda().get_version())))),
        packages=packages,
        tensorflow_gpus=_tensorflow_gpus() if gpus and "tensorflow" in packages else None,
        providers=_providers() if packages.keys() & {"onnxruntime", "onnxruntime-gpu"} else (),
    )


def _tried(look: Callable[[], Loaded]) -> Loaded:
    try:
        return look()
    except TrtPoetsError as error:
        return Loaded(problem=str(error.__cause__ or error.message))


def _loaded(library: TensorRt) -> Loaded:
    return Loaded(library.version, library.targets)


def _tensorflow_gpus() -> int | None:
    try:
        told = subprocess.run(
            [sys.executable, "-c", _ASK_TENSORFLOW],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TENSORFLOW_SECONDS,
            check=True,
        ).stdout.splitlines()
        return int(json.loads(told[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _providers() -> tuple[str, ...]:
    try:
        with needs("train"):
            runtime = onnxruntime()
    except TrtPoetsError:
        return ()
    providers: Any = runtime.get_available_providers()
    return tuple(providers)
