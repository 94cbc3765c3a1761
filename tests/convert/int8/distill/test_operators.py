"""Operators compute in TensorFlow what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME

Case = tuple[str, list[np.ndarray], dict[str, Any]]


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


def _pointwise(random: np.random.Generator, kind: str) -> Case:
    return kind, [random.normal(0, 3, size=(2, 4, 3, 5))], {}


def _two(random: np.random.Generator, kind: str) -> Case:
    shape = [(1, 4, 1, 1), (4, 3, 5), (2, 4, 3, 5), (5,), ()][int(random.integers(0, 5))]
    second = np.full(shape, 2.0) if kind == "Pow" else random.uniform(0.5, 2, shape)
    return kind, [random.normal(size=(2, 4, 3, 5)), second], {}


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
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool"), _layer),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "Abs", "Celu", "Elu", "Erf", "Exp", "Gelu"), _pointwise),
    **dict.fromkeys(("HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Sigmoid"), _pointwise),
    **dict.fromkeys(("Softplus", "Softsign", "Tanh", "Reciprocal", "Identity", "Flatten"), _pointwise),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "PRelu"), _two),
    "Gemm": _gemm,
    **dict.fromkeys(("Transpose", "Softmax", "LogSoftmax", "ReduceMean", "Concat", "Reshape", "Pad", "Slice"), _moved),
    **dict.fromkeys(("LayerNormalization", "Clip", "BatchNormalization", "Unsqueeze"), _moved),
}
"""For each operator a function that draws its inputs and attributes."""


def single(case: Case) -> tuple[onnx.ModelProto, np.ndarray]:
    """A network of one operator, and its data. Maps pass a MaxPool of one cell, which leaves their channels last."""
    kind, arrays, attributes = case
    data, *others = (array if array.dtype == np.int64 else np.asarray(array, np.float32) for array in arrays)
    names = [f"constant{number}" for number in range(len(others))]
    constants = [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in zip(names, others, strict=True)]
    nodes, source = [], INPUT_NAME
    if data.ndim == 4:
        nodes.append(helper.make_node("MaxPool", [INPUT_NAME], ["maps"], name="maps", kernel_shape=[1, 1]))
        source = "maps"
    nodes.append(helper.make_node(kind, [source, *names], [OUTPUT_NAME], name="operator", **attributes))
    photos = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", *data.shape[1:]])
    scores = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "single", [photos], [scores], constants)
    opset = {"Gelu": 20, "Mish": 18}.get(kind, 17)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), data


@pytest.mark.parametrize("kind", CASES)
def test_operators_of_random_shapes(kind: str) -> None:
    for seed in range(6):
        model, data = single(CASES[kind](np.random.default_rng(seed), kind))
        (expected,) = open_session(model.SerializeToString()).run(None, {INPUT_NAME: data})
        network = DifferentiableNetwork(model, OUTPUT_NAME, {})
        own = np.asarray(network.run(tensorflow().constant(data)))
        np.testing.assert_allclose(own.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
