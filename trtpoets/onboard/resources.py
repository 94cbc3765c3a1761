"""Checks before a build that there is enough disk space and memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Mapping

from trtpoets.core.child_environment import LAZY, MODULE_LOADING
from trtpoets.core.errors import BuildFailed, RunFailed, StorageFailed
from trtpoets.core.files import storage_errors
from trtpoets.core.system_files import available_memory
from trtpoets.core.types import OnnxModel
from trtpoets.device.capability import version_of
from trtpoets.device.gpu import libcuda

_MIB = 1 << 20

LIBRARY_MIB = 400
"""Estimated memory of TensorRT and CUDA without a network. TensorRT-RTX, which is smaller, was measured to need
200 MiB without a GPU; a CUDA context and TensorRT's kernels come on top."""

KERNELS_MIB = 1000
"""Estimated additional memory for all kernels of cuDNN and cuBLAS, if CUDA has no lazy loading."""

_LAZY_SINCE = (11, 7)
"""JetPack 5 has CUDA 11.4."""

_TIMES_IN_MEMORY = 6
"""Memory of a build in sizes of the ONNX file: the file, the parsed network, weights of tactics. TensorRT-RTX needed
six to seven times the file, in each precision of EfficientNet-Lite0."""

_TIMES_ON_DISK = 2
"""An engine is about as large as its ONNX file, and the old one is deleted after the new one is complete."""

_SPARE_ON_DISK_MIB = 32
"""Space for timing caches, cards and a log."""


def require_room(model: OnnxModel, folder: Path, root: Path = Path("/")) -> None:
    """Raise StorageFailed or BuildFailed if disk or memory is too small to build an engine of `model` in `folder`.

    The builder's workspace is not included: with less memory, the builder chooses among fewer tactics.
    """
    size = model.path.stat().st_size
    disk = _TIMES_ON_DISK * size // _MIB + _SPARE_ON_DISK_MIB
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    with storage_errors(existing, "look at"):
        free = shutil.disk_usage(existing).free // _MIB
    if free < disk:
        raise StorageFailed(
            f"{free:,} MiB are free at {existing}, but an engine of {model.path.name} needs {disk:,}",
            hint="free some space: df -h",
            code="TP7032",
        )
    memory = library_mib(_cuda(), os.environ) + _TIMES_IN_MEMORY * size // _MIB
    spare = available_memory(root) // _MIB
    if spare < memory:
        raise BuildFailed(
            f"{spare:,} MiB of memory are free, but building an engine of {model.path.name} needs {memory:,} or more",
            hint="end other programs, or add swap: sudo fallocate -l 4G /swap && sudo chmod 600 /swap && "
            "sudo mkswap /swap && sudo swapon /swap",
            code="TP7033",
        )


def library_mib(cuda: str | None, environment: Mapping[str, str]) -> int:
    """Estimated memory of TensorRT and CUDA without a network, in MiB.

    `cuda` is the CUDA version of the driver, such as "11.4"; None without one. Lazy loading is enabled unless the
    user's `environment` disables it (`child_environment`).
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
