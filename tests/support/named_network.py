"""A network whose file names the nodes to compute in FP32."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper

from tests.support.tiny import tiny_graph
from trtpoets.core.onnx_graph import marked_fp32
from trtpoets.core.types import Precision


def named(precision: Precision, *in_fp32: str) -> Any:
    """A tiny network whose nodes have names, as those of trtpoets; its Softmax is in FP32 in the FP16 file too."""
    graph = tiny_graph(precision)
    for node in graph.graph.node:
        node.name = node.name or f"{node.output[0]}/{node.op_type}"
    if precision is Precision.FP16:
        *others, softmax, _ = graph.graph.node
        others.append(helper.make_node("Cast", ["l"], ["l.fp32"], name="l.fp32/Cast", to=TensorProto.FLOAT))
        softmax.input[0], softmax.output[0] = "l.fp32", "scores"
        del graph.graph.node[:]
        graph.graph.node.extend([*others, softmax])
    elif in_fp32:
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        helper.set_model_props(graph, {**metadata, **marked_fp32(in_fp32)})
    return graph
