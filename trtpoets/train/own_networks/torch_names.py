"""Gives tensors of PyTorch's files the names and the layout of Keras."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_LAYER = {"weight": "kernel", "bias": "bias"}
_COUNTER = "num_batches_tracked"
"""A variable of batch norms that inference does not need."""


def _same(module: str) -> str:
    return module


@dataclass(frozen=True)
class TorchNames:
    """How PyTorch's files name the variables of a network.

    `head` is the module of the 1,000-class layer, `unused` are modules that the features do not need, `layer_of` maps
    the name of a module to that of the Keras layer.
    """

    head: str
    unused: tuple[str, ...] = ()
    layer_of: Callable[[str], str] = _same

    def keras_tensors(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors of a file with the names and layout of Keras, in their own types.

        Raises KeyError for a variable of an unknown kind.
        """
        norms = {module for module, variable in map(_parts, tensors) if variable == "running_mean"}
        renamed = {}
        for name, value in tensors.items():
            module, variable = _parts(name)
            if variable == _COUNTER or module.split(".")[0] in self.unused:
                continue
            if module == self.head:
                renamed[{"weight": HEAD_KERNEL, "bias": HEAD_BIAS}[variable]] = _laid_out(value)
                continue
            kinds = _NORM if module in norms else _LAYER
            renamed[f"{self.layer_of(module)}/{kinds[variable]}"] = _laid_out(value)
        return renamed


def _parts(name: str) -> tuple[str, str]:
    module, _, variable = name.rpartition(".")
    return module, variable


def _laid_out(value: np.ndarray) -> np.ndarray:
    """Transpose matrices; (out, in, h, w) to (h, w, in, out); depthwise (channels, 1, h, w) to (h, w, channels, 1)."""
    if value.ndim == 4:
        value = value.transpose((2, 3, 0, 1) if value.shape[1] == 1 else (2, 3, 1, 0))
    elif value.ndim == 2:
        value = value.T
    return np.ascontiguousarray(value)


def layer_of_lite(module: str) -> str:
    """Convert `_blocks.3._bn1` to `block_03_depthwise_norm`. Raises KeyError for an unknown module."""
    fixed = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "top", "_bn1": "top_norm"}
    inner = {
        "_expand_conv": "expand",
        "_bn0": "expand_norm",
        "_depthwise_conv": "depthwise",
        "_bn1": "depthwise_norm",
        "_project_conv": "project",
        "_bn2": "project_norm",
    }
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
    return f"block_{int(block[1]):02}_{inner[block[2]]}" if block else fixed[module]


def layer_of_mobilenet_v2(module: str) -> str:
    """Convert `features.4.conv.1.1` to `block_03_depthwise_norm`. Raises KeyError for an unknown module.

    The first block has no expansion, so its names have one part less; `features.1` is block 0, `features.18` the top.
    """
    match = re.fullmatch(r"features\.(\d+)(?:\.conv)?\.(\d)(?:\.(\d))?", module)
    if match is None:
        raise KeyError(module)
    number, place, inner = int(match[1]), int(match[2]), match[3]
    if number in (0, 18):
        return ("stem" if number == 0 else "top") + ("_norm" if place == 1 else "")
    stages = ("depthwise", "project") if number == 1 else ("expand", "depthwise", "project")
    if inner is not None:  # a convolution and its norm, in a pair
        stage, norm = stages[place], inner == "1"
    else:  # the projection and its norm, side by side
        stage, norm = "project", place == len(stages)
    return f"block_{number - 1:02}_{stage}" + ("_norm" if norm else "")
