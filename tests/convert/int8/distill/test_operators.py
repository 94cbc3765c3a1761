"""Operators without weights, compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.support.single_operators import Case, assert_equal_in_onnx_runtime

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def _pointwise(random: np.random.Generator, kind: str) -> Case:
    return kind, [random.normal(0, 3, size=(2, 4, 3, 5))], {}


def _two(random: np.random.Generator, kind: str) -> Case:
    shape = [(1, 4, 1, 1), (4, 3, 5), (2, 4, 3, 5), (5,), ()][int(random.integers(0, 5))]
    second = np.full(shape, 2.0) if kind == "Pow" else random.uniform(0.5, 2, shape)
    return kind, [random.normal(size=(2, 4, 3, 5)), second], {}


def _whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _moved(random: np.random.Generator, kind: str) -> Case:
    data = random.normal(size=(2, 4, 3, 5))
    axis = int(random.integers(-3, 4)) or 1
    by_kind: dict[str, dict[str, Any]] = {
        "Transpose": {"perm": [0, *(int(number) for number in random.permutation([1, 2, 3]))]},
        "Softmax": {"axis": axis},
        "LogSoftmax": {"axis": axis},
        "ReduceMean": {"axes": [axis], "keepdims": int(random.integers(0, 2))},
        "Concat": {"axis": axis},
        "LayerNormalization": {"axis": -1},
    }
    others = {
        "Reshape": [_whole(0, -1, 5)],
        "Pad": [_whole(0, 1, 0, 2, 0, 0, 1, 0)],
        "Slice": [_whole(0), _whole(2), _whole(axis), _whole(1)],
        "Concat": [random.normal(size=data.shape)],
        "LayerNormalization": [random.normal(size=5), random.normal(size=5)],
        "Clip": [np.array(-0.5), np.array(1.0)],
        "BatchNormalization": [*random.normal(size=(3, 4)), random.uniform(0.5, 2, 4)],
        "Unsqueeze": [_whole(axis)],
    }
    return kind, [data, *others.get(kind, [])], by_kind.get(kind, {})


CASES: dict[str, Callable[[np.random.Generator, str], Case]] = {
    **dict.fromkeys(("Abs", "Celu", "Elu", "Erf", "Exp", "Gelu"), _pointwise),
    **dict.fromkeys(("HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Sigmoid"), _pointwise),
    **dict.fromkeys(("Softplus", "Softsign", "Tanh", "Reciprocal", "Identity", "Flatten"), _pointwise),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "PRelu"), _two),
    **dict.fromkeys(("Transpose", "Softmax", "LogSoftmax", "ReduceMean", "Concat", "Reshape", "Pad", "Slice"), _moved),
    **dict.fromkeys(("LayerNormalization", "Clip", "BatchNormalization", "Unsqueeze"), _moved),
}
"""For each operator a function that draws its inputs and attributes."""


@pytest.mark.parametrize("kind", CASES)
def test_operators_of_random_shapes(kind: str) -> None:
    for seed in range(4):
        assert_equal_in_onnx_runtime(CASES[kind](np.random.default_rng(seed), kind))
