"""GraphDefs are searched, cut and folded without importing them into TensorFlow."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import graph
from trtpoets.adoption.tensorflow.graph import (
    Graph,
    ancestors,
    attribute,
    constant_value,
    consumers_of,
    data_inputs,
    final_node,
    node_of,
    pruned,
)

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def build(v1: Any) -> None:
    photo = v1.placeholder("float32", [None, 4], name="photo")
    doubled = v1.multiply(photo, v1.divide(4.0, 2.0, name="factor"), name="doubled")
    softmax = v1.nn.softmax(doubled, name="softmax")
    v1.identity(v1.reshape(softmax, [-1, 2, 2], name="grid"), name="output")
    v1.negative(photo, name="other")


@pytest.fixture(scope="module")
def definition() -> Any:
    return graph(build)


@pytest.mark.parametrize("tensor", ["a/b", "a/b:0", "a/b:12", "^a/b"])
def test_the_node_of_a_tensor(tensor: str) -> None:
    assert node_of(tensor) == "a/b"


def test_control_inputs_are_no_data(definition: Any) -> None:
    node = type(definition.node[0])(name="one", op="Add", input=["a", "^b", "c:1"])
    assert data_inputs(node) == ["a", "c:1"]


def test_reading_an_attribute_does_not_add_it(definition: Any) -> None:
    node = type(definition.node[0])(name="one", op="Add")
    assert attribute(node, "axis").i == 0
    assert "axis" not in node.attr


def test_the_last_node_that_computes_values(definition: Any) -> None:
    network = Graph(definition, "photo", "output:0")
    assert network.final.name == "softmax"
    assert final_node(network.nodes, "doubled:0").name == "doubled"
    assert sorted(node.name for node in network.consumers["photo"]) == ["doubled", "other"]
    assert network.consumers == consumers_of(definition.node)


def test_a_cycle_ends(definition: Any) -> None:
    node_type = type(definition.node[0])
    nodes = {name: node_type(name=name, op="Identity", input=[other]) for name, other in (("a", "b"), ("b", "a"))}
    assert final_node(nodes, "a").name in nodes
    assert constant_value(nodes, "a") is None


def test_constants_are_folded(definition: Any) -> None:
    network = Graph(definition, "photo", "output:0")
    factor = network.constant(data_inputs(network.nodes["doubled"])[1])
    assert factor is not None
    np.testing.assert_array_equal(factor, 2)
    assert network.constant("softmax:0") is None


def test_nodes_that_an_output_does_not_need_are_removed(definition: Any) -> None:
    small = pruned(definition, ["softmax:0"])
    names = {node.name for node in small.node}
    assert names == ancestors({node.name: node for node in definition.node}, ["softmax"])
    assert {"photo", "doubled", "softmax"} <= names
    assert not {"output", "grid", "other"} & names
    assert len(definition.node) > len(small.node)
    with pytest.raises(KeyError):
        pruned(definition, ["nothing"])
