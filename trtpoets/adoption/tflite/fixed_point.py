"""Computes TFLite's HARD_SWISH of 8-bit integers for all 256 inputs, in the 16-bit arithmetic of its kernel.

The interpreter does not leave this operator to XNNPACK. Its result differs by one step from the rounded real value for
some inputs (tensorflow/lite/kernels/internal/reference/hard_swish.h).
"""

from __future__ import annotations

import math

import numpy as np

_FRACTION = 15
"""Fractional bits of 16-bit fixed-point numbers in -1..1."""

_UPSCALED = 7
"""Bits by which inputs are shifted to the left, so that they use 16 bits."""


def hard_swish_table(source: tuple[float, int], target: tuple[float, int], integers: tuple[int, int]) -> np.ndarray:
    """Return `q - zero_point` of the output, int64, for each integer of the input from the smallest to the largest.

    `source` and `target` are scale and zero point of input and output; `integers` the range of their type.
    """
    scale = np.float32(np.float32(1 / (1 << _UPSCALED)) * np.float32(source[0]))
    output_multiplier, output_exponent = _multiplier(float(np.float32(scale / np.float32(target[0]))))
    multiplier, exponent = _multiplier(float(np.float32(scale / np.float32(3 / 32768))))
    inputs = (np.arange(integers[0], integers[1] + 1, dtype=np.int64) - source[1]) << _UPSCALED
    on_output_scale = _high_product(inputs, output_multiplier)
    gate = inputs  # x / 3 in -1..1, and then (x / 3 + 1) / 2
    if exponent > 0:
        gate = _saturated(_high_product(_saturated(gate << (exponent - 1)), multiplier) << 1)
    else:
        gate = _divided_by_power(_high_product(gate, multiplier), -exponent)
    gate = (gate + (1 << _FRACTION)) >> 1
    product = _saturated(np.trunc(gate * on_output_scale / (1 << _FRACTION)).astype(np.int64))
    steps = _divided_by_power(product, -output_exponent)
    return steps.clip(integers[0] - target[1], integers[1] - target[1])


def _multiplier(value: float) -> tuple[int, int]:
    """A positive number as a 16-bit fraction and a power of 2."""
    fraction, exponent = math.frexp(value)
    wide = round(fraction * (1 << 31))
    if wide == 1 << 31:
        wide, exponent = wide // 2, exponent + 1
    return min((wide + (1 << 15)) >> 16, (1 << _FRACTION) - 1), exponent


def _high_product(values: np.ndarray, multiplier: int) -> np.ndarray:
    """The high bits of the doubled product, halves away from zero."""
    product = values * multiplier
    nudge = np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return _saturated(np.trunc((product + nudge) / (1 << _FRACTION)).astype(np.int64))


def _divided_by_power(values: np.ndarray, exponent: int) -> np.ndarray:
    """Divide by a power of 2, halves away from zero."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (values < 0)
    quotient: np.ndarray = (values >> exponent) + ((values & mask) > threshold)
    return quotient


def _saturated(values: np.ndarray) -> np.ndarray:
    limited: np.ndarray = np.clip(values, -(1 << _FRACTION), (1 << _FRACTION) - 1)
    return limited
