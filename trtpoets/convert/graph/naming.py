"""One graph, one file: canonical order and readable names, so that equal networks give equal bytes.

Engines are keyed by the hash of their ONNX file. The names and the order that converters leave behind depend on what
else the process had built before, so they are replaced here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trtpoets.convert.graph.graph_view import WEIGHTED, GraphView

_NOISE = re.compile(r"^(StatefulPartitionedCall|PartitionedCall|functional|model|sequential)(_\d+)*$")
"""Parts of a TensorFlow name that say nothing about the layer."""

_SCOPES = {"batchnorm", "convolution", "Cast", "clip_by_value", "hard_swish", "hard_sigmoid", "moments"}
"""What Keras layers call groups of operators within themselves."""


def canonical(model: Any, input_name: str, output_name: str, metadata: Mapping[str, str]) -> Any:
    """A ModelProto of the same network: sorted as the data flows from the output back, named by layer and operator.

    Node `block_1_expand/Conv` gives tensor `block_1_expand/Conv:0` from `block_1_expand/Conv.weight` and `.bias`.
    Whatever does not reach the output is dropped. Only the first input and the first output are kept.
    """
    from onnx import TensorProto, helper

    view = GraphView(model)
    nodes = in_order(view)
    names = _node_names(view, nodes)
    tensors = {model.graph.input[0].name: input_name, model.graph.output[0].name: output_name, "": ""}
    constants: list[Any] = []
    fresh = []
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
        fresh.append(copy)
    graph = helper.make_graph(
        fresh,
        "trtpoets",
        [_renamed(model.graph.input[0], input_name)],
        [_renamed(model.graph.output[0], output_name)],
        constants,
    )
    return finished(graph, view.opset, metadata)


def finished(graph: Any, opset: int, metadata: Mapping[str, str]) -> Any:
    """The ModelProto of a graph, with nothing in it that differs from one writing to the next."""
    from onnx import helper

    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, producer_name="trtpoets", opset_imports=imports)
    # The oldest format that knows the opset: TensorRT 8.x reads no newer ones.
    model.ir_version = helper.find_min_ir_version_for(imports)
    helper.set_model_props(model, dict(sorted(metadata.items())))
    return model


def _renamed(value: Any, name: str) -> Any:
    from onnx import helper

    kind = value.type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
    return helper.make_tensor_value_info(name, kind.elem_type, ["N", *sizes[1:]])


def in_order(view: GraphView) -> list[Any]:
    """Nodes that the output needs, each after its inputs: depth first from the output, inputs in their own order."""
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
    """`layer/Operator`, numbered from 1 in the graph's order where several would be called the same."""
    wanted = [(_layer(view, node), node.op_type) for node in nodes]
    total = Counter(wanted)
    counted: Counter[tuple[str, str]] = Counter()
    names = []
    for layer, operator in wanted:
        counted[layer, operator] += 1
        number = f"_{counted[layer, operator]}" if total[layer, operator] > 1 else ""
        names.append(f"{layer}{number}/{operator}" if layer not in ("", operator) else f"{operator}{number}")
    taken = Counter(names)
    for index, name in enumerate(names):
        if taken[name] > 1:
            names[index] = f"{name}.{index}"
    return names


def _layer(view: GraphView, node: Any) -> str:
    """The Keras layer that a node comes from, without the numbers that Keras counts up through a process."""
    constants = [name for name in node.input if name in view.constants]
    weights = [node.input[1]] if node.op_type in WEIGHTED and node.input[1] in view.constants else []
    for candidate in (*weights, node.name, *node.output, *(constants if node.op_type in WEIGHTED else [])):
        path = candidate.split(":")[0].split("/")
        # The last part is the operator's.
        layers = [part for part in path[:-1] if part not in _SCOPES and not _NOISE.match(part)]
        if layers:
            return re.sub(r"(_\d+)+$", "", layers[-1])
    return ""


def _constant_name(node: Any, name: str, index: int) -> str:
    if node.op_type in WEIGHTED and index in (1, 2):
        return f"{name}.{'weight' if index == 1 else 'bias'}"
    return f"{name}.{index}"
