"""Finds out whether ONNX Runtime multiplies uint8 by int8 exactly on this processor.

With VNNI (x86) and dot products (Arm) it adds such products in 32 bits, at about twice the speed of uint8 by uint8.
Without, it adds pairs of them in 16 bits, which saturate.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from trtpoets.core.onnx_file import open_session

_DEPTH, _WIDTH = 96, 33
_ROWS = (1, 5, 64)
"""Numbers of rows for which ONNX Runtime has kernels of their own: a vector, less than a tile, and many tiles."""


@cache
def signed_weights_are_exact() -> bool:
    """Return whether products of uint8 and int8 matrices are exact here: those of the largest values are tried."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.tile(np.array([[127], [127], [-128], [-128]], np.int8), (_DEPTH // 4, _WIDTH))
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["sums"])],
        "products",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [None, _DEPTH])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [None, _WIDTH])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_session(model.SerializeToString(), threads=1)
    for rows in _ROWS:
        # Pairs of the largest and of the smallest products: their sums exceed 16 bits.
        values = np.full((rows, _DEPTH), 255, np.uint8)
        values[::2, 2::4] = 3
        exact = values.astype(np.int32) @ weights.astype(np.int32)
        if not np.array_equal(session.run(None, {"a": values})[0], exact):
            return False
    return True
