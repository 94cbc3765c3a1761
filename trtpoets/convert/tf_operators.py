"""Conversions of TensorFlow's operators that tf2onnx lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

_Handler = Callable[..., None]
"""Replaces a node; tf2onnx calls it with its graph, the node, the node's name and arguments."""


def _one_minus_erf(graph: Any, node: Any, name: str, _: object) -> None:
    """Replace Erfc, with which TensorFlow computes GELU, by 1 - Erf."""
    output = node.output[0]
    shapes, dtypes = [graph.get_shape(output)], [graph.get_dtype(output)]
    graph.remove_node(node.name)
    one = graph.make_const(f"{name}/one", np.float32(1)).output[0]
    erf = graph.make_node("Erf", node.input, name=f"{name}/erf", shapes=shapes, dtypes=dtypes).output[0]
    graph.make_node("Sub", [one, erf], name=name, outputs=[output], shapes=shapes, dtypes=dtypes)


OPERATORS: Mapping[str, tuple[_Handler, list[str]]] = MappingProxyType({"Erfc": (_one_minus_erf, [])})
"""What tf2onnx takes as `custom_op_handlers`: for each operator, the function and its arguments."""
