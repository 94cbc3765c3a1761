"""Runs GraphDefs and makes them of TensorFlow functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trtpoets.adoption.tensorflow.graph import Graph
from trtpoets.core.errors import BadArtefact, RunFailed, first_line
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Layout

Run = Callable[[np.ndarray], np.ndarray]
"""Runs a network on an array as its input stores it, and returns its output."""


def frozen(function: Any) -> tuple[Any, list[str], list[str]]:
    """Return the GraphDef of a concrete function with its variables as constants, its inputs and its outputs.

    Raises BadArtefact if TensorFlow can't do that.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        constant = convert_variables_to_constants_v2(function, lower_control_flow=False)
        definition = constant.graph.as_graph_def()
    except Exception as error:
        raise BadArtefact(
            f"TensorFlow can't freeze the variables of the network: {first_line(error)}",
            hint="export it to ONNX with the program that wrote it",
            code="TP9100",
        ) from error
    return definition, [tensor.name for tensor in constant.inputs], [tensor.name for tensor in constant.outputs]


def imported(graph: Graph, value: Any) -> Any:
    """Add the graph to the current TensorFlow function, with `value` as its input; return its output tensor."""
    (output,) = tensorflow().import_graph_def(
        graph.definition, input_map={f"{graph.input}:0": value}, return_elements=[graph.output], name="network"
    )
    return output


def shape_of(definition: Any, tensor: str) -> list[int | None] | None:
    """Return the shape that TensorFlow infers for a tensor of a GraphDef; None if not even its rank is known.

    Raises BadArtefact if TensorFlow can't import the graph.
    """
    return shapes_of(definition, [tensor])[0]


def shapes_of(definition: Any, tensors: Sequence[str]) -> list[list[int | None] | None]:
    """Return the shapes of several tensors, as `shape_of` does."""
    names = [tensor if ":" in tensor else f"{tensor}:0" for tensor in tensors]
    tf = tensorflow()
    try:
        with tf.Graph().as_default():
            values = tf.import_graph_def(definition, return_elements=names, name="")
            return [None if value.shape.rank is None else list(value.shape.as_list()) for value in values]
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        raise BadArtefact(
            f"TensorFlow can't import the graph: {first_line(error)}",
            hint="export it to ONNX with the program that wrote it",
            code="TP9101",
        ) from error


def function_of(graph: Graph) -> Run:
    """Return a function that runs the graph. Raises RunFailed when it is called and TensorFlow fails.

    It runs in a session, which owns the branches of conditions. In eager execution all graphs share them by name, and
    they vanish with the first graph that is deleted.
    """
    tf = tensorflow()
    options = tf.compat.v1.ConfigProto(gpu_options=tf.compat.v1.GPUOptions(allow_growth=True))
    own = tf.Graph()
    with own.as_default():
        (output,) = tf.import_graph_def(graph.definition, return_elements=[graph.output], name="")
    session = tf.compat.v1.Session(graph=own, config=options)
    return _numpy_function(lambda values: session.run(output, {f"{graph.input}:0": values}))


def runner(function: Callable[[Any], Any]) -> Run:
    """Return a numpy function of a TensorFlow function. It raises RunFailed."""
    tf = tensorflow()
    return _numpy_function(lambda values: function(tf.constant(values)))


def _numpy_function(call: Callable[[np.ndarray], Any]) -> Run:
    tf = tensorflow()

    def run(values: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(call(values))
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise RunFailed(
                f"TensorFlow can't run the network: {first_line(error)}",
                hint="export it to ONNX with the program that wrote it",
                code="TP9102",
            ) from error

    return run


def example_values(count: int, height: int, width: int, channels: int, layout: Layout, dtype: str) -> np.ndarray:
    """Return random images for an input: uneven ones, in the ranges 0..1, -1..1 and 0..255 in turn."""
    random = np.random.default_rng(0)
    coarse = random.random((count, 4, 4, channels))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    images = 0.7 * coarse[:, rows][:, :, columns] + 0.3 * random.random((count, height, width, channels))
    if np.dtype(dtype).kind in "iu":
        images = np.rint(images * 127 if dtype == "int8" else images * 255)
    else:
        ranges = [(1.0, 0.0), (2.0, -1.0), (255.0, 0.0)]
        images = np.stack([image * ranges[n % 3][0] + ranges[n % 3][1] for n, image in enumerate(images)])
    if layout is Layout.NCHW:
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, np.dtype(dtype))
