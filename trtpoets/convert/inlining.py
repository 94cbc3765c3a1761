"""Makes functions that XLA compiles part of the graph that calls them, so that converters see their operators."""

from __future__ import annotations

from typing import Any

from trtpoets.core.optional import tensorflow

_COMPILED = "_XlaMustCompile"


def with_compiled_calls_inlined(function: Any, signature: Any) -> Any:
    """Return a tf.function that computes the same as `function`, a tf.function of one tensor, and compiles nothing.

    Keras compiles convolutions with groups, because TensorFlow has no other kernel for them on a CPU, and converters do
    not look into compiled functions. The result is for converters: a CPU may not run it. Without such calls, it is
    `function`.
    """
    tf = tensorflow()
    concrete = function.get_concrete_function(signature)
    if not any(_compiles(node) for node in _nodes(concrete.graph.as_graph_def())):
        return function
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(concrete, aggressive_inlining=True)
    definition = frozen.graph.as_graph_def()
    for node in _nodes(definition):
        node.attr.pop(_COMPILED, None)
    for inner in definition.library.function:
        inner.attr.pop(_COMPILED, None)
    source, result = frozen.inputs[0].name, frozen.outputs[0].name

    def inlined(value: Any) -> Any:
        (output,) = tf.graph_util.import_graph_def(definition, {source: value}, [result], name="")
        return output

    return tf.function(inlined)


def _nodes(definition: Any) -> list[Any]:
    """Return the nodes of a GraphDef and of its functions."""
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def _compiles(node: Any) -> bool:
    return _COMPILED in node.attr and bool(node.attr[_COMPILED].b)
