"""The environment of child processes: the user's, with CUDA lazy loading unless the user has set it otherwise."""

from __future__ import annotations

import os
from typing import Mapping, MutableMapping

MODULE_LOADING = "CUDA_MODULE_LOADING"
"""Environment variable: LAZY loads a kernel when it is first used, EAGER loads all kernels of every opened library.

Lazy loading came with CUDA 11.7 and is the default since 12.2; CUDA before 11.7 ignores the variable
(docs.nvidia.com/cuda/cuda-programming-guide, "Lazy Loading", "Change History"). TensorRT opens cuDNN and cuBLAS, whose
kernels together take about 1 GB.
"""

LAZY = "LAZY"


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child process: this process's variables with lazy loading, then `more`."""
    environment = dict(os.environ)
    load_lazily(environment)
    return {**environment, **(more or {})}


def load_lazily(environment: MutableMapping[str, str]) -> None:
    """Enable CUDA lazy loading unless the user has set the variable. Call it before the process initialises CUDA."""
    environment.setdefault(MODULE_LOADING, LAZY)
