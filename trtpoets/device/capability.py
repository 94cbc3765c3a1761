"""What a GPU can compute, by its compute capability, and what a version of TensorRT can read: the one table of it.

Sources: the hardware and precision tables of NVIDIA's TensorRT support matrices (8.x: 6.1 has INT8 and no FP16; 5.3 and
6.2 have FP16 and no INT8; 10.1: compute capability 7.0 and later; TensorRT-RTX 1.5), the release notes of 10.5 ("Volta
support (GPUs with compute capability 7.0) has been removed starting with TensorRT 10.5"), the arithmetic throughput
table of the CUDA programming guide, and docs/operators.md of onnx-tensorrt for the operator sets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

from trtpoets.core.types import Flavour, Precision

Capability = Tuple[int, int]
"""A compute capability: (8, 6) for 8.6."""

_DP4A = (6, 1)
"""Four INT8 products in one instruction, from here on; without it INT8 is no faster than FP32."""

_TENSOR_INT8 = (7, 2)
"""Tensor cores multiply INT8 from here on; 7.0 has tensor cores for FP16 only."""

_SLOW_FP16 = ((5, 0), (5, 2), (6, 1))
"""FP16 at a 64th of FP32's speed, or not at all."""

_WITHOUT_DP4A = ((6, 2),)

_OPSETS = (((11, 5), 25), ((10, 13), 24), ((10, 9), 22), ((10, 0), 20), ((8, 4), 17), ((8, 0), 13))
"""Since which TensorRT its parser reads which operator set: nothing in its interface tells."""

_LEAST = (((10, 5), (7, 5)), ((10, 0), (7, 0)), ((8, 0), (5, 0)))
"""Since which TensorRT which compute capability is the oldest that it builds for."""


@dataclass(frozen=True)
class Arithmetic:
    """What a GPU computes fast: only then is an engine of that precision worth building.

    `int8` by dp4a or tensor cores, `int8_tensor_cores` by the latter; `fp16` at twice FP32's speed or more. BF16 and
    FP8 are told for completeness: trtpoets writes neither.
    """

    fp16: bool
    int8: bool
    int8_tensor_cores: bool
    bf16: bool
    fp8: bool

    def has(self, precision: Precision) -> bool:
        """Whether engines of this precision pay."""
        return {Precision.FP32: True, Precision.FP16: self.fp16, Precision.INT8: self.int8}[precision]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those that pay, in the order of Precision."""
        return tuple(each for each in Precision if self.has(each))


def arithmetic_of(capability: Capability) -> Arithmetic:
    """What a GPU of this compute capability computes fast."""
    return Arithmetic(
        fp16=capability >= (5, 3) and capability not in _SLOW_FP16,
        int8=capability >= _DP4A and capability not in _WITHOUT_DP4A,
        int8_tensor_cores=capability >= _TENSOR_INT8,
        bf16=capability >= (8, 0),
        fp8=capability >= (8, 9),
    )


def why_not(capability: Capability, precision: Precision) -> str:
    """Why engines of a precision don't pay on a GPU of this compute capability; empty when they do."""
    if arithmetic_of(capability).has(precision):
        return ""
    number = "{}.{}".format(*capability)
    if precision is Precision.INT8:
        return (
            f"compute capability {number} has no INT8 arithmetic: dp4a begins at 6.1 (6.2 lacks it), "
            "tensor cores for INT8 at 7.2"
        )
    return f"compute capability {number} is no faster in FP16 than in FP32 (5.3, 6.0, 6.2, and 7.0 on are)"


def fastest(capability: Capability) -> Precision:
    """The narrowest float precision that pays: what to build instead of one that does not."""
    return Precision.FP16 if arithmetic_of(capability).fp16 else Precision.FP32


def version_of(text: str) -> tuple[int, int]:
    """Major and minor of a version: (10, 3) of "10.3.0". Text that is none counts as (0, 0)."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def opset_ceiling(flavour: Flavour, version: str) -> int | None:
    """The newest ONNX operator set that a TensorRT's parser is documented to read; None when nothing is known.

    Parsers do not refuse newer ones, they misread them: the axes of a ReduceMean are an input from set 18 on, and the
    parser of 8.5 and 8.6, which looks for the attribute alone, reduces all axes (onnx-tensorrt, reduceTensor). So files
    beyond the ceiling are not built. TensorRT-RTX 1.7 took every operator set that it was given.
    """
    if flavour is Flavour.RTX:
        return None
    return next((opset for since, opset in _OPSETS if version_of(version) >= since), None)


def least_capability(flavour: Flavour, version: str) -> Capability | None:
    """The oldest GPUs that a TensorRT is documented to build for; None when nothing is known."""
    if flavour is Flavour.RTX:
        return (7, 5)
    return next((least for since, least in _LEAST if version_of(version) >= since), None)
