"""Splits a network into segments, each ending with one layer, so that changing a layer does not rerun the others.

Between two segments, a dict has the arrays of all tensors that later segments need. The caller can read and correct
them, or pass them to another version of the same network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import drop_unused_constants, replace_nodes
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.convert.int8.qdq import along_axis
from trtpoets.core.onnx_file import open_session, unwanted_optimizers_of

LiveTensors = dict[str, np.ndarray]
"""The tensors between two segments, by name."""


@dataclass(frozen=True)
class Segment:
    """Consecutive nodes of a graph. The last node is `end`, its output `tensor`; both are empty in the last segment.

    `inputs` are the tensors that the segment reads, except constants. `outputs` are the tensors that later segments or
    the caller read. `dead` are the tensors that nothing reads after this segment.
    """

    end: str
    tensor: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]
    view: GraphView = field(repr=False)
    nodes: tuple[Any, ...] = field(repr=False)
    opsets: tuple[Any, ...] = field(repr=False)
    ir_version: int

    @cached_property
    def content(self) -> bytes:
        """The segment as a serialised ONNX model."""
        from onnx import helper

        def info(name: str) -> Any:
            return helper.make_tensor_value_info(name, self.view.element_type(name), None)

        nodes, computed = without_weight_pairs(self.view, self.nodes, self.outputs)
        constants = dict.fromkeys(name for node in nodes for name in node.input if name in self.view.constants)
        graph = helper.make_graph(
            nodes,
            "segment",
            [info(name) for name in self.inputs],
            [info(name) for name in self.outputs],
            [*(self.view.constants[name] for name in constants), *computed],
        )
        model = helper.make_model(graph, opset_imports=self.opsets, ir_version=self.ir_version)
        return bytes(model.SerializeToString(deterministic=True))

    @cached_property
    def identity(self) -> bytes:
        """A hash that is equal for segments that compute the same."""
        return hashlib.sha256(self.content).digest()


class SegmentRunner:
    """Runs segments in ONNX Runtime. Equal segments of different networks share one session."""

    def __init__(self) -> None:
        self._open: dict[bytes, Any] = {}

    def advance(self, segment: Segment, live: LiveTensors) -> None:
        """Run a segment on the tensors in `live`, add its outputs and remove the tensors that are dead after it."""
        if segment.outputs:
            if segment.identity not in self._open:
                self._open[segment.identity] = session_of(segment)
            arrays = run_segment(self._open[segment.identity], segment, {name: live[name] for name in segment.inputs})
            live.update(zip(segment.outputs, arrays, strict=True))
        for name in segment.dead:
            live.pop(name, None)


def without_weight_pairs(
    view: GraphView, nodes: Sequence[Any], outputs: Collection[str] = ()
) -> tuple[list[Any], list[Any]]:
    """Return the nodes except symmetric Q/DQ pairs of constants, and the constants that replace the pairs.

    ONNX Runtime would compute such pairs in each run, and its fast convolutions need constant weights. Pairs whose
    result is in `outputs` stay.
    """
    from onnx import numpy_helper

    names = {node.name for node in nodes}
    dropped: set[str] = set()
    computed = []
    for node in nodes:
        if node.op_type != "QuantizeLinear" or node.input[0] not in view.constants or len(node.input) < 3:
            continue
        readers = [reader.node for reader in view.readers.get(node.output[0], [])]
        if len(readers) != 1 or readers[0].op_type != "DequantizeLinear" or readers[0].name not in names:
            continue
        zero, pair = view.array(node.input[2]), readers[0]
        if list(pair.input[1:]) != list(node.input[1:]) or pair.output[0] in outputs or zero.any():
            continue
        exact, limits = view.array(node.input[0]), np.iinfo(zero.dtype)
        scales = along_axis(view.array(node.input[1]), int(attribute(node, "axis", 1)), exact.ndim)
        values = np.clip(np.rint(exact / scales), limits.min, limits.max) * scales
        computed.append(numpy_helper.from_array(values.astype(np.float32), pair.output[0]))
        dropped |= {node.name, pair.name}
    return [node for node in nodes if node.name not in dropped], computed


def with_constant_weights(model: Any) -> Any:
    """Return a copy of a ModelProto without the Q/DQ pairs of constants, which computes the same in less time."""
    view = GraphView(model)
    nodes, computed = without_weight_pairs(view, view.nodes, view.outputs)
    copy = type(model)()
    copy.CopyFrom(model)
    replace_nodes(copy, nodes)
    copy.graph.initializer.extend(computed)
    drop_unused_constants(copy)
    return copy


def session_of(segment: Segment) -> Any:
    """Open an ONNX Runtime session for a segment, with the settings for many small sessions."""
    nodes = ((node.op_type, tuple(node.input), tuple(node.output)) for node in segment.nodes)
    return open_session(segment.content, one_of_many=True, disabled=unwanted_optimizers_of(nodes))


def joined(segments: Sequence[Segment], wanted: str) -> Segment:
    """Return consecutive segments of a network as one segment that computes only the tensor `wanted`.

    ONNX Runtime optimises it as a whole, so that running it takes less time than running the segments one by one.
    """
    nodes = tuple(node for segment in segments for node in segment.nodes)
    computed = {name for node in nodes for name in node.output}
    inputs = dict.fromkeys(name for segment in segments for name in segment.inputs if name not in computed)
    return replace(segments[-1], end="", tensor="", inputs=tuple(inputs), outputs=(wanted,), dead=(), nodes=nodes)


def run_segment(session: Any, segment: Segment, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a segment and return its outputs.

    If the network has a fixed batch, the inputs must be a multiple of it along their first axis; the segment is run for
    each batch.
    """
    outputs = list(segment.outputs)
    batches = _batches_in(segment, inputs)
    if batches == 1:
        return list(session.run(outputs, dict(inputs)))
    results = [
        session.run(outputs, {name: np.split(array, batches)[index] for name, array in inputs.items()})
        for index in range(batches)
    ]
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]


