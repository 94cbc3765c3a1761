"""What is installed here and loads: drivers, TensorRT of both flavours, pycuda, TensorFlow, ONNX Runtime.

All of them are imported, because their faults show only then: TensorRT, TensorRT-RTX and pycuda in this process, what
training needs in a process of its own (`imports`).
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
"""Packages that say what can be done here, or stand in each other's way."""

_MODULES = {"tensorflow-cpu": "tensorflow", "onnxruntime-gpu": "onnxruntime"}
"""Packages that bring a module of another name."""


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
    where it is absent or does not import. `providers` are those of ONNX Runtime, best first. The version of `pycuda` is
    that of the CUDA that it was built with. `problems` maps modules of `imports.NAMES` that are installed and do not
    import to the reason.
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
    """Look at this process's Python and driver. Raises nothing: what does not load is told.

    Without `training`, the modules of `imports.NAMES` are not tried.
    """
    gpus: tuple[Gpu, ...] = ()
    problem = hint = ""
    driver_cuda = None
    try:
        gpus = libcuda.gpus()
        driver_cuda = libcuda.cuda_version()
    except TrtPoetsError as error:
        problem, hint = error.message, error.hint
    packages = installed(PACKAGES)
    tried = try_imports(_MODULES.get(package, package) for package in packages if training)
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
