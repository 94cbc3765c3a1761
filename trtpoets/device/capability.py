"""Tables of the precisions that GPUs compute fast, and of the opsets and GPUs that TensorRT versions support.

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
"""First compute capability with dp4a (four INT8 products in one instruction); without it INT8 is as slow as FP32."""

_TENSOR_INT8 = (7, 2)
"""First compute capability with tensor cores for INT8; 7.0 has them only for FP16."""

_SLOW_FP16 = ((5, 0), (5, 2), (6, 1))
"""Compute capabilities without FP16, or with 1/64 of FP32's throughput."""

_WITHOUT_DP4A = ((6, 2),)

_OPSETS = (((11, 5), 25), ((10, 13), 24), ((10, 9), 22), ((10, 0), 20), ((8, 4), 17), ((8, 0), 13))
"""(first TensorRT version, newest ONNX opset its parser supports); its API does not report that."""

_MIN_CAPABILITY = (((10, 5), (7, 5)), ((10, 0), (7, 0)), ((8, 0), (5, 0)))
"""(first TensorRT version, oldest compute capability that it builds for)."""


@dataclass(frozen=True)
class FastTypes:
    """The types that a GPU computes faster than FP32, so that an engine of that precision is worth building.

    `int8` by dp4a or tensor cores, `int8_tensor_cores` only by tensor cores; `fp16` with at least twice FP32's
    throughput. `bf16` and `fp8` are information only: trtpoets writes no such networks.
    """

    fp16: bool
    int8: bool
    int8_tensor_cores: bool
    bf16: bool
    fp8: bool

    def has(self, precision: Precision) -> bool:
        """Whether engines of this precision are worth building."""
        return {Precision.FP32: True, Precision.FP16: self.fp16, Precision.INT8: self.int8}[precision]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions worth building, in the order of Precision."""
        return tuple(precision for precision in Precision if self.has(precision))


def fast_types_of(capability: Capability) -> FastTypes:
    """The FastTypes of a GPU with this compute capability."""
    return FastTypes(
        fp16=capability >= (5, 3) and capability not in _SLOW_FP16,
        int8=capability >= _DP4A and capability not in _WITHOUT_DP4A,
        int8_tensor_cores=capability >= _TENSOR_INT8,
        bf16=capability >= (8, 0),
        fp8=capability >= (8, 9),
    )


def why_not(capability: Capability, precision: Precision) -> str:
    """Why engines of a precision are not faster on a GPU of this compute capability; empty if they are."""
    if fast_types_of(capability).has(precision):
        return ""
    number = "{}.{}".format(*capability)
    if precision is Precision.INT8:
        return (
            f"compute capability {number} has no fast INT8: dp4a exists since 6.1 (except 6.2), "
            "tensor cores for INT8 since 7.2"
        )
    return f"compute capability {number} is not faster in FP16 than in FP32 (5.3, 6.0, 6.2, 7.0 and later are)"


def fastest(capability: Capability) -> Precision:
    """The fastest float precision: FP16, or FP32 if FP16 is not faster."""
    return Precision.FP16 if fast_types_of(capability).fp16 else Precision.FP32


def version_of(text: str) -> tuple[int, int]:
    """Major and minor number of a version: (10, 3) for "10.3.0"; (0, 0) if `text` is not a version."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def opset_ceiling(flavour: Flavour, version: str) -> int | None:
    """The newest ONNX opset that a version of TensorRT's parser is documented to support; None if unknown.

    Parsers do not refuse newer opsets but misread them: the axes of a ReduceMean are an input since opset 18, and the
    parser of 8.5 and 8.6, which reads only the attribute, reduces all axes (onnx-tensorrt, reduceTensor). So files with
    a newer opset are not built. TensorRT-RTX 1.7 accepted all opsets that were tried.
    """
    if flavour is Flavour.RTX:
        return None
    return next((opset for since, opset in _OPSETS if version_of(version) >= since), None)


def least_capability(flavour: Flavour, version: str) -> Capability | None:
    """The lowest compute capability that a version of TensorRT is documented to support; None if unknown."""
    if flavour is Flavour.RTX:
        return (7, 5)
    return next((least for since, least in _MIN_CAPABILITY if version_of(version) >= since), None)
