"""Nodes that an older opset lacks are replaced by nodes that compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from trtpoets.core.onnx_file import open_session


def newer_nodes(kind: str) -> tuple[list[Any], list[Any]]:
    """Nodes of opset 18 to 23 from x, (2, 8, 4, 4), to y, and their constants."""
    node, constant = helper.make_node, onnx.numpy_helper.from_array
    factors = [constant(np.linspace(0.5, 2, 8, dtype=np.float32), name) for name in ("scale", "bias")]
    axes = [constant(np.array([2, 3], np.int64), "axes")]
    sizes = [constant(np.array([1, 1, 2, 2], np.float32), "sizes")]
    return {
        "Gelu": ([node("Gelu", ["x"], ["y"], name="n")], []),
        "Gelu tanh": ([node("Gelu", ["x"], ["y"], name="n", approximate="tanh")], []),
        "HardSwish": ([node("HardSwish", ["x"], ["y"], name="n")], []),
        "Mish": ([node("Mish", ["x"], ["y"], name="n")], []),
        "GroupNormalization": (
            [node("GroupNormalization", ["x", "scale", "bias"], ["y"], name="n", num_groups=2)],
            factors,
        ),
        "ReduceMean": ([node("ReduceMean", ["x", "axes"], ["y"], name="n", keepdims=1)], axes),
        "Resize": (
            [node("Resize", ["x", "", "sizes"], ["y"], name="n", mode="nearest", antialias=0)],
            sizes,
        ),
        "Split": (
            [
                node("Split", ["x"], ["a", "b", "c"], name="s", axis=1, num_outputs=3),
                node("Relu", ["c"], ["y"], name="n"),
            ],
            [],
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["Gelu", "Gelu tanh", "HardSwish", "Mish", "GroupNormalization", "ReduceMean", "Resize", "Split"]
)
def test_operators_of_newer_opsets_are_rewritten(kind: str) -> None:
    from trtpoets.convert.opset_rewrites import rewrite_nodes

    nodes, constants = newer_nodes(kind)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2, 8, 4, 4])], [value("y", 1, list("abcd"))], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    values = {"x": np.random.default_rng(0).normal(0, 2, (2, 8, 4, 4)).astype(np.float32)}
    expected = open_session(model.SerializeToString()).run(None, values)[0]
    rewrite_nodes(model, 13)
    model.opset_import[0].version = 13
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(open_session(model.SerializeToString()).run(None, values)[0], expected, atol=2e-5)
