"""Operators without weights, compared with the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_networks import Network, check, random_values, real_answers, unary_network
from trtpoets.adoption.tflite import network_from_tflite
from trtpoets.adoption.tflite.to_onnx import session_of

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


UNARY: list[tuple[str, str, dict[str, Any]]] = [
    *[(kind, "", {}) for kind in ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "ELU", "EXP", "NEG", "ABS")],
    *[(kind, "", {}) for kind in ("FLOOR", "CEIL", "SQUARE", "HARD_SWISH")],
    ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.2}),
    ("GELU", "GeluOptions", {"approximate": False}),
    ("GELU", "GeluOptions", {"approximate": True}),
    ("SOFTMAX", "SoftmaxOptions", {"beta": 1.5}),
    ("LOG_SOFTMAX", "LogSoftmaxOptions", {}),
    ("L2_NORMALIZATION", "L2NormOptions", {"fusedActivationFunction": 0}),
    (
        "LOCAL_RESPONSE_NORMALIZATION",
        "LocalResponseNormalizationOptions",
        {"radius": 1, "bias": 1.0, "alpha": 0.3, "beta": 0.75},
    ),
]


@pytest.mark.parametrize(("kind", "options", "values"), UNARY, ids=str)
def test_operators_on_one_tensor(tmp_path: Path, kind: str, options: str, values: dict[str, Any]) -> None:
    check(unary_network(kind, options, **values), tmp_path / "net.tflite")


def test_roots_and_logarithm(tmp_path: Path) -> None:
    network = Network()
    current = network.add("EXP", [network.start], (1, 8, 8, 4))
    for kind in ("SQRT", "RSQRT", "LOG"):
        current = network.add(kind, [current], (1, 8, 8, 4))
    check(network.finish(current), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "DIV", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize("other", ["tensor", "channels", "gate"])
def test_operators_on_two_tensors(tmp_path: Path, kind: str, other: str, int8: bool) -> None:
    if int8 and kind not in ("ADD", "SUB", "MUL"):
        pytest.skip("not with these operands in int8")
    network = Network(int8=int8)
    if other == "tensor":
        second = network.tensor((1, 8, 8, 4), 3.0)
        network.convolve(network.start, second)
        second = network.add("EXP", [second], (1, 8, 8, 4)) if kind == "DIV" else second
    elif other == "channels":
        channels = np.array([0.5, -1.5, 2, 0.7], np.float32)
        second = network.file.constant(channels)
        if int8:
            second = network.file.constant(np.rint(channels / 0.02).astype(np.int8), 0.02)
    else:
        second = network.add(
            "MEAN", [network.start, network.constant([1, 2])], (1, 1, 1, 4), "ReducerOptions", 1.0, keepDims=True
        )
    options = f"{kind.title()}Options" if kind in ("ADD", "SUB", "MUL", "DIV") else ""
    target = network.add(kind, [network.start, second], (1, 8, 8, 4), options, 6.0)
    target = network.add("RELU", [target], (1, 8, 8, 4), largest=6.0)
    check(network.finish(target), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_channels_are_split_and_joined(tmp_path: Path, int8: bool) -> None:
    network = Network(int8=int8)
    halves = [network.tensor((1, 8, 8, 2)) for _ in range(2)]
    network.file.operator("SPLIT", [network.constant(3), network.start], halves, "SplitOptions", numSplits=2)
    wide = network.tensor((1, 8, 8, 2))
    network.convolve(halves[0], wide)
    joined = network.add("CONCATENATION", [wide, halves[1]], (1, 8, 8, 4), "ConcatenationOptions", axis=3)
    # The shuffle of ShuffleNet.
    grouped = network.add("RESHAPE", [joined, network.constant([1, 8, 8, 2, 2])], (1, 8, 8, 2, 2))
    turned = network.add("TRANSPOSE", [grouped, network.constant([0, 1, 2, 4, 3])], (1, 8, 8, 2, 2))
    shuffled = network.add("RESHAPE", [turned, network.constant([1, 8, 8, 4])], (1, 8, 8, 4))
    kept = network.add(
        "STRIDED_SLICE",
        [shuffled, *(network.constant(row) for row in ([0, 0, 0, 1], [0, 0, 0, 4], [1, 1, 1, 1]))],
        (1, 8, 8, 3),
        "StridedSliceOptions",
        beginMask=7,
        endMask=7,
    )
    check(network.finish(kept), tmp_path / "net.tflite")


def test_other_moves(tmp_path: Path) -> None:
    network = Network()
    current = network.add("REVERSE_V2", [network.start, network.constant([3])], (1, 8, 8, 4))
    current = network.add("GATHER", [current, network.constant([3, 0, 1])], (1, 8, 8, 3), "GatherOptions", axis=3)
    begin, size = network.constant([0, 1, 0, 0]), network.constant([1, -1, 5, 3])
    current = network.add("SLICE", [current, begin, size], (1, 7, 5, 3))
    amounts = network.constant([[0, 0], [1, 0], [0, 2], [0, 0]])
    current = network.add("MIRROR_PAD", [current, amounts], (1, 8, 7, 3), "MirrorPadOptions", mode=0)
    current = network.add("PADV2", [current, amounts, network.constant(2.5, "float32")], (1, 9, 9, 3))
    slopes = network.constant([[[0.1, 0.2, -0.3]]], "float32")
    current = network.add("PRELU", [current, slopes], (1, 9, 9, 3))
    current = network.add("SUM", [current, network.constant([2])], (1, 9, 3), "ReducerOptions", keepDims=False)
    current = network.add("EXPAND_DIMS", [current, network.constant(1)], (1, 1, 9, 3))
    current = network.add("SQUEEZE", [current], (1, 9, 3), "SqueezeOptions", squeezeDims=[1])
    turned = network.add("TRANSPOSE", [current, network.constant([0, 2, 1])], (1, 3, 9))
    product = network.add("BATCH_MATMUL", [turned, current], (1, 3, 3), "BatchMatMulOptions")
    largest = network.add("REDUCE_MAX", [product, network.constant([2])], (1, 3), "ReducerOptions", keepDims=False)
    check(network.finish(largest), tmp_path / "net.tflite", 1e-3)


@pytest.mark.parametrize(
    ("kind", "options", "values"),
    [
        *[
            (kind, "", {})
            for kind in ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "ELU", "ABS", "EXP", "QUANTIZE")
        ],
        ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.2}),
        ("GELU", "GeluOptions", {"approximate": False}),
        ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}),
    ],
    ids=str,
)
def test_integers_are_those_of_the_interpreter(tmp_path: Path, kind: str, options: str, values: dict[str, Any]) -> None:
    network = Network(int8=True)
    # The only ranges that TFLite allows for these operators.
    scale, zero_point = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(
        kind, (6.2 / 255, 3)
    )
    result = network.file.tensor("result", (1, 8, 8, 4), "int8", scale, zero_point)
    network.file.operator(kind, [network.start], [result], options, **values)
    flat = network.file.tensor("flat", (1, 256), "int8", scale, zero_point)
    network.file.operator("RESHAPE", [result, network.constant([1, 256])], [flat])
    network.file.outputs = [flat]
    path = network.file.write(tmp_path / "net.tflite")
    rounded, _ = network_from_tflite(path)
    np.testing.assert_allclose(
        session_of(rounded)(random_values()), real_answers(path, random_values()), atol=scale / 100
    )
