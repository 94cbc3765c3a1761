"""Layers, pools, reductions and padding, compared with the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tflite_networks import Network, check, kinds
from trtpoets.adoption.tflite import network_from_tflite
from trtpoets.core.errors import ConversionFailed

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("block", [2, 3])
def test_dilated_convolutions_in_blocks(tmp_path: Path, block: int, int8: bool) -> None:
    """As old converters write them: parts of the photo become photos, and return after the convolution."""
    network = Network(int8=int8)
    size, extra = network.constant([block, block]), -(8 + 2 * block) % block
    paddings = network.constant([[block, block + extra]] * 2)
    side = (8 + 2 * block + extra) // block
    parts = network.add("SPACE_TO_BATCH_ND", [network.start, size, paddings], (block * block, side, side, 4))
    inner = network.tensor((block * block, side - 2, side - 2, 4))
    network.convolve(parts, inner, padding=1)
    crops = network.constant([[0, extra]] * 2)
    whole = network.add("BATCH_TO_SPACE_ND", [inner, size, crops], (1, 8, 8, 4))
    _, smooth = check(network.finish(whole), tmp_path / "net.tflite")
    assert kinds(smooth)["Conv"] == 2


def test_blocks_without_a_convolution_are_refused(tmp_path: Path) -> None:
    network = Network()
    size, none = network.constant([2, 2]), network.constant([[0, 0], [0, 0]])
    parts = network.add("SPACE_TO_BATCH_ND", [network.start, size, none], (4, 4, 4, 4))
    current = network.add("ABS", [parts], (4, 4, 4, 4))
    whole = network.add("BATCH_TO_SPACE_ND", [current, size, none], (1, 8, 8, 4))
    network.finish(whole).write(tmp_path / "net.tflite")
    with raises(ConversionFailed, "TP9598", "SPACE_TO_BATCH_ND"):
        network_from_tflite(tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize(
    "options",
    [
        {"strideH": 2, "strideW": 2},
        {"strideH": 2, "strideW": 2, "padding": 1},
        {"dilationHFactor": 2, "dilationWFactor": 2},
        {"fusedActivationFunction": 1},
        {"fusedActivationFunction": 2},
        {"fusedActivationFunction": 3},
        {"per_group": 2},
    ],
    ids=str,
)
def test_convolutions(tmp_path: Path, options: dict[str, int], int8: bool) -> None:
    network = Network(int8=int8)
    side = 8 if "strideH" not in options else 3 if options.get("padding") else 4
    target = network.tensor((1, side, side, 6))
    network.convolve(network.start, target, **options)
    check(network.finish(target), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolution_with_padding_before_it(tmp_path: Path, multiplier: int, int8: bool) -> None:
    network = Network(int8=int8)
    amounts = network.constant([[0, 0], [0, 1], [0, 1], [0, 0]])
    padded = network.add("PAD", [network.start, amounts], (1, 9, 9, 4), "PadOptions")
    kernel = network.weights((1, 3, 3, 4 * multiplier), 3)
    target = network.add(
        "DEPTHWISE_CONV_2D",
        [padded, kernel, network.bias(padded, kernel, 4 * multiplier)],
        (1, 4, 4, 4 * multiplier),
        "DepthwiseConv2DOptions",
        padding=1,
        strideH=2,
        strideW=2,
        depthMultiplier=multiplier,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    _, smooth = check(network.finish(target), tmp_path / "net.tflite")
    assert "Pad" not in kinds(smooth)


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("window", "stride", "padding", "side"), [(3, 2, 0, 4), (2, 2, 1, 4), (8, 1, 1, 1)])
def test_pools(tmp_path: Path, kind: str, window: int, stride: int, padding: int, side: int, int8: bool) -> None:
    network = Network(int8=int8)
    pooled = network.add(
        kind,
        [network.start],
        (1, side, side, 4),
        "Pool2DOptions",
        filterHeight=window,
        filterWidth=window,
        strideH=stride,
        strideW=stride,
        padding=padding,
    )
    flat = network.add("RESHAPE", [pooled, network.constant([1, -1])], (1, side * side * 4))
    check(network.finish(flat), tmp_path / "net.tflite")


def test_float16_weights(tmp_path: Path) -> None:
    network = Network()
    half = network.file.constant(np.random.default_rng(0).normal(0, 0.3, (5, 4)).astype(np.float16))
    weights = network.file.tensor("weights", (5, 4))
    network.file.operator("DEQUANTIZE", [half], [weights])
    mean = network.add("MEAN", [network.start, network.constant([1, 2])], (1, 4), "ReducerOptions", keepDims=False)
    current = network.add("FULLY_CONNECTED", [mean, weights], (1, 5), "FullyConnectedOptions")
    check(network.finish(current), tmp_path / "net.tflite")


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_float_layers_with_weights_of_8_bits(tmp_path: Path, kind: str) -> None:
    """The interpreter quantises their inputs by the range of each photo."""
    network = Network()
    shape, axis = {
        "CONV_2D": ((4, 3, 3, 4), 0),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, 4), 3),
        "FULLY_CONNECTED": ((5, 256), 0),
    }[kind]
    network.int8 = True
    kernel = network.weights(shape, axis)
    network.int8 = False
    bias = network.constant(np.linspace(-1, 1, shape[0] if axis == 0 else 4), "float32")
    if kind == "FULLY_CONNECTED":
        flat = network.add("RESHAPE", [network.start, network.constant([1, 256])], (1, 256))
        asymmetric: dict[str, Any] = {"asymmetricQuantizeInputs": True}
        current = network.add(kind, [flat, kernel, bias], (1, 5), "FullyConnectedOptions", **asymmetric)
    else:
        sizes: dict[str, Any] = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        options = "Conv2DOptions"
        if kind == "DEPTHWISE_CONV_2D":
            sizes, options = {**sizes, "depthMultiplier": 1}, "DepthwiseConv2DOptions"
        current = network.add(kind, [network.start, kernel, bias], (1, 8, 8, 4), options, **sizes)
    rounded, smooth = check(network.finish(current), tmp_path / "net.tflite")
    assert rounded is not smooth
    assert not {"Round", "ReduceMin"} & kinds(smooth).keys()
