"""Whether there is room for a build: disk and memory, told before TensorRT begins."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Mapping

from trtpoets.core.child_environment import LAZY, MODULE_LOADING
from trtpoets.core.errors import BuildFailed, RunFailed, StorageFailed
from trtpoets.core.files import storage_errors
from trtpoets.core.types import OnnxModel
from trtpoets.device.build.build_child import memory_to_use
from trtpoets.device.capability import version_of
from trtpoets.device.gpu import libcuda

_MIB = 1 << 20

LIBRARY_MIB = 400
"""What TensorRT and CUDA take before they see a network: an estimate. TensorRT-RTX, the smaller one, was seen to take
200 MiB without a GPU; a CUDA context and TensorRT's kernels come on top."""

KERNELS_MIB = 1000
"""What all kernels of cuDNN and cuBLAS take besides, where CUDA can't load them one by one: an estimate."""

_LAZY_SINCE = (11, 7)
"""JetPack 5 has CUDA 11.4."""

_TIMES_IN_MEMORY = 6
"""A network while it is built: the file, the parsed network, and the weights of its layers' versions. TensorRT-RTX took
six to seven times the file, in each precision of EfficientNet-Lite0."""

_TIMES_ON_DISK = 2
"""An engine is about as large as its ONNX file, and the old one goes when the new one is whole."""

_SPARE_ON_DISK_MIB = 32
"""Timing caches, cards, a log."""


def require_room(model: OnnxModel, folder: Path, root: Path = Path("/")) -> None:
    """Raise StorageFailed or BuildFailed where there is no room to build an engine of `model` in `folder`.

    Memory that the builder may use as its workspace is not counted: with less of it, it chooses among fewer kernels.
    """
    size = model.path.stat().st_size
    disk = _TIMES_ON_DISK * size // _MIB + _SPARE_ON_DISK_MIB
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    with storage_errors(there, "look at"):
        free = shutil.disk_usage(there).free // _MIB
    if free < disk:
        raise StorageFailed(
            f"{free:,} MiB are free at {there}, and an engine of {model.path.name} needs {disk:,}",
            hint="free some space: df -h",
            code="TP7032",
        )
    memory = library_mib(_cuda(), os.environ) + _TIMES_IN_MEMORY * size // _MIB
    spare = memory_to_use(root) // _MIB
    if spare < memory:
        raise BuildFailed(
            f"{spare:,} MiB of memory are free, and building an engine of {model.path.name} takes {memory:,} or more",
            hint="end other programs, or add swap: sudo fallocate -l 4G /swap && sudo chmod 600 /swap && "
            "sudo mkswap /swap && sudo swapon /swap",
            code="TP7033",
        )


def library_mib(cuda: str | None, environment: Mapping[str, str]) -> int:
    """MiB that TensorRT and CUDA take before they see a network.

    `cuda` is the driver's, as "11.4", None without one. Lazy loading is what child processes are asked for, unless the
    user's `environment` says otherwise (`child_environment`).
    """
    lazy = cuda is None or version_of(cuda) >= _LAZY_SINCE
    if lazy and environment.get(MODULE_LOADING, LAZY).upper() != "EAGER":
        return LIBRARY_MIB
    return LIBRARY_MIB + KERNELS_MIB


def _cuda() -> str | None:
    try:
        return libcuda.cuda_version()
    except RunFailed:  # TensorRT-RTX builds without a GPU
        return None
