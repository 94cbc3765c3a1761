"""Detects the driver and the installed libraries: TensorRT, TensorRT-RTX, pycuda, TensorFlow, ONNX Runtime.

All of them are imported, because some problems occur only then: TensorRT, TensorRT-RTX and pycuda in this process,
packages for training in a child process (`imports`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.optional import installed
from trtpoets.core.types import Flavour
from trtpoets.device.doctor.imports import try_imports
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.cuda import load_pycuda
from trtpoets.device.gpu.libcuda import Gpu
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
"""Packages that the doctor reports or that conflict with each other."""

_MODULES = {"tensorflow-cpu": "tensorflow", "onnxruntime-gpu": "onnxruntime"}
"""Module names of packages whose module has another name."""


@dataclass(frozen=True)
class Loaded:
    """The result of importing a library: version and targets (TensorRT-RTX), or the reason why it can't be loaded."""

    version: str = ""
    targets: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Software:
    """The detected software. `packages` maps installed packages of PACKAGES to their versions.

    `driver_cuda` is the newest CUDA version that the driver supports. `tensorflow_gpus` is the number of GPUs that
    TensorFlow sees; None if it is missing or can't be imported. `providers` are those of ONNX Runtime in the order of
    preference. The version of `pycuda` is that of the CUDA it was compiled with. `problems` maps installed modules of
    `imports.NAMES` that can't be imported to the reason.
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
    problems: Mapping[str, str] = field(default_factory=dict)


def software_here(*, training: bool = True) -> Software:
    """Detect the software of this process's Python, and the driver. Raises nothing: failures are in the result.

    Without `training`, the modules of `imports.NAMES` are not imported.
    """
    here = libcuda.detect()
    packages = installed(PACKAGES)
    tried = try_imports(_MODULES.get(package, package) for package in packages if training)
    return Software(
        gpus=here.gpus,
        gpu_problem=here.problem.message if here.problem else "",
        gpu_hint=here.problem.hint if here.problem else "",
        driver=libcuda.driver_version(),
        driver_cuda=here.cuda,
        tensorrt=_tried(lambda: _loaded(load_tensorrt(Flavour.TENSORRT))),
        rtx=_tried(lambda: _loaded(load_tensorrt(Flavour.RTX))),
        pycuda=_tried(lambda: Loaded(".".join(map(str, load_pycuda().get_version())))),
        packages=packages,
        tensorflow_gpus=tried.tensorflow_gpus,
        providers=tried.providers,
        problems=tried.problems,
    )


def _tried(look: Callable[[], Loaded]) -> Loaded:
    try:
        return look()
    except TrtPoetsError as error:
        return Loaded(problem=str(error.__cause__ or error.message))


def _loaded(library: TensorRt) -> Loaded:
    return Loaded(library.version, library.targets)
