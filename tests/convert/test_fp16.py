"""FP16 versions of operators whose results have a type that no input decides."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from trtpoets.convert.fp16 import with_fp16


def test_a_tensor_of_ones_made_from_a_shape_stays_fp32() -> None:
    # TensorFlow's tf.where and tf.ones_like: adopted networks with sigmoids contain them, to make scores sum to 1.
    one = numpy_helper.from_array(np.array([1.0], np.float32))
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], name="relu"),
        helper.make_node("Shape", ["positive"], ["shape"], name="shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], name="ones", value=one),
        helper.make_node("Add", ["positive", "ones"], ["y"], name="add"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "ones", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    half = with_fp16(onnx.shape_inference.infer_shapes(model), ())
    onnx.checker.check_model(half, full_check=True)
    assert next(node for node in half.graph.node if node.name == "add").input[1] == "ones.fp16"
    session = ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.full((2, 3), 2, np.float32)})
    assert np.array_equal(result, np.full((2, 3), 3, np.float32))
