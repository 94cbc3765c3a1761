"""Puts graphs into canonical order with readable names, so that equal networks give equal ONNX files.

Engines are keyed by the hash of their ONNX file. The names and order that converters produce depend on what the process
built before, so they are replaced here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trtpoets.convert.graph.graph_view import WEIGHTED, GraphView

_MEANINGLESS = re.compile(r"^(StatefulPartitionedCall|PartitionedCall|functional|model|sequential)(_\d+)*$")
"""Parts of a TensorFlow name that do not identify the layer."""

_SCOPES = {"batchnorm", "convolution", "Cast", "clip_by_value", "hard_swish", "hard_sigmoid", "moments"}
"""Names that Keras layers give to groups of operators within themselves."""


def canonical(model: Any, input_name: str, output_name: str, metadata: Mapping[str, str]) -> Any:
    """Return an equivalent ModelProto with nodes in canonical order, named by layer and operator.

    Node `block_1_expand/Conv` computes tensor `block_1_expand/Conv:0` from `block_1_expand/Conv.weight` and `.bias`.
    Nodes that do not affect the output are removed. Only the first input and the first output are kept.
    """
    from onnx import TensorProto, helper

    view = GraphView(model)
    nodes = in_order(view)
    names = _node_names(view, nodes)
    tensors = {model.graph.input[0].name: input_name, model.graph.output[0].name: output_name, "": ""}
    constants: list[Any] = []
    renamed_nodes = []
    for node, name in zip(nodes, names, strict=True):
        for index, source in enumerate(node.input):
            if source in view.constants and source not in tensors:
                tensors[source] = _constant_name(node, name, index)
                constant = TensorProto()
                constant.CopyFrom(view.constants[source])
                constant.name = tensors[source]
                constants.append(constant)
        for index, target in enumerate(node.output):
            tensors.setdefault(target, f"{name}:{index}")
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name, copy.doc_string = name, ""
        copy.input[:] = [tensors[source] for source in node.input]
        copy.output[:] = [tensors[target] for target in node.output]
        attributes = sorted(copy.attribute, key=lambda entry: str(entry.name))
        del copy.attribute[:]
        copy.attribute.extend(attributes)
        renamed_nodes.append(copy)
    graph = helper.make_graph(
        renamed_nodes,
        "trtpoets",
        [_renamed(model.graph.input[0], input_name)],
        [_renamed(model.graph.output[0], output_name)],
        constants,
    )
    return finished(graph, view.opset, metadata)


def finished(graph: Any, opset: int, metadata: Mapping[str, str]) -> Any:
    """Return the ModelProto of a graph; equal graphs give equal bytes."""
    from onnx import helper

    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, producer_name="trtpoets", opset_imports=imports)
    # The lowest IR version that supports the opset: TensorRT 8.x does not read newer ones.
    model.ir_version = helper.find_min_ir_version_for(imports)
    helper.set_model_props(model, dict(sorted(metadata.items())))
    return model


def _renamed(value: Any, name: str) -> Any:
    from onnx import helper

    kind = value.type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
    return helper.make_tensor_value_info(name, kind.elem_type, [sizes[0] or "N", *sizes[1:]])


def in_order(view: GraphView) -> list[Any]:
    """Return the nodes that the output needs, inputs first: depth first from the output, inputs in their order."""
    order: list[Any] = []
    seen: set[str] = set()
    stack = [(view.producer[view.outputs[0]], False)]
    while stack:
        node, inputs_done = stack.pop()
        key = node.output[0]
        if inputs_done:
            order.append(node)
        elif key not in seen:
            seen.add(key)
            stack.append((node, True))
            for source in reversed(node.input):
                if source in view.producer:
                    stack.append((view.producer[source], False))
    return order


def _node_names(view: GraphView, nodes: list[Any]) -> list[str]:
    """Return `layer/Operator` for each node, numbered from 1 in graph order where names would be equal."""
    wanted = [(_layer(view, node), node.op_type) for node in nodes]
    total = Counter(wanted)
    counted: Counter[tuple[str, str]] = Counter()
    names = []
    for layer, operator in wanted:
        counted[layer, operator] += 1
        number = f"_{counted[layer, operator]}" if total[layer, operator] > 1 else ""
        names.append(f"{layer}{number}/{operator}" if layer not in ("", operator) else f"{operator}{number}")
    uses = Counter(names)
    for index, name in enumerate(names):
        if uses[name] > 1:
            names[index] = f"{name}.{index}"
    return names


def _layer(view: GraphView, node: Any) -> str:
    """Return the Keras layer that a node belongs to, without the number that Keras appends; empty if unknown."""
    constants = [name for name in node.input if name in view.constants]
    weights = [node.input[1]] if node.op_type in WEIGHTED and node.input[1] in view.constants else []
    for candidate in (*weights, node.name, *node.output, *(constants if node.op_type in WEIGHTED else [])):
        path = candidate.split(":")[0].split("/")
        # The last part is the operator's name.
        layers = [part for part in path[:-1] if part not in _SCOPES and not _MEANINGLESS.match(part)]
        if layers:
            return re.sub(r"(_\d+)+$", "", layers[-1])
    return ""


def _constant_name(node: Any, name: str, index: int) -> str:
    if node.op_type in WEIGHTED and index in (1, 2):
        return f"{name}.{'weight' if index == 1 else 'bias'}"
    return f"{name}.{index}"
