"""Chooses between TensorRT's PyPI wheels for CUDA 12 and CUDA 13, by the driver and the GPU."""

from __future__ import annotations

import re
from typing import Sequence

from trtpoets.core.types import Flavour
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu

_DRIVERS = {13: 580, 12: 525}
"""The oldest driver branch for any release of a CUDA: 580 for CUDA 13.x, 525 for CUDA 12.x (docs.nvidia.com/cuda/
cuda-toolkit-release-notes, "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility"). So
an R570 driver, which supports CUDA 12.8, can't run wheels for CUDA 13."""

_MIN_CAPABILITY_OF_13 = (7, 5)
"""Lowest compute capability of CUDA 13: it has no code for Maxwell, Pascal and Volta (CUDA 13.0 release notes,
"Deprecated Architectures"), although driver 580 supports them."""


def cuda_of_driver(cuda: str | None, driver: str | None) -> int | None:
    """The newest major version of CUDA that a driver supports; None if unknown.

    `cuda` is the version that the driver reports ("12.8"), available if CUDA starts; `driver` is its own version
    ("570.133.20"; a Jetson's, "L4T R36.4.3", is not used).
    """
    if cuda:
        return int(cuda.split(".")[0])
    branch = re.match(r"(\d+)\.\d", driver or "")
    if not branch:
        return None
    return next((major for major, least in _DRIVERS.items() if int(branch.group(1)) >= least), min(_DRIVERS) - 1)


def wheels_for(major: int | None, gpus: Sequence[Gpu] = ()) -> int:
    """The CUDA version (12 or 13) of the wheels to install for a driver that supports CUDA `major`; 13 if unknown."""
    if any(gpu.compute_capability < _MIN_CAPABILITY_OF_13 for gpu in gpus):
        return 12
    return 13 if major is None or major >= 13 else 12


def extra_here(flavour: Flavour) -> str:
    """The extra of trtpoets that installs a flavour for the driver of this machine: "tensorrt-cu12".

    Without a driver it is the extra without a CUDA version: "tensorrt".
    """
    here = libcuda.detect()
    major = cuda_of_driver(here.cuda, libcuda.module_version())
    return flavour.value if major is None else f"{flavour.value}-cu{wheels_for(major, here.gpus)}"
