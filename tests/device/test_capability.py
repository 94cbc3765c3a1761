"""What a GPU computes fast, and what a version of TensorRT reads."""

from __future__ import annotations

import pytest

from trtpoets.core.types import Flavour, Precision
from trtpoets.device.capability import fast_types_of, fastest, least_capability, opset_ceiling, why_not


@pytest.mark.parametrize(
    ("capability", "fp16", "int8", "tensor_cores", "bf16", "fp8"),
    [
        ((5, 0), False, False, False, False, False),
        ((5, 3), True, False, False, False, False),
        ((6, 0), True, False, False, False, False),
        ((6, 1), False, True, False, False, False),
        ((6, 2), True, False, False, False, False),
        ((7, 0), True, True, False, False, False),
        ((7, 2), True, True, True, False, False),
        ((7, 5), True, True, True, False, False),
        ((8, 0), True, True, True, True, False),
        ((8, 7), True, True, True, True, False),
        ((8, 9), True, True, True, True, True),
        ((9, 0), True, True, True, True, True),
        ((11, 0), True, True, True, True, True),
        ((12, 0), True, True, True, True, True),
    ],
)
def test_what_a_capability_computes_fast(
    capability: tuple[int, int], fp16: bool, int8: bool, tensor_cores: bool, bf16: bool, fp8: bool
) -> None:
    arithmetic = fast_types_of(capability)
    assert (arithmetic.fp16, arithmetic.int8, arithmetic.int8_tensor_cores, arithmetic.bf16, arithmetic.fp8) == (
        *(fp16, int8, tensor_cores),
        *(bf16, fp8),
    )
    assert arithmetic.precisions == tuple(p for p in Precision if not why_not(capability, p))
    assert fastest(capability) is (Precision.FP16 if fp16 else Precision.FP32)


@pytest.mark.parametrize(
    ("version", "opset", "least"),
    [
        ("8.2.1", 13, (5, 0)),
        ("8.4.1", 17, (5, 0)),
        ("8.6.1", 17, (5, 0)),
        ("10.3.0", 20, (7, 0)),
        ("10.4.0", 20, (7, 0)),
        ("10.5.0", 20, (7, 5)),
        ("10.9.0.34", 22, (7, 5)),
        ("10.13.3.9", 24, (7, 5)),
        ("11.4.0.106", 24, (7, 5)),
        ("7.1.3", None, None),
        ("", None, None),
    ],
)
def test_what_a_version_reads(version: str, opset: int | None, least: tuple[int, int] | None) -> None:
    assert opset_ceiling(Flavour.TENSORRT, version) == opset
    assert least_capability(Flavour.TENSORRT, version) == least
    assert opset_ceiling(Flavour.RTX, "1.7.1.116") is None and least_capability(Flavour.RTX, "1.7.1") == (7, 5)
