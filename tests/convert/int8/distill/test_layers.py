"""Convolutions, pools and products of random shapes, compared with ONNX Runtime."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.support.single_operators import Case, assert_equal_in_onnx_runtime

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def _layer(random: np.random.Generator, kind: str) -> Case:
    """A convolution or pool of a random shape, kernel, stride and padding."""
    high, wide, channels = (int(size) for size in random.integers(5, 12, 3))
    kernel = [int(size) for size in random.integers(1, 4, 2)]
    stride = int(random.integers(1, 3))
    attributes: dict[str, Any] = {"strides": [stride, stride]}
    if random.random() < 0.3 and min(kernel) >= stride:
        attributes["auto_pad"] = str(random.choice(["SAME_UPPER", "SAME_LOWER"]))
    else:
        attributes["pads"] = [int(random.integers(0, size)) for size in kernel * 2]
    inputs = []
    if kind == "Conv":
        group = int(random.choice([1, 2, channels * 2]))
        channels *= 2
        out = group * int(random.integers(1, 4))
        if stride == 1 and "pads" in attributes:
            attributes["dilations"] = [int(random.integers(1, 3))] * 2
        attributes["group"] = group
        inputs = [random.normal(size=(out, channels // group, *kernel)), random.normal(size=out)]
    else:
        attributes["kernel_shape"] = kernel
        if "pads" in attributes:
            attributes["ceil_mode"] = int(random.integers(0, 2))
        if kind == "AveragePool" and not attributes.get("ceil_mode"):
            attributes["count_include_pad"] = int(random.integers(0, 2))
    return kind, [random.normal(size=(2, channels, high, wide)), *inputs], attributes


def _gemm(random: np.random.Generator, kind: str) -> Case:
    rows, depth, columns = (int(size) for size in random.integers(1, 6, 3))
    across = int(random.integers(0, 2))
    weights = random.normal(size=(columns, depth) if across else (depth, columns))
    return (
        kind,
        [random.normal(size=(rows, depth)), weights, random.normal(size=columns)],
        {
            "transB": across,
            "alpha": 0.5,
            "beta": 2.0,
        },
    )


@pytest.mark.parametrize("kind", ["Conv", "MaxPool", "AveragePool"])
def test_layers_of_random_shapes(kind: str) -> None:
    for seed in range(6):
        assert_equal_in_onnx_runtime(_layer(np.random.default_rng(seed), kind))


def test_products() -> None:
    for seed in range(4):
        assert_equal_in_onnx_runtime(_gemm(np.random.default_rng(seed), "Gemm"))


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(kind: str) -> None:
    assert_equal_in_onnx_runtime((kind, [np.random.default_rng(0).normal(size=(2, 4, 3, 5))], {}))
