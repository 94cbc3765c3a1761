"""The size of the batch is removed from the constants of a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference


@pytest.mark.parametrize("batch", [1, 4])
def test_batch_inside_the_graph_becomes_dynamic(tmp_path: Path, batch: int) -> None:
    """Shuffled channels, tokens with a class token, and attention with the batch in the second axis."""
    net = Foreign()
    weights = net.number(net.random.normal(0, 0.3, (8, 3, 4, 4)))
    x = net.op("Conv", "input", weights, strides=[4, 4])
    x = net.op("Reshape", x, net.constant(np.array([batch, 2, 4, 4, 4])))
    x = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3, 4]), net.constant(np.array([batch, 8, 16])))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    token = net.number(np.broadcast_to(net.random.normal(0, 1, (1, 1, 8)), (batch, 1, 8)))
    x = net.op("Concat", token, x, axis=1)
    x = net.op("Add", x, net.number(net.random.normal(0, 1, (1, 17, 8))))
    x = net.op("Transpose", x, perm=[1, 0, 2])
    heads = [net.op("MatMul", x, net.number(net.random.normal(0, 1, (8, 8)))) for _ in range(3)]
    split = [net.op("Reshape", head, net.constant(np.array([17, batch * 2, 4]))) for head in heads]
    q, k, v = (net.op("Transpose", one, perm=[1, 0, 2]) for one in split)
    weights = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", weights, v), perm=[1, 0, 2])
    flat = net.op("Reshape", mixed, net.constant(np.array([17 * batch, 8])))
    flat = net.op("Gemm", flat, net.number(net.random.normal(0, 1, (8, 8))))
    x = net.op("Transpose", net.op("Reshape", flat, net.constant(np.array([17, batch, 8]))), perm=[1, 0, 2])
    x = net.op("Gather", x, net.constant(np.array(0)), axis=1)
    net.op("Gemm", x, net.number(net.random.normal(0, 1, (8, CLASSES))), outputs=["output"])
    path = saved(net.model([image((batch, 3, SIDE, SIDE))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
