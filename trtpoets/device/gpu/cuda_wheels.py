"""Which CUDA the wheels of TensorRT from PyPI have to be for: 12 or 13, by the driver and the GPU."""

from __future__ import annotations

import re
from typing import Sequence

from trtpoets.core.errors import RunFailed
from trtpoets.core.types import Flavour
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu

_DRIVERS = {13: 580, 12: 525}
"""The oldest driver branch for any release of a CUDA: 580 for CUDA 13.x, 525 for CUDA 12.x (docs.nvidia.com/cuda/
cuda-toolkit-release-notes, "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility"). So
an R570 driver, which serves CUDA 12.8, runs no wheel for CUDA 13."""

_LEAST_OF_13 = (7, 5)
"""CUDA 13 has no code for Maxwell, Pascal and Volta (CUDA 13.0 release notes, "Deprecated Architectures"), though the
driver 580 still drives them."""


def cuda_of_driver(cuda: str | None, driver: str | None) -> int | None:
    """The newest major version of CUDA that a driver serves; None where that is not known.

    `cuda` is what it says of itself ("12.8"), which is asked where CUDA starts; `driver` its own version
    ("570.133.20"; a Jetson's, "L4T R36.4.3", tells nothing).
    """
    if cuda:
        return int(cuda.split(".")[0])
    branch = re.match(r"(\d+)\.\d", driver or "")
    if not branch:
        return None
    return next((major for major, least in _DRIVERS.items() if int(branch.group(1)) >= least), min(_DRIVERS) - 1)


def wheels_for(major: int | None, gpus: Sequence[Gpu] = ()) -> int:
    """12 or 13: the CUDA of the wheels to install, where the driver serves `major`; 13 where that is not known."""
    if any(gpu.compute_capability < _LEAST_OF_13 for gpu in gpus):
        return 12
    return 13 if major is None or major >= 13 else 12


def extra_here(flavour: Flavour) -> str:
    """The extra of trtpoets that brings a flavour for the driver of this machine: "tensorrt-cu12".

    Without a driver it is the one that leaves the CUDA open: "tensorrt".
    """
    try:
        gpus, cuda = libcuda.gpus(), libcuda.cuda_version()
    except RunFailed:
        gpus, cuda = (), None
    major = cuda_of_driver(cuda, libcuda.module_version())
    return flavour.value if major is None else f"{flavour.value}-cu{wheels_for(major, gpus)}"
