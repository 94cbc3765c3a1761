"""Rewrites frozen graphs so that tf2onnx converts them and TensorFlow runs them without XLA."""

from __future__ import annotations

from typing import Any

from trtpoets.adoption.tensorflow.execution import shapes_of
from trtpoets.adoption.tensorflow.explicit_padding import separate_padding
from trtpoets.adoption.tensorflow.graph import (
    Graph,
    Nodes,
    add_constant,
    attribute,
    constant_value,
    data_inputs,
    final_node,
    pruned,
)

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_CALLS = 5000
"""Keras calls a function for each grouped convolution; nested calls of a hostile graph could go on."""


def convertible(graph: Graph) -> Graph:
    """Return a graph that computes the same: function calls replaced by their nodes, Erfc by 1 - Erf.

    Keras puts grouped convolutions into functions that XLA compiles, because TensorFlow's fused convolutions on the CPU
    have no groups; TensorFlow's GELU uses Erfc, which tf2onnx does not have.
    """
    definition = type(graph.definition)()
    definition.CopyFrom(graph.definition)
    if _inline_calls(definition):
        definition = pruned(definition, [graph.output])
        _rewrite_groups(definition)
        separate_padding(definition)
    _replace_erfc(definition)
    return Graph(pruned(definition, [graph.output]), graph.input, graph.output)


def _inline_calls(definition: Any) -> bool:
    """Replace the calls of functions by the nodes of the functions; return whether there were any."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    functions = {function.signature.name: function for function in definition.library.function}
    aliases: dict[str, str] = {}
    for _ in range(_MAX_CALLS):
        call = next((node for node in definition.node if _function_of(node) in functions), None)
        if call is None:
            break
        function = functions[_function_of(call)]
        body, flat = function_def_to_graph_def(function)
        arguments = {
            argument.name: tensor
            for argument, tensor in zip(function.signature.input_arg, data_inputs(call), strict=True)
        }
        for number, result in enumerate(function.signature.output_arg):
            tensor = _renamed(flat[function.ret[result.name]], call.name, arguments)
            aliases[f"{call.name}:{number}"] = tensor
        added = [node for node in body.node if node.name not in arguments]
        for node in added:
            node.input[:] = [_renamed(name, call.name, arguments) for name in node.input]
            node.name = f"{call.name}/{node.name}"
            _clear_private(node)
        definition.node.remove(call)
        definition.node.extend(added)
    nodes = {node.name for node in definition.node}
    for node in definition.node:
        names = [name if name.startswith("^") else _resolved(name, aliases) for name in node.input]
        node.input[:] = [name for name in names if not (name.startswith("^") and name[1:] not in nodes)]
    return bool(aliases)


def _function_of(node: Any) -> str:
    return str(attribute(node, "f").func.name if node.op in _CALLS else node.op)


def _renamed(name: str, prefix: str, arguments: dict[str, str]) -> str:
    """Return the name in the caller of a tensor or control input of a function."""
    if name.startswith("^"):
        return f"^{prefix}/{name[1:]}"
    return arguments.get(name.split(":", maxsplit=1)[0], f"{prefix}/{name}")


def _resolved(name: str, aliases: dict[str, str]) -> str:
    full = name if ":" in name else f"{name}:0"
    while full in aliases:
        name = aliases[full]
        full = name if ":" in name else f"{name}:0"
    return name


def _clear_private(node: Any) -> None:
    """Delete the attributes that are notes of TensorFlow, such as recorded shapes and custom gradients."""
    for key in [key for key in node.attr if key.startswith("_")]:
        del node.attr[key]


def clear_notes(definition: Any) -> None:
    """Delete the notes and the devices at all nodes: they don't hold for a part of the graph on another machine."""
    for node in definition.node:
        _clear_private(node)
        node.device = ""


def _rewrite_groups(definition: Any) -> None:
    """Make grouped convolutions with one channel per group depthwise ones; keep the others from being fused."""
    nodes = {node.name: node for node in definition.node}
    convolutions = [
        node for node in definition.node if node.op == "Conv2D" and attribute(node, "data_format").s != b"NCHW"
    ]
    shapes = shapes_of(definition, [data_inputs(node)[0] for node in convolutions])
    for node, shape in zip(convolutions, shapes, strict=True):
        weights = constant_value(nodes, data_inputs(node)[1])
        channels = shape[-1] if shape else None
        if weights is None or channels is None or weights.shape[2] == channels:
            continue
        if weights.shape[2] == 1:
            height, width, _, out = weights.shape
            name = f"{node.name}/depthwise_weights"
            add_constant(definition.node, name, weights.reshape(height, width, channels, out // channels))
            node.op = "DepthwiseConv2dNative"
            node.input[1] = name
            if "use_cudnn_on_gpu" in node.attr:
                del node.attr["use_cudnn_on_gpu"]
        else:
            _subtract_bias(definition, nodes, node)


def _subtract_bias(definition: Any, nodes: Nodes, convolution: Any) -> None:
    """Replace the BiasAdd after a convolution by a Sub, which TensorFlow does not fuse with it."""
    for node in list(definition.node):
        if node.op == "BiasAdd" and final_node(nodes, data_inputs(node)[0]).name == convolution.name:
            bias = constant_value(nodes, data_inputs(node)[1])
            if bias is not None:
                name = f"{node.name}/negative"
                add_constant(definition.node, name, -bias)
                node.op = "Sub"
                node.input[1] = name
                if "data_format" in node.attr:
                    del node.attr["data_format"]


def _replace_erfc(definition: Any) -> None:
    from tensorflow.python.framework import tensor_util

    for node in [node for node in definition.node if node.op == "Erfc"]:
        dtype = attribute(node, "T").type
        one, erf = definition.node.add(), definition.node.add()
        one.name, one.op = f"{node.name}/one", "Const"
        one.attr["dtype"].type = dtype
        one.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(1, dtype))
        erf.name, erf.op = f"{node.name}/erf", "Erf"
        erf.attr["T"].type = dtype
        erf.input.append(data_inputs(node)[0])
        node.op = "Sub"
        node.input[:] = [one.name, erf.name]
