"""The CPU form of INT8: what ONNX Runtime fuses, and that every kernel computes exact integers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.small_networks import Network, residual_network
from tests.support.topologies import TOPOLOGIES, Topology
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.convert.int8.cpu_placement import PAIRED_LEVELS, largest_pair
from trtpoets.convert.int8.fidelity import features_of, sqnr_db
from trtpoets.convert.int8.forms import CPU
from trtpoets.convert.int8.fused import float_islands, fused_graph, integer_layers
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.core.onnx_file import open_session, unwanted_optimizers
from trtpoets.core.types import INPUT_NAME

PHOTOS = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

NETWORKS: dict[str, Callable[[], object]] = {**TOPOLOGIES, "mobilenet_v2": residual_network}


def values_of(model: object, tensors: list[str], photos: np.ndarray = PHOTOS, *, as_written: bool = False) -> list[Any]:
    session = open_session(with_outputs(model, tensors).SerializeToString(), as_written=as_written)
    return list(session.run(tensors, {INPUT_NAME: photos}))


def cpu_file(model: object, photos: np.ndarray = PHOTOS) -> onnx.ModelProto:
    """The CPU form of a network with the lowest and highest values on some photos as ranges."""
    prepared = CPU.prepared_from_onnx(model)
    names = list(CPU.place(GraphView(prepared), {}, ()).tensors)
    arrays = values_of(prepared, names, photos)
    spans = {name: (float(array.min()), float(array.max())) for name, array in zip(names, arrays, strict=True)}
    version, _ = Int8GraphBuilder(model, Ranges(Method.MINMAX, spans, (), {}, ""), CPU).build()
    file: onnx.ModelProto = finished(CPU.lowered(version).graph, 17, CPU.metadata)
    return file


def features(model: object, *, as_written: bool = False) -> np.ndarray:
    """What the last layer reads, or the logits if it is a convolution."""
    view = GraphView(model)
    name = features_of(view) if view.weighted() else "flat:0"
    return np.asarray(values_of(model, [name], as_written=as_written)[0])


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilenet_v2", 6),
        ("vgg", 6),
        ("resnet", 12),
        ("resnet_v2", 10),
        ("resnext", 8),
        ("densenet", 13),
        ("squeezenet", 11),
        ("shufflenet", 8),
        ("inception", 10),
        ("xception", 12),
        ("efficientnet", 12),
        ("regnet", 12),
        ("nasnet", 17),
        ("leaky_relu", 4),
        ("mobilenet_v3", 13),
        ("mobilenet_v3_clip", 13),
    ],
)
def test_onnx_runtime_computes_everything_between_layers_in_integers(name: str, layers: int) -> None:
    model = NETWORKS[name]()
    file = cpu_file(model)
    fused = fused_graph(file.SerializeToString())
    assert float_islands(fused) == ()
    assert integer_layers(fused) == layers
    exact, integers = features(model), features(file)
    in_float = features(file, as_written=True)
    assert sqnr_db(exact, integers) > 28
    assert sqnr_db(in_float, integers) > 60, "the integers are those of the Q/DQ graph, but for ties in rounding"


@pytest.mark.parametrize("name", ["convnext", "vit", "alexnet", "prelu"])
def test_operators_without_integer_kernel_stay_in_float_and_are_named(name: str) -> None:
    model = NETWORKS[name]()
    file = cpu_file(model)
    operators = {operator for _, operator in float_islands(fused_graph(file.SerializeToString()))}
    assert operators & {"LayerNormalization", "LRN", "PRelu"}
    assert sqnr_db(features(model), features(file)) > 28


def test_the_fusion_of_the_cpu_form_is_not_disabled() -> None:
    net = Topology()
    stem = net.op("Conv", [net.features, net.normal("stem.weight", (8, 3, 3, 3), 27)], "stem", 8, kernel_shape=[3, 3])
    top = net.op("Conv", [net.relu(stem, "stem_relu"), net.normal("w", (8, 8, 1, 1), 8)], "top", 8, kernel_shape=[1, 1])
    file = cpu_file(net.model(net.relu(top, "top_relu")))
    assert unwanted_optimizers(file.SerializeToString()) == ["WeightBiasQuantization"]
    del file.metadata_props[:]
    assert len(unwanted_optimizers(file.SerializeToString())) == 2, (
        "TensorRT's form: no bias, so that it would be fused"
    )


def test_constants_are_integers() -> None:
    file = cpu_file(residual_network())
    view = GraphView(file)
    assert max(view.array(name).size for name in view.constants if view.is_float(name)) <= 32 * 3, "only the head's"
    for node in view.nodes:
        if node.op_type == "Conv":
            weights, bias = (view.array(view.producer[name].input[0]) for name in node.input[1:3])
            assert (weights.dtype, bias.dtype) == (np.int8, np.int32)
            depthwise = node.name == "depthwise"
            assert np.abs(weights).max() == (127 if depthwise else PAIRED_LEVELS)
            assert depthwise or largest_pair(weights, 0) <= 128
    assert not [node for node in view.nodes if node.op_type in ("Relu", "Cast", "Mul")]


@pytest.mark.parametrize(
    "layer",
    [
        {"out": 32, "kernel": 1},
        {"out": 33, "kernel": 3},
        {"out": 16, "kernel": 3, "stride": 2},
        {"out": 24, "kernel": 3, "group": 24},
        {"out": 24, "kernel": 5, "group": 24, "stride": 2},
        {"out": 24, "kernel": 1, "group": 24},
        {"out": 24, "kernel": 3, "group": 2},
        {"out": 48, "kernel": 3, "group": 24},
    ],
    ids=str,
)
def test_kernels_are_exact_for_the_largest_pixels_and_weights(layer: dict[str, int]) -> None:
    """The sums of two products are as large as they can be, and exact integer arithmetic gives the same."""
    net = Network()
    source = net.conv(net.features, 24, "stem", kernel=1)
    net.constants[-2].CopyFrom(onnx.numpy_helper.from_array(np.zeros((24, 3, 1, 1), np.float32), "stem.weight"))
    net.constants[-1].CopyFrom(onnx.numpy_helper.from_array(np.arange(1, 25, dtype=np.float32), "stem.bias"))
    source = net.unary("Relu", source, "stem_relu")
    wide = net.conv(source, layer["out"], "wide", layer["kernel"], layer.get("stride", 1), layer.get("group", 1))
    weights = np.asarray(onnx.numpy_helper.to_array(net.constants[-2]))
    signs = np.sign(weights)
    signs[: layer["out"] // 2] = 1.0  # half of the channels have sums as large as possible, in both directions
    signs[0] = -1.0
    net.constants[-2].CopyFrom(onnx.numpy_helper.from_array(signs.astype(np.float32), "wide.weight"))
    file = cpu_file(net.model(net.unary("Identity", wide, "end")))
    view = GraphView(file)
    conv = next(node for node in view.nodes if node.name == "wide")
    data, result = f"{conv.input[0]}", "wide/DequantizeLinear:0"
    levels, outputs = values_of(file, [data, result])
    scale, zero = (view.array(name) for name in view.producer[data].input[1:3])
    integers = np.rint(levels / scale).astype(np.int64)
    assert integers.max() + int(zero) == 255
    kernel, bias = (view.array(view.producer[name].input[0]).astype(np.int64) for name in conv.input[1:3])
    assert np.abs(kernel).max() == (127 if layer.get("group") == layer["out"] else 64)
    products = exact_convolution(integers, kernel, layer) + bias.reshape(1, -1, 1, 1)
    units = view.array(view.producer[conv.input[2]].input[1]).reshape(1, -1, 1, 1)
    out_scale, out_zero = (view.array(name) for name in view.producer[result].input[1:3])
    expected = np.clip(np.rint(products * units.astype(np.float64) / out_scale) + int(out_zero), 0, 255)
    actual = np.rint(outputs / out_scale) + int(out_zero)
    assert np.abs(actual - expected).max() <= 1, "ties may be rounded in float32"
    assert (actual == expected).mean() > 0.99


def sums_of_two_products(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums of a kernel that adds two products in 16 bits and saturates: vpmaddubsw, of AVX2 and AVX-512."""
    pairs = (values[:, None].astype(np.int64) * weights[None]).reshape(len(values), len(weights), -1, 2).sum(axis=3)
    return np.asarray(np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=2))


