"""A network run in pieces, each ending with one layer, so that a change in one layer does not run the others again.

Between two pieces everything that is still needed lies in a dict of arrays, where it can be read, corrected, or taken
over by another version of the same network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.core.onnx_file import open_session

Live = dict[str, np.ndarray]
"""The tensors between two pieces, by name."""


@dataclass(frozen=True)
class Piece:
    """Consecutive nodes of a graph. The last one is node `end` with output `tensor`; both empty after the last layer.

    `inputs` are computed tensors; `outputs` what later pieces or the caller need; `dead` what nobody needs after it.
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
        """The piece as an ONNX file."""
        from onnx import helper

        def info(name: str) -> Any:
            return helper.make_tensor_value_info(name, self.view.element_type(name), None)

        constants = dict.fromkeys(name for node in self.nodes for name in node.input if name in self.view.constants)
        graph = helper.make_graph(
            self.nodes,
            "piece",
            [info(name) for name in self.inputs],
            [info(name) for name in self.outputs],
            [self.view.constants[name] for name in constants],
        )
        model = helper.make_model(graph, opset_imports=self.opsets, ir_version=self.ir_version)
        return bytes(model.SerializeToString(deterministic=True))

    @cached_property
    def identity(self) -> bytes:
        """Equal for pieces that compute the same."""
        return hashlib.sha256(self.content).digest()

    @cached_property
    def plan(self) -> tuple[Any, ...]:
        """Equal for pieces of two versions of a network that compute the same. Versions differ in pairs and biases."""
        nodes = tuple(node.SerializeToString(deterministic=True) for node in self.nodes)
        small = (
            name
            for node in self.nodes
            for name in (node.input[1:2] if node.op_type == "QuantizeLinear" else node.input[2:3])
            if name in self.view.constants
        )
        steps = tuple(self.view.constants[name].SerializeToString() for name in small)
        return nodes, steps, self.inputs, self.outputs, self.dead


class Sessions:
    """Runs pieces. Equal pieces of different networks share one session."""

    def __init__(self) -> None:
        self._open: dict[bytes, Any] = {}

    def advance(self, piece: Piece, live: Live) -> None:
        """Run a piece on what is there: its outputs come into `live`, what is dead after it goes."""
        if piece.nodes:
            if piece.identity not in self._open:
                self._open[piece.identity] = open_session(piece.content, one_of_many=True)
            found = self._open[piece.identity].run(list(piece.outputs), {name: live[name] for name in piece.inputs})
            live.update(zip(piece.outputs, found, strict=True))
        for name in piece.dead:
            live.pop(name, None)


def last_needed(view: GraphView, ends: Sequence[str]) -> dict[str, int]:
    """For each tensor, the number of the last piece that reads it, when the graph is cut after the nodes `ends`."""
    last: dict[str, int] = {}
    for number, nodes in enumerate(_groups(view, ends)):
        last.update((name, number) for node in nodes for name in node.input)
    return last


def pieces_of(
    model: Any, ends: Sequence[str], wanted: Sequence[str], also: Mapping[str, int] | None = None
) -> list[Piece]:
    """Cut a ModelProto after each of the nodes `ends`, named in the graph's order; the last piece is what follows.

    `wanted` are tensors that stay in the dict to the end. `also` keeps tensors until the piece of that number although
    this network does not need them, so that another version of it can go on from here.
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
    pieces = []
    for number, nodes in enumerate(groups):
        made = [name for node in nodes for name in node.output if name]
        end = number < len(ends)
        pieces.append(
            Piece(
                end=nodes[-1].name if end else "",
                tensor=nodes[-1].output[0] if end else "",
                inputs=tuple(
                    dict.fromkeys(
                        name
                        for node in nodes
                        for name in node.input
                        if name and name not in view.constants and name not in made
                    )
                ),
                outputs=tuple(name for name in made if last.get(name, -1) > number),
                dead=tuple(dead.get(number, ())),
                view=view,
                nodes=tuple(nodes),
                opsets=tuple(model.opset_import),
                ir_version=model.ir_version,
            )
        )
    return pieces


def _groups(view: GraphView, ends: Sequence[str]) -> list[list[Any]]:
    """The nodes between the cuts: one more group than there are cuts."""
    cuts = set(ends)
    groups: list[list[Any]] = [[]]
    for node in view.nodes:
        groups[-1].append(node)
        if node.name in cuts:
            groups.append([])
    return groups
