"""ONNX files of other programs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.errors import raises
from trtpoets.core.errors import RunFailed
from trtpoets.core.original import Answers, Layout, OriginalInput, OriginalOutput
from trtpoets.device.original_onnx import OnnxNetwork

INPUT = OriginalInput("x", "float32", Layout.NCHW)
OUTPUT = OriginalOutput("y", "float32", 3, Answers.LOGITS)


def saved(path: Path, batch: int | str) -> Path:
    """A network whose inner tensor "mean" is the mean of each channel, and whose output "y" is twice that."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("Mul", ["mean", "two"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(np.float32(2), "two")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def values(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (count, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize(("batch", "count"), [("N", 5), (2, 5), (2, 1), ("N", 0)])
def test_any_number_of_photos_is_divided_and_padded(tmp_path: Path, batch: int | str, count: int) -> None:
    fixed = OriginalInput("x", "float32", Layout.NCHW, batch=batch if isinstance(batch, int) else 0)
    with OnnxNetwork(saved(tmp_path / "a.onnx", batch), fixed, OUTPUT, 1) as network:
        rows = network.infer(values(count))
    assert (rows.shape, rows.dtype) == ((count, 3), np.float32)
    np.testing.assert_allclose(rows, 2 * values(count).mean((1, 2)), atol=1e-5)


def test_a_tensor_inside_the_graph_can_be_the_output(tmp_path: Path) -> None:
    inner = OriginalOutput("mean", "float32", 3, Answers.LOGITS)
    with OnnxNetwork(saved(tmp_path / "a.onnx", "N"), INPUT, inner, 1) as network:
        np.testing.assert_allclose(network.infer(values(2)), values(2).mean((1, 2)), atol=1e-5)


def test_errors_of_use_and_of_onnx_runtime(tmp_path: Path) -> None:
    network = OnnxNetwork(saved(tmp_path / "a.onnx", "N"), INPUT, OUTPUT, 1)
    with raises(RunFailed, "TP4079"):
        network.infer(values(1))
    with network, raises(RunFailed, "TP4000"):
        network.infer(values(1)[:, :2])
    with pytest.raises(RunFailed):
        network.infer(values(1))
