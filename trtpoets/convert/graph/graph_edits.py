"""Replaces the nodes of a graph, and drops the constants that none of them reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def replace_nodes(model: Any, nodes: Iterable[Any]) -> None:
    """Give a ModelProto copies of `nodes`, in this order, in place of its own. They may be nodes that it has now."""
    graph = type(model.graph)()
    graph.node.extend(nodes)
    del model.graph.node[:]
    model.graph.node.extend(graph.node)


def drop_unused_constants(model: Any) -> None:
    """Remove the initializers of a ModelProto that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    graph = type(model.graph)()
    graph.initializer.extend(constant for constant in model.graph.initializer if constant.name in used)
    del model.graph.initializer[:]
    model.graph.initializer.extend(graph.initializer)