def _batches_in(segment: Segment, inputs: Mapping[str, np.ndarray]) -> int:
    """Return the number of batches in the inputs of a segment: 1 if the network takes any number of photos."""
    if segment.view.batch is None:
        return 1
    for name, array in inputs.items():
        shape = segment.view.shape(name)
        if shape and shape[0]:
            return len(array) // shape[0]
    return 1


def last_needed(view: GraphView, ends: Sequence[str]) -> dict[str, int]:
    """Return, for each tensor, the index of the last segment that reads it when the graph is split after `ends`."""
    last: dict[str, int] = {}
    for number, nodes in enumerate(_groups(view, ends)):
        last.update((name, number) for node in nodes for name in node.input)
    return last


def split_model(
    model: Any, ends: Sequence[str], wanted: Sequence[str], also: Mapping[str, int] | None = None
) -> list[Segment]:
    """Split a ModelProto after each of the nodes `ends`, given in graph order, into one segment more than `ends`.

    The tensors `wanted` are outputs of their segment and are not dead after any. `also` maps tensors to the index of
    the last segment before which they are kept although this network does not read them, so that another version of
    the network can continue there.
    """
    view = GraphView(model)
    last = last_needed(view, ends)
    for name, number in (also or {}).items():
        last[name] = max(last.get(name, -1), number)
    groups = _groups(view, ends)
    last.update((name, len(groups)) for name in wanted)
    dead: dict[int, list[str]] = {}
    for name, number in last.items():
        if name not in view.constants:
            dead.setdefault(number, []).append(name)
    return [
        Segment(
            end=nodes[-1].name if number < len(ends) else "",
            tensor=nodes[-1].output[0] if number < len(ends) else "",
            inputs=_inputs_of(nodes, view),
            outputs=tuple(name for name in _outputs_of(nodes) if last.get(name, -1) > number),
            dead=tuple(dead.get(number, ())),
            view=view,
            nodes=tuple(nodes),
            opsets=tuple(model.opset_import),
            ir_version=model.ir_version,
        )
        for number, nodes in enumerate(groups)
    ]


def _inputs_of(nodes: Sequence[Any], view: GraphView) -> tuple[str, ...]:
    """Return the tensors, without repetition, that nodes read and do not compute, except constants."""
    computed = set(_outputs_of(nodes))
    read = (name for node in nodes for name in node.input if name and name not in view.constants)
    return tuple(dict.fromkeys(name for name in read if name not in computed))


def _outputs_of(nodes: Sequence[Any]) -> list[str]:
    return [name for node in nodes for name in node.output if name]


def _groups(view: GraphView, ends: Sequence[str]) -> list[list[Any]]:
    """Return the nodes of each segment, when the graph is split after the nodes `ends`."""
    split_after = set(ends)
    groups: list[list[Any]] = [[]]
    for node in view.nodes:
        groups[-1].append(node)
        if node.name in split_after:
            groups.append([])
    return groups
