"""GPTQ: rounded weights are multiples of the scale and closer to FP32 than rounding to the nearest."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.convert.int8.test_equalisation import PHOTO
from tests.support.small_networks import Network, residual_network
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.bias_correction import with_shifted_biases
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.convert.int8.gptq import _output_sizes, _windows, gptq, gptq_weights
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.placement import LEVELS, placement_from_onnx
from trtpoets.convert.int8.qdq import channel_scales
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME


def loss(rows: np.ndarray, rounded: np.ndarray, products: np.ndarray) -> float:
    error = rows - rounded
    return float(np.einsum("grd,gde,gre->", error, products, error))


def nearest(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(np.rint(rows / scales[..., None]), -LEVELS, LEVELS) * scales[..., None])


@given(
    groups=st.integers(1, 4),
    channels=st.integers(1, 5),
    depth=st.integers(1, 90),
    rank=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    zero_input=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_rounded_weights_are_multiples_of_the_scale(
    groups: int, channels: int, depth: int, rank: int, seed: int, zero_input: bool
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(0, 1, (groups, channels, depth))
    data = random.normal(0, 1, (groups, rank, depth)) * (0.0 if zero_input else 1.0)
    products = data.transpose(0, 2, 1) @ data
    scales = np.abs(rows).max(axis=2) / LEVELS
    rounded = gptq(rows.copy(), products, scales)
    counts = rounded / scales[..., None]
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-6)
    assert np.abs(counts).max() <= LEVELS + 1e-6
    if zero_input:
        np.testing.assert_allclose(rounded, nearest(rows, scales), err_msg="without input all errors are equal")


def test_weights_of_correlated_inputs_compensate_each_other() -> None:
    random = np.random.default_rng(0)
    common = random.normal(0, 1, (2, 500, 1))
    data = common + 0.2 * random.normal(0, 1, (2, 500, 70))
    rows = random.normal(0, 1, (2, 8, 70))
    products = data.transpose(0, 2, 1) @ data
    scales = np.abs(rows).max(axis=2) / 7
    assert loss(rows, gptq(rows, products, scales), products) < 0.2 * loss(rows, nearest(rows, scales), products)


def by_the_paper(rows: np.ndarray, products: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """GPTQ for one group, column by column, with the inverse of the products of the columns that are left."""
    depth = len(products)
    damped = products + 0.01 * np.diag(products).mean() * np.eye(depth)
    weights, rounded, left = rows.copy(), np.empty_like(rows), list(np.argsort(-np.diag(products), kind="stable"))
    while left:
        column, inverse = left[0], np.linalg.inv(damped[np.ix_(left, left)])
        rounded[:, column] = np.clip(np.rint(weights[:, column] / scales), -LEVELS, LEVELS) * scales
        error = (weights[:, column] - rounded[:, column]) / inverse[0, 0]
        weights[:, left] -= error[:, None] * inverse[0]
        left.pop(0)
    return rounded


def test_weights_are_those_of_the_paper() -> None:
    random = np.random.default_rng(5)
    data = random.normal(0, 1, (300, 90)) @ random.normal(0, 1, (90, 90))
    rows = random.normal(0, 1, (6, 90))
    products, scales = data.T @ data, np.abs(rows).max(axis=1) / LEVELS
    rounded = gptq(rows[None], products[None], scales[None])[0]
    np.testing.assert_allclose(rounded, by_the_paper(rows, products, scales), atol=1e-9)


@pytest.mark.parametrize("pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "group"), [(1, 1, 1, 1), (3, 2, 1, 4), (3, 1, 2, 1), (2, 2, 1, 2)]
)
def test_windows_are_the_inputs_of_a_convolution(pad: str, kernel: int, stride: int, dilation: int, group: int) -> None:
    random = np.random.default_rng(1)
    data = random.normal(0, 1, (2, 4, 9, 11)).astype(np.float32)
    weights = random.normal(0, 1, (8, 4 // group, kernel, kernel)).astype(np.float32)
    shape: dict[str, Any] = {
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
        "kernel_shape": [kernel] * 2,
        "group": group,
    }
    padding: dict[str, Any] = {"pads": [1, 0, 0, 1]} if pad == "NOTSET" else {"auto_pad": pad}
    if pad.startswith("SAME") and dilation > 1:
        pytest.skip("ONNX Runtime has no SAME padding with dilation")
    node = helper.make_node("Conv", ["x", "w"], ["y"], **shape, **padding)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "w", "y")]
    graph = helper.make_graph([node], "one", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (expected,) = open_session(model.SerializeToString()).run(None, {"x": data, "w": weights})
    photos, _, high, wide = expected.shape
    assert _output_sizes(node, data.shape[2:], (kernel, kernel)) == (high, wide)
    windows = _windows(node, data, (kernel, kernel), np.arange(photos * high * wide))
    computed = np.einsum("pgd,grd->pgr", windows.reshape(-1, group, 4 // group * kernel**2), rows_of(weights, group))
    np.testing.assert_allclose(computed.reshape(photos, high, wide, 8).transpose(0, 3, 1, 2), expected, atol=1e-4)


def rows_of(weights: np.ndarray, groups: int) -> np.ndarray:
    return weights.reshape(groups, len(weights) // groups, -1)


def builder_of(proto: object, top: float = 8.0) -> Int8GraphBuilder:
    names = placement_from_onnx(proto).tensors
    return Int8GraphBuilder(proto, Ranges(Method.MINMAX, dict.fromkeys(names, (-top, top)), (), {}, ""))


def test_layers_keep_their_scales_and_have_a_smaller_error() -> None:
    proto = residual_network()
    builder = builder_of(proto)
    quantised, placement = builder.build()
    progress: list[tuple[str, int, int]] = []
    weights = gptq_weights(quantised, placement, PHOTO, lambda *update: progress.append(update))
    assert set(weights) == {weight.tensor for weight in placement.weights}
    assert progress[0][0] == "rounding"
    view = GraphView(proto)
    for name, values in weights.items():
        scales = channel_scales(view.array(name), 0).reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(values / scales, np.rint(values / scales), atol=1e-3)
        assert np.abs(values - view.array(name)).max() > 0
    builder.rounded = weights
    rounded, _ = builder.build()
    onnx.checker.check_model(rounded, full_check=True)
    after = GraphView(rounded)
    for name in weights:
        stem = f"{name}/QuantizeLinear"
        (pair,) = [node for node in rounded.graph.node if node.name == stem]
        np.testing.assert_array_equal(after.array(pair.input[1]), channel_scales(view.array(name), 0))
    # GPTQ reduces the error of a layer on the same INT8 input, apart from shifted means.
    exact, nearest_output, gptq_output = (tensor(graph, "stem:0") for graph in (proto, quantised, rounded))
    nearest_error, gptq_error = (
        np.square((output - exact) - (output - exact).mean(axis=(0, 2, 3), keepdims=True)).mean()
        for output in (nearest_output, gptq_output)
    )
    assert gptq_error < nearest_error


def tensor(proto: object, name: str) -> np.ndarray:
    return np.asarray(open_session(with_outputs(proto, [name]).SerializeToString()).run([name], {INPUT_NAME: PHOTO})[0])


def test_layers_without_bias_and_layers_in_fp32() -> None:
    proto = residual_network()
    for node in proto.graph.node:
        if node.name == "project":
            del node.input[2:]
    builder = builder_of(proto)
    quantised, placement = builder.build({"expand": "a test"})
    before = quantised.SerializeToString()
    weights = gptq_weights(quantised, placement, PHOTO)
    assert quantised.SerializeToString() == before, "the model passed in is not modified"
    assert "expand.weight" not in weights and "project.weight" in weights
    assert with_shifted_biases(quantised, {}).SerializeToString() == before


def test_weights_shared_by_two_convolutions_are_rounded_to_the_nearest() -> None:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem"), "stem_relu")
    once = net.unary("Relu", net.conv(stem, 16, "both"), "once")
    twice = net.op("Conv", [once, "both.weight", "both.bias"], "again", 16, kernel_shape=[3, 3], pads=[1] * 4)
    builder = builder_of(net.model(net.unary("Relu", twice, "last")))
    quantised, placement = builder.build()
    assert set(gptq_weights(quantised, placement, PHOTO)) == {"stem.weight"}
