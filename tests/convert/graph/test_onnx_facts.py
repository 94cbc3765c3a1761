"""What is known of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny import tiny_onnx, tiny_spec
from trtpoets.convert.graph.onnx_facts import WorkFacts, facts_of_onnx
from trtpoets.core.types import Precision


@pytest.mark.parametrize("precision", list(Precision))
def test_onnx_files(tmp_path: Path, precision: Precision) -> None:
    facts = facts_of_onnx(tiny_onnx(tmp_path / "x.onnx", precision).path)
    assert [(item.name, item.dtype, item.shape) for item in facts.inputs] == [("photos", "uint8", ("N", 16, 16, 3))]
    assert [(item.name, item.dtype, item.shape) for item in facts.outputs] == [("scores", "fp32", ("N", 3))]
    convolution, head = 8 * 14 * 14 * 27, 8 * 3
    assert facts.multiply_adds == convolution + head
    wide = "fp16" if precision is Precision.FP16 else "fp32"
    if precision is Precision.INT8:
        assert facts.work == {"int8": WorkFacts(1, convolution), wide: WorkFacts(1, head)}
        assert (facts.quantizers, facts.dequantizers, facts.calibration) == (2, 2, "c" * 64)
    else:
        assert facts.work == {wide: WorkFacts(2, convolution + head)}
        assert (facts.quantizers, facts.dequantizers, facts.calibration) == (0, 0, None)
    assert facts.parameters == 8 * 27 + 8 * 3 + 2, "weights, scale and offset; not the steps of pairs"
    assert (facts.opsets, facts.precision, facts.spec) == ({"ai.onnx": 17}, precision.value, tiny_spec())
    assert facts.operators["Conv"] == facts.operators["Gemm"] == 1
    assert facts.operators["Cast"] == 2 == max(facts.operators.values())


def test_onnx_files_of_other_programs(tmp_path: Path) -> None:
    """A constant among the inputs, an operator of another domain, a product of unknown size, quantised weights."""
    weights = np.zeros((4, 5), np.int8)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s"], ["wd"]),
            helper.make_node("MatMul", ["x", "wd"], ["a"]),
            helper.make_node("MatMul", ["a", "y"], ["b"]),
            helper.make_node("Frob", ["b"], ["out"], domain="com.example"),
        ],
        "others",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["k", "n"]),
            helper.make_tensor_value_info("w", TensorProto.INT8, [4, 5]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["k", "m"])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(0.5, np.float32), "s")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(tmp_path / "x.onnx"))
    facts = facts_of_onnx(tmp_path / "x.onnx")
    assert [input_.name for input_ in facts.inputs] == ["x", "y"]
    assert facts.inputs[0].shape == (None, 4) and facts.operators["com.example.Frob"] == 1
    assert facts.opsets == {"ai.onnx": 17, "com.example": 2}
    assert facts.work == {"fp32": WorkFacts(2, 20)}, "INT8 weights alone are not INT8 arithmetic"
    assert (facts.sizes_unknown, facts.parameters) == (1, 20)
    assert facts.spec is None and facts.precision is None


def test_a_matmul_with_a_vector(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["out"])],
        "vector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.zeros(4, np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "x.onnx"))
    assert facts_of_onnx(tmp_path / "x.onnx").multiply_adds == 4


def test_weights_in_constant_nodes_and_photos_of_any_size(tmp_path: Path) -> None:
    """As old exporters of Paddle write a network: no initializers, a batch of -1, and any height and width."""
    weights = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "value")
    for height, multiply_adds in (("H", 0), (8, 4 * 6 * 6 * 27)):
        graph = helper.make_graph(
            [
                helper.make_node("Constant", [], ["w"], value=weights),
                helper.make_node("Conv", ["x", "w"], ["y"]),
            ],
            "paddle-onnx",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 3, height, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, 4, None, None])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        facts = facts_of_onnx(tmp_path / "x.onnx")
        assert facts.parameters == 108
        assert facts.multiply_adds == multiply_adds
        assert facts.sizes_unknown == (multiply_adds == 0)