def sums_without_sign(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums of a kernel for signed values: Arm's smull and smlal add two products in 16 bits, and wrap around.

    The values are moved to -128 to 127 before, and 128 times the sum of the weights is added after.
    """
    signed = values.astype(np.int64) - 128
    pairs = (signed[:, None] * weights[None]).reshape(len(values), len(weights), -1, 2).sum(axis=3)
    return np.asarray(pairs.astype(np.int16).sum(axis=2, dtype=np.int64) + 128 * weights.sum(axis=1, dtype=np.int64))


@pytest.mark.parametrize("sums", [sums_of_two_products, sums_without_sign])
def test_sums_in_16_bits_would_be_exact_on_processors_that_are_not_here(
    sums: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    """By arithmetic, whatever this processor has: x86 without VNNI, and Arm without dot products.

    Kernels with VNNI (vpdpbusd) and Arm's dot products (udot, sdot) add in 32 bits, which hold 2**31 / (255 * 127) >
    66,000 products.
    """
    random = np.random.default_rng(0)
    view = GraphView(cpu_file(residual_network()))
    layers = 0
    for node in view.nodes:
        if node.op_type != "Conv" or node.name == "depthwise":  # depthwise kernels widen each product to 32 bits
            continue
        layers += 1
        weights = view.array(view.producer[node.input[1]].input[0]).astype(np.int64)
        weights = weights.reshape(len(weights), -1)
        weights = np.pad(weights, ((0, 0), (0, weights.shape[1] % 2)))
        for _ in range(4):  # kernels order the products of a sum in their own ways
            order = random.permutation(weights.shape[1])
            values = np.concatenate(
                [random.integers(0, 256, (8, len(order))), 255 * random.integers(0, 2, (8, len(order)))]
            )
            values = np.concatenate([values, 255 * (weights[:, order] > 0), 255 * (weights[:, order] < 0)])
            exact = values @ weights[:, order].T
            np.testing.assert_array_equal(sums(values, weights[:, order]), exact)
    assert layers == 5


def test_weights_of_8_bits_would_saturate() -> None:
    """The simulation of vpmaddubsw finds what the weights of 7 bits avoid."""
    values, weights = np.full((1, 2), 255), np.full((1, 2), 127)
    assert sums_of_two_products(values, weights) == 2**15 - 1
    assert sums_of_two_products(values, np.full((1, 2), PAIRED_LEVELS)) == 2 * 255 * PAIRED_LEVELS


def exact_convolution(data: np.ndarray, weights: np.ndarray, layer: dict[str, int]) -> np.ndarray:
    """The convolution of int64 (N, C, H, W), with zeros around the map, in int64."""
    kernel, stride, groups = layer["kernel"], layer.get("stride", 1), layer.get("group", 1)
    pad = kernel // 2
    padded = np.pad(data, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    photos, channels, high, wide = windows.shape[:4]
    grouped = windows.reshape(photos, groups, channels // groups, high, wide, kernel, kernel)
    kernels = weights.reshape(groups, len(weights) // groups, *weights.shape[1:])
    return np.asarray(np.einsum("ngchwij,gocij->ngohw", grouped, kernels).reshape(photos, len(weights), high, wide))


def test_a_bias_that_32_bits_cannot_hold_gets_larger_units() -> None:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem"), "stem_relu")
    top = net.conv(stem, 16, "top")
    weights = np.asarray(onnx.numpy_helper.to_array(net.constants[-2])).copy()
    weights[3] = 1e-12
    net.constants[-2].CopyFrom(onnx.numpy_helper.from_array(weights, "top.weight"))
    net.constants[-1].CopyFrom(onnx.numpy_helper.from_array(np.full(16, 5.0, np.float32), "top.bias"))
    model = net.model(net.unary("Relu", top, "top_relu"))
    file = cpu_file(model)
    (exact,), (integers,) = values_of(model, ["flat:0"]), values_of(file, ["flat:0"])
    assert integers[:, 3] == pytest.approx(exact[:, 3], rel=0.01)


def test_photos_with_a_mean_and_a_scale_per_channel() -> None:
    """Without padding they are read as integers; with padding the preprocessing stays, because the padding would be
    another colour."""
    for pads, integers in (([0] * 4, True), ([1] * 4, False)):
        net = Network()
        for name, value in (("scale.1", [0.017, 0.018, 0.0175]), ("offset.1", [-2.1, -2.0, -1.8])):
            net.constants[["scale.1", "offset.1"].index(name)].CopyFrom(
                onnx.numpy_helper.from_array(np.array(value, np.float32), name)
            )
        model = net.model(net.unary("Relu", net.conv(net.features, 16, "stem"), "stem_relu"))
        for node in model.graph.node:
            if node.name == "stem":
                next(entry for entry in node.attribute if entry.name == "pads").ints[:] = pads
        prepared = CPU.prepared_from_onnx(model)
        assert any(node.op_type == "DequantizeLinear" for node in prepared.graph.node) == integers
        assert sqnr_db(values_of(model, ["flat:0"])[0], values_of(prepared, ["flat:0"])[0]) > 100
        file = cpu_file(model)
        assert float_islands(fused_graph(file.SerializeToString())) == ()
        assert sqnr_db(values_of(model, ["flat:0"])[0], values_of(file, ["flat:0"])[0]) > 30
