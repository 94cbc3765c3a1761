"""Puts the nodes after a network that make scores of its output, as `core/original.scores_from_output` does."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.core.original import Answers, OriginalOutput, classes_of
from trtpoets.core.types import OUTPUT_NAME

_PREFIX = "trtpoets_scores_"


def add_score_nodes(model: Any, output: OriginalOutput) -> None:
    """Replace the only output of a network, real values, by `scores`, float32 (N, C) with rows that sum to 1."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    view = GraphView(model)
    shape = view.shape(graph.output[0].name)
    added: list[Any] = []

    def add(operator: str, *inputs: Any, **attributes: Any) -> str:
        names = []
        for value in inputs:
            if isinstance(value, str):
                names.append(value)
                continue
            names.append(f"{_PREFIX}{len(added)}.{len(names)}")
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        result = f"{_PREFIX}{len(added)}:0"
        added.append(helper.make_node(operator, names, [result], name=f"{_PREFIX}{len(added)}", **attributes))
        return result

    values = graph.output[0].name
    if view.element_type(values) not in (TensorProto.FLOAT, 0):
        values = add("Cast", values, to=TensorProto.FLOAT)
    producer = view.producer.get(values)
    if shape is None or len(shape) != 2 or shape[1] != output.size:
        values = add("Reshape", values, np.array([-1, output.size]))
    if output.answers is Answers.LOGITS and output.size == 1:
        positive = add("Sigmoid", values)
        scores = add("Concat", add("Sub", np.float32(1), positive), positive, axis=1)
    elif output.answers in (Answers.LOGITS, Answers.LOG_PROBABILITIES):
        if producer is not None and producer.op_type == "LogSoftmax":
            producer.op_type = "Softmax"  # its exponential
            scores = values
        else:
            scores = add("Softmax", values, axis=1)
    elif output.size == 1:
        scores = add("Concat", add("Sub", np.float32(1), values), values, axis=1)
    elif producer is not None and producer.op_type == "Softmax" and output.answers is Answers.PROBABILITIES:
        scores = values  # their sum is 1
    else:
        scores = _divided_by_sum(add, values, output.size)
    if not added:
        added.append(helper.make_node("Identity", [scores], [OUTPUT_NAME], name=_PREFIX))
    else:
        added[-1].output[0] = OUTPUT_NAME
    graph.node.extend(added)
    del graph.output[:]
    sizes = [view.batch or "N", classes_of(output)]
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, sizes))


def _divided_by_sum(add: Any, values: str, size: int) -> str:
    """Append the division of rows by their sums; rows of zeros become uniform."""
    total = add("ReduceSum", values, np.array([1]), keepdims=1)
    positive = add("Greater", total, np.float32(0))
    divisor = add("Where", positive, total, np.float32(1))
    result: str = add("Where", positive, add("Div", values, divisor), np.float32(1 / size))
    return result
