"""Networks of one operator, computed by ONNX Runtime and by the differentiable network."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME

Case = tuple[str, list[np.ndarray], dict[str, Any]]
"""An operator, its inputs (the first is computed, the others are constants) and its attributes."""


def single(case: Case) -> tuple[onnx.ModelProto, np.ndarray]:
    """A network of one operator, and its data. Maps pass a MaxPool of one cell, which leaves their channels last."""
    kind, arrays, attributes = case
    data, *others = (array if array.dtype == np.int64 else np.asarray(array, np.float32) for array in arrays)
    names = [f"constant{number}" for number in range(len(others))]
    constants = [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in zip(names, others, strict=True)]
    nodes, source = [], INPUT_NAME
    if data.ndim == 4:
        nodes.append(helper.make_node("MaxPool", [INPUT_NAME], ["maps"], name="maps", kernel_shape=[1, 1]))
        source = "maps"
    nodes.append(helper.make_node(kind, [source, *names], [OUTPUT_NAME], name="operator", **attributes))
    photos = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", *data.shape[1:]])
    scores = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "single", [photos], [scores], constants)
    opset = {"Gelu": 20, "Mish": 18}.get(kind, 17)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), data


def assert_equal_in_onnx_runtime(case: Case) -> None:
    model, data = single(case)
    (expected,) = open_session(model.SerializeToString()).run(None, {INPUT_NAME: data})
    own = np.asarray(DifferentiableNetwork(model, OUTPUT_NAME, {}).run(tensorflow().constant(data)))
    np.testing.assert_allclose(own.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
