"""fp32.onnx of ONNX classifiers of other programs gives the scores of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, plain, saved, scores
from tests.adoption.onnx.wrapping import largest_difference, spec_for
from tests.support.errors import raises
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.convert.int8.quantised_files import unsuitable_quantisation
from trtpoets.core.errors import RunFailed
from trtpoets.core.onnx_file import open_session
from trtpoets.core.original import (
    Channels,
    scores_from_output,
    values_from_photos,
)
from trtpoets.device.original_onnx import OnnxNetwork


@pytest.mark.parametrize("batch", [1, "N"])
def test_shapes_that_are_computed_become_constants(tmp_path: Path, batch: Any) -> None:
    """As PyTorch's exporters write x.view(x.shape[0], -1), mean and as_strided."""
    net = Foreign(18)
    x = net.op("ReduceMean", "input", net.constant(np.array([2, 3])), keepdims=1, noop_with_empty_axes=1)
    size = net.op("Gather", net.op("Shape", x, start=0), net.constant(np.array([0])))
    x = net.op("Reshape", x, net.op("Concat", size, net.constant(np.array([-1])), axis=0), allowzero=1)
    if batch == 1:
        x = net.op("Reshape", x, net.constant(np.array([-1])))
        x = net.op("Gather", x, net.constant(np.arange(3).reshape(1, 3)))
    net.op("Gemm", x, net.number(net.random.normal(0, 9, (3, CLASSES))), outputs=["output"])
    path = saved(net.model([image((batch, 3, SIDE, SIDE))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    operators = {node.op_type for node in onnx.load(tmp_path / "fp32.onnx").graph.node}
    assert operators <= {"Cast", "Mul", "Transpose", "ReduceMean", "Reshape", "Gemm", "Softmax"}


def test_names_that_the_wrapped_network_uses_too(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Relu", "photos", outputs=["trtpoets_photos_0:0"])
    net.op("Softmax", net.logits("trtpoets_photos_0:0"), outputs=["scores"])
    path = saved(net.model([image(name="photos")], [scores(name="scores")]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-6


def with_pairs(path: Path, activations: bool = True) -> Path:
    """Write a network with symmetric pairs as ONNX Runtime writes them: INT8 weights and an INT32 bias."""
    net = Foreign(13)
    zero = net.constant(np.int8(0))
    scale = net.number(1 / 127)
    x = "input"
    if activations:
        x = net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale, zero), scale, zero)
    stored = net.constant(net.random.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8))
    scales = net.random.uniform(0.001, 0.004, 8)
    per_channel = [net.number(scales), net.constant(np.zeros(8, np.int8))]
    weights = net.op("DequantizeLinear", stored, *per_channel, axis=0)
    steps = net.constant(net.random.integers(-9000, 9000, 8).astype(np.int32))
    bias = net.op("DequantizeLinear", steps, net.number(scales / 127), net.constant(np.zeros(8, np.int32)), axis=0)
    x = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", net.op("Conv", x, weights, bias))))
    net.op("Gemm", x, net.number(net.random.normal(0, 1, (8, CLASSES))), outputs=["output"])
    return saved(net.model([image()], [scores()]), path)


def scores_of(path: Path) -> np.ndarray:
    photos = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    result: np.ndarray = open_session(path, 1).run(["scores"], {"photos": photos})[0]
    return result


def operators_of(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_symmetric_quantisation_is_kept(tmp_path: Path) -> None:
    """In the form that every TensorRT reads, with float biases. fp32.onnx clips and does not round."""
    foreign = read_onnx_classifier(with_pairs(tmp_path / "a.onnx"))
    rounded, out = tmp_path / "rounded.onnx", tmp_path / "fp32.onnx"
    spec = spec_for(foreign)
    fp32_from_onnx(foreign, spec, out, rounded=rounded)
    photos = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    with OnnxNetwork(foreign.path, foreign.input, foreign.output, threads=1) as network:
        raw = network.infer(values_from_photos(photos, spec.preprocess, Channels.RGB))
    expected = scores_from_output(raw, foreign.output)
    assert np.abs(scores_of(rounded) - expected).max() < 1e-5
    assert 1e-6 < np.abs(scores_of(out) - expected).max() < 0.01
    assert operators_of(rounded).count("QuantizeLinear") == operators_of(rounded).count("DequantizeLinear") == 2
    assert unsuitable_quantisation(onnx.load(rounded)) == ()
    assert not set(operators_of(out)) & {"QuantizeLinear", "DequantizeLinear", "Identity"}
    assert operators_of(out).count("Clip") == 1
    types = {tensor.data_type for tensor in onnx.load(rounded).graph.initializer}
    assert onnx.TensorProto.INT32 not in types


def test_a_file_with_integer_weights_alone_is_a_float_network(tmp_path: Path) -> None:
    path = with_pairs(tmp_path / "a.onnx", activations=False)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    assert not set(operators_of(tmp_path / "fp32.onnx")) & {"QuantizeLinear", "DequantizeLinear", "Clip"}


def test_zero_photos_give_zero_rows(tmp_path: Path) -> None:
    foreign = read_onnx_classifier(plain(tmp_path / "a.onnx"))
    with OnnxNetwork(foreign.path, foreign.input, foreign.output) as network:
        assert network.infer(np.zeros((0, SIDE, SIDE, 3), np.float32)).shape == (0, CLASSES)
    with raises(RunFailed, "TP4079"):
        network.infer(np.zeros((1, SIDE, SIDE, 3), np.float32))
