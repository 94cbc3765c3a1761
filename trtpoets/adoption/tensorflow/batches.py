"""Makes graphs with a fixed number of photos take any number, and proves that the results stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.adoption.tensorflow.convertible import convertible
from trtpoets.adoption.tensorflow.execution import function_of
from trtpoets.adoption.tensorflow.graph import Graph, constant_value, data_inputs, node_of
from trtpoets.core.errors import BadArtefact, RunFailed

_TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest value: convolutions add in another order for a batch."""


def for_any_batch(
    graph: Graph, shape: list[int | None], images: np.ndarray, expected: np.ndarray, source: str
) -> Graph:
    """Return the graph with an input for any number of photos, in a form that tf2onnx converts.

    Raises BadArtefact unless it returns `expected` for `images` together: what the original returns for each alone.
    """
    graph = convertible(graph)
    free: list[int | None] = [None, *shape[1:]]
    problem = ""
    for candidate in (_with_input_shape(graph, free), _with_free_reshapes(_with_input_shape(graph, free))):
        try:
            together = function_of(candidate)(images)
        except (RunFailed, ValueError) as error:
            problem = str(error)
            continue
        if together.shape == expected.shape:
            difference = float(np.abs(together.astype(float) - expected).max())
            if difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
                return candidate
            problem = f"its output differs by up to {difference:.3g}"
        else:
            problem = f"it returns {list(together.shape)} for {len(images)} photos"
    raise BadArtefact(
        f"{source} returns other results for a batch of {len(images)} photos than for each photo alone: {problem}",
        hint="export the network for inference, with a batch of any size (None)",
        code="TP9133",
    )


def _with_input_shape(graph: Graph, shape: list[int | None]) -> Graph:
    definition = type(graph.definition)()
    definition.CopyFrom(graph.definition)
    for node in definition.node:
        if node.name == graph.input:
            dims = node.attr["shape"].shape
            dims.Clear()
            for length in shape:
                dims.dim.add().size = -1 if length is None else length
    return Graph(definition, graph.input, graph.output)


def _with_free_reshapes(graph: Graph) -> Graph:
    """Return the graph with -1 for the 1 at the beginning of the constant shapes of Reshape nodes."""
    from tensorflow.python.framework import tensor_util

    definition = type(graph.definition)()
    definition.CopyFrom(graph.definition)
    for node in list(definition.node):
        if node.op != "Reshape":
            continue
        shape_tensor = data_inputs(node)[1]
        value = constant_value(graph.nodes, shape_tensor)
        if value is None or value.ndim != 1 or value.size < 2 or value[0] != 1 or (value < 0).any():
            continue
        added: Any = definition.node.add()
        added.name = f"{node_of(node.name)}/shape_for_any_batch"
        added.op = "Const"
        added.attr["dtype"].type = 9 if value.dtype == np.int64 else 3
        added.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(np.array([-1, *value[1:]], value.dtype)))
        node.input[1] = added.name
    return Graph(definition, graph.input, graph.output)
