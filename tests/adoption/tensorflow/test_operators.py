"""Operators that reach files, other processes or Python are refused, also inside functions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from tests.support.errors import raises
from trtpoets.adoption.tensorflow.operators import (
    require_harmless,
    require_harmless_graph,
    require_harmless_meta_graph,
)
from trtpoets.core.errors import BadArtefact

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def graph_of(*operators: str) -> Any:
    from tensorflow.core.framework.graph_pb2 import GraphDef

    definition = GraphDef()
    for index, operator in enumerate(operators):
        definition.node.add(name=f"node_{index}", op=operator)
    return definition


def with_function(definition: Any, name: str, *operators: str) -> Any:
    function = definition.library.function.add()
    function.signature.name = name
    for operator in operators:
        function.node_def.add(name=operator, op=operator)
    return definition


def meta_graph_of(definition: Any) -> Any:
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    return MetaGraphDef(graph_def=definition)


def test_operators_that_only_compute() -> None:
    require_harmless(graph_of("Conv2D", "Relu", "_Arg", "_Retval").node, "net.pb")
    require_harmless_graph(with_function(graph_of("Relu", "own"), "own", "Softmax"), "net.pb")


@pytest.mark.parametrize(
    ("operator", "code"),
    [("ReadFile", "TP9103"), ("PyFunc", "TP9103"), ("SaveV2", "TP9103"), ("_Send", "TP9103"), ("Swirl", "TP9104")],
)
def test_other_operators_are_named(operator: str, code: str) -> None:
    for definition in (graph_of("Relu", operator), with_function(graph_of("own"), "own", operator)):
        with raises(BadArtefact, code, "net.pb", operator):
            require_harmless_graph(definition, "net.pb")


def test_the_functions_that_save_variables_are_allowed() -> None:
    definition = with_function(graph_of("Relu", "SaveV2", "RestoreV2"), "__inference__traced_save_7", "SaveV2")
    require_harmless_meta_graph(meta_graph_of(definition), "folder")


def test_a_saving_function_that_another_function_calls_is_refused() -> None:
    definition = with_function(graph_of("Relu"), "__inference__traced_save_7", "SaveV2")
    with_function(definition, "serve", "__inference__traced_save_7")
    with raises(BadArtefact, "TP9103", "SaveV2"):
        require_harmless_meta_graph(meta_graph_of(definition), "folder")


def test_a_saving_function_that_is_a_signature_is_refused() -> None:
    meta_graph = meta_graph_of(with_function(graph_of("Relu"), "__inference__traced_save_7", "SaveV2"))
    meta_graph.object_graph_def.nodes.add().function.concrete_functions.append("__inference__traced_save_7")
    with raises(BadArtefact, "TP9103", "SaveV2"):
        require_harmless_meta_graph(meta_graph, "folder")


def test_the_saver_is_refused_where_a_graph_of_tensorflow_1_starts() -> None:
    meta_graph = meta_graph_of(graph_of("Relu", "SaveV2"))
    require_harmless_meta_graph(meta_graph, "folder")
    meta_graph.collection_def["saved_model_main_op"].node_list.value.append("node_1")
    with raises(BadArtefact, "TP9103", "SaveV2"):
        require_harmless_meta_graph(meta_graph, "folder")
