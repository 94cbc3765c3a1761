"""The environment of the processes that we start: the user's, with lazy loading where the user has not chosen."""

from __future__ import annotations

import os
from typing import Mapping, MutableMapping

LOADING = "CUDA_MODULE_LOADING"
"""LAZY loads a kernel when it is first used, EAGER all kernels of every library that is opened.

Lazy loading came with CUDA 11.7 and is the default from 12.2 on; before 11.7 the word is ignored
(docs.nvidia.com/cuda/cuda-programming-guide, "Lazy Loading", "Change History"). TensorRT opens cuDNN and cuBLAS, whose
kernels together take about 1 GB.
"""

LAZY = "LAZY"


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child process. What the user has set stays, and `more` comes on top."""
    environment = dict(os.environ)
    load_lazily(environment)
    return {**environment, **(more or {})}


def load_lazily(environment: MutableMapping[str, str]) -> None:
    """Ask CUDA for lazy loading where the user has not chosen. To be called before the process initialises CUDA."""
    environment.setdefault(LOADING, LAZY)
