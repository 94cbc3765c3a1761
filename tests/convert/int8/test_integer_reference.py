"""The integer graph that stands for TensorRT's form: exact, independent of the session, and close to the Q/DQ graph."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.support.quantised_networks import with_pairs
from tests.support.small_networks import SIZE, Network, residual_network
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.exact_products import signed_weights_are_exact
from trtpoets.convert.int8.integer_reference import integer_reference
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.convert.int8.qdq import channel_scales
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME

PHOTOS = np.random.default_rng(3).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)

LEVELS = onnxruntime.GraphOptimizationLevel


def quantised(model: Any) -> Any:
    """Return a network with Q/DQ pairs at its placement, with ranges measured on PHOTOS, slightly clipped."""
    placement = placement_from_onnx(model)
    names = list(placement.tensors)
    arrays = open_session(with_outputs(model, names).SerializeToString()).run(names, {INPUT_NAME: PHOTOS})
    tops = {name: max(0.9 * float(np.abs(array).max()), 1e-3) for name, array in zip(names, arrays, strict=True)}
    for group in placement.same_scale:
        widest = max(tops[name] for name in group if name in tops)
        tops.update((name, widest) for name in group if name in tops)
    return with_pairs(model, placement, tops)


def scores(model: Any, level: Any = LEVELS.ORT_ENABLE_ALL, threads: int = 1, batch: int = 8) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads, options.log_severity_level = level, threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    parts = [session.run(["scores"], {INPUT_NAME: PHOTOS[i : i + batch]})[0] for i in range(0, len(PHOTOS), batch)]
    return np.concatenate(parts)


def mixed_network() -> Any:
    """A network with every form of an integer layer and layers that stay in float."""
    net = Network(5)
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    bounds = [net.constant("low", np.float32(0)), net.constant("high", np.float32(6))]
    deep = net.op("Clip", [net.conv(stem, 16, "depthwise", group=16), *bounds], "depthwise_relu6", 16)
    project = net.conv(deep, 16, "project", kernel=1)
    wide = net.unary("Relu", net.conv(net.add(project, net.conv(deep, 16, "side"), "join"), 32, "wide"), "wide_relu")
    pooled = net.pool("MaxPool", wide, "max_pool")
    both = net.concat([net.conv(pooled, 16, "left", kernel=1), net.conv(pooled, 16, "right")], "concat")
    return net.model(net.unary("Relu", net.conv(both, 32, "top", kernel=1, stride=2), "top_relu"))


class MatMulIntegerToFloat(OpRun):
    """The operator of ONNX Runtime, as its documentation defines it."""

    op_domain = "com.microsoft"

    def _run(self, a: Any, b: Any, scale: Any, scales: Any, zero: Any, zeros: Any, bias: Any = 0) -> tuple[Any]:
        sums = (a.astype(np.int64) - int(zero)) @ (b.astype(np.int64) - int(zeros))
        return ((sums.astype(np.float32) * (scale * scales) + bias).astype(np.float32),)


@pytest.mark.parametrize("network", [residual_network, mixed_network])
def test_scores_are_the_same_bits_in_every_session(network: Callable[[], Any]) -> None:
    reference = integer_reference(quantised(network()))
    onnx.checker.check_model(reference, full_check=True)
    expected = scores(reference)
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        for threads, batch in ((1, 1), (2, 8)):
            np.testing.assert_array_equal(scores(reference, level, threads, batch), expected)


def test_a_layer_kept_in_float_does_not_depend_on_the_session_either() -> None:
    model = residual_network()
    placement = placement_from_onnx(model, {"depthwise": "a test", "back": "a test"})
    reference = integer_reference(with_pairs(model, placement, dict.fromkeys(placement.tensors, 4.0)))
    assert sum(node.op_type == "Conv" for node in reference.graph.node) == 2
    expected = scores(reference)
    np.testing.assert_array_equal(scores(reference, LEVELS.ORT_DISABLE_ALL, 2, 1), expected)
    np.testing.assert_array_equal(scores(reference, LEVELS.ORT_ENABLE_BASIC), expected)


@pytest.mark.parametrize("network", [residual_network, mixed_network])
def test_both_types_of_weights_give_the_same_bits(network: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, results = quantised(network()), []
    for signed in (True, False):
        monkeypatch.setattr("trtpoets.convert.int8.integer_reference.signed_weights_are_exact", lambda: signed)  # noqa: B023
        reference = integer_reference(model)
        types = {constant.data_type for constant in reference.graph.initializer if constant.name.endswith(".kernel")}
        assert (TensorProto.INT8 in types) is signed
        results.append(scores(reference))
    if signed_weights_are_exact():
        np.testing.assert_array_equal(results[0], results[1])


def test_it_agrees_with_the_evaluator_of_onnx() -> None:
    """An implementation in NumPy of the same operators, which shares no kernel with ONNX Runtime."""
    reference = integer_reference(quantised(residual_network()))
    reference.opset_import[0].version = 19  # the evaluator has no older DequantizeLinear
    evaluator = ReferenceEvaluator(reference, new_ops=[MatMulIntegerToFloat])
    (exact,) = evaluator.run(["scores"], {INPUT_NAME: PHOTOS})
    np.testing.assert_allclose(scores(reference), np.asarray(exact), atol=2e-3)


def test_a_convolution_is_what_integers_give() -> None:
    """In NumPy with int64: sum * scale + bias, division, half to even, clip."""
    model = residual_network()
    placement = placement_from_onnx(model)
    pairs = with_pairs(model, placement, dict.fromkeys(placement.tensors, 3.0))
    reference = integer_reference(pairs)
    view, scale = GraphView(model), np.float32(3.0 / 127)
    inner = [f"{name}/QuantizeLinear:0.uint8" for name in ("stem_relu", "depthwise_relu")]
    copy = type(reference)()
    copy.CopyFrom(reference)
    copy.graph.output.extend(helper.make_tensor_value_info(name, 2, None) for name in inner)
    source, output = open_session(copy.SerializeToString()).run(inner, {INPUT_NAME: PHOTOS})
    weights = view.array("depthwise.weight")
    scales = channel_scales(weights, 0)
    integers = np.rint(weights / scales.reshape(-1, 1, 1, 1)).astype(np.int64)
    padded = np.pad(source.astype(np.int64) - 128, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,cij->nchw", windows, integers[:, 0])
    bias = view.array("depthwise.bias").astype(np.float64)
    exact = (sums * (scale * scales).reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)) / scale
    expected = np.clip(np.rint(np.maximum(exact, 0)), -128, 127)
    different = expected != output.astype(np.int64) - 128
    assert np.abs(expected - output + 128).max() <= 1
    assert different.mean() < 0.01, "only where the rounded bias passes a half"


def test_the_sums_do_not_saturate() -> None:
    """The largest products of all: 127 * 127 in each of 9 * 16 taps; sums in 16 bits would saturate at the second."""
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem"), "stem_relu")
    top = net.conv(stem, 16, "top")
    model = net.model(net.conv(top, 16, "last"))
    for tensor in model.graph.initializer:
        if tensor.name in ("stem.weight", "top.weight", "stem.bias"):
            values = np.full(tensor.dims, 1.0 if tensor.name != "stem.weight" else 0.0, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    placement = placement_from_onnx(model)
    magnitudes = {name: 1.0 if name == "stem_relu:0" else 200.0 for name in placement.tensors}
    reference = integer_reference(with_pairs(model, placement, magnitudes))
    copy = type(reference)()
    copy.CopyFrom(reference)
    copy.graph.output.append(helper.make_tensor_value_info("top/QuantizeLinear:0.uint8", 2, None))
    (values,) = open_session(copy.SerializeToString()).run(["top/QuantizeLinear:0.uint8"], {INPUT_NAME: PHOTOS})
    bias = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "top.bias"))
    inside = values[:, :, 2:-2, 2:-2].astype(np.int64) - 128
    expected = np.rint((9 * 16 + bias) * 127 / 200).reshape(1, -1, 1, 1)
    assert np.abs(inside - expected).max() <= 1


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_common_structures_agree_with_their_pairs(name: str) -> None:
    pairs = quantised(TOPOLOGIES[name]())
    reference = integer_reference(pairs)
    onnx.checker.check_model(reference, full_check=True)
    names = {node.op_type for node in reference.graph.node}
    assert names & {"QLinearConv", "ConvInteger", "MatMulIntegerToFloat"}
    difference = np.abs(scores(reference) - open_session(pairs.SerializeToString()).run(None, {INPUT_NAME: PHOTOS})[0])
    assert difference.mean() < 0.01


def test_each_layer_gets_the_operator_of_its_kind() -> None:
    operators = Counter(node.op_type for node in integer_reference(quantised(mixed_network())).graph.node)
    # "project" ends in an Add and has a kernel of 1 x 1; the kernel of "side" is larger
    assert operators["MatMulIntegerToFloat"] + operators["ConvInteger"] + operators["QLinearConv"] >= 7
    assert operators["ReduceSum"] <= 1 and operators["Gemm"] == 1


def test_a_network_without_pairs_is_returned_unchanged() -> None:
    model = residual_network()
    assert integer_reference(model) is model


def test_a_large_unit_keeps_the_bias_in_float() -> None:
    """Weights so large that one unit of the sum is several steps of the output: a QLinearConv would round the bias."""
    model = residual_network()
    placement = placement_from_onnx(model)
    magnitudes = {name: 0.01 if name == "depthwise_relu:0" else 100.0 for name in placement.tensors}
    reference = integer_reference(with_pairs(model, placement, magnitudes))
    operators = {node.name: node.op_type for node in reference.graph.node}
    assert operators["depthwise.sums"] == "ConvInteger" and "depthwise.requantised" not in operators


def test_weights_that_are_stored_as_integers_give_the_same() -> None:
    """As files that another program quantised have them: DequantizeLinear of an int8 constant, without a pair."""
    pairs = quantised(residual_network())
    expected = scores(integer_reference(pairs))
    constants = {tensor.name: tensor for tensor in pairs.graph.initializer}
    stored = [node for node in pairs.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in constants]
    for node in stored:
        exact, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
        integers = np.clip(np.rint(exact / scale.reshape(-1, *[1] * (exact.ndim - 1))), -128, 127).astype(np.int8)
        pairs.graph.initializer.append(numpy_helper.from_array(integers, node.output[0]))
        pairs.graph.node.remove(node)
    assert stored
    np.testing.assert_array_equal(scores(integer_reference(pairs)), expected)


def test_asymmetric_pairs_stay_as_they_are() -> None:
    """Another form than TensorRT's: its arithmetic is left to ONNX Runtime."""
    pairs = quantised(residual_network())
    for tensor in pairs.graph.initializer:
        if tensor.name.endswith(".zero_point") and not tensor.dims:
            tensor.CopyFrom(numpy_helper.from_array(np.int8(3), tensor.name))
    operators = Counter(node.op_type for node in integer_reference(pairs).graph.node)
    assert operators["QLinearConv"] == operators["MatMulIntegerToFloat"] == operators["ConvInteger"] == 0
    assert operators["QuantizeLinear"] > 0
