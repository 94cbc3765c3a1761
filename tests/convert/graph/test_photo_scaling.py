"""Scaling after the transposition: the same bits, in fewer small steps."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from trtpoets.convert.graph.photo_scaling import with_scaling_by_planes
from trtpoets.core.onnx_file import open_session

PHOTOS = np.random.default_rng(1).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)


def network(operators: list[tuple[str, Any, int]], perm: tuple[int, ...] = (0, 3, 1, 2)) -> Any:
    """A network that applies operators (name, constant, its input index) to photos, and transposes the result."""
    tensor, nodes, constants = "cast", [helper.make_node("Cast", ["photos"], ["cast"], name="cast", to=1)], []
    for number, (operator, constant, index) in enumerate(operators):
        constants.append(numpy_helper.from_array(np.asarray(constant, np.float32), f"constant_{number}"))
        inputs = [tensor, constants[-1].name] if index else [constants[-1].name, tensor]
        tensor = f"scaled_{number}"
        nodes.append(helper.make_node(operator, inputs, [tensor], name=tensor))
    nodes.append(helper.make_node("Transpose", [tensor], ["planes"], name="transpose", perm=perm))
    nodes.append(helper.make_node("Relu", ["planes"], ["out"], name="relu"))
    graph = helper.make_graph(
        nodes,
        "scaling",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["N", 6, 5, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None] * 4)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def output_of(model: Any) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = open_session(model.SerializeToString(), threads=1)
    return np.asarray(session.run(None, {"photos": PHOTOS})[0])


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


NUMBERS = st.floats(0.125, 100, width=32)
CONSTANTS = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, min_size=3, max_size=3),
    st.lists(NUMBERS, min_size=3, max_size=3).map(lambda values: np.reshape(values, (1, 1, 1, 3))),
)


@given(st.lists(st.tuples(st.sampled_from(("Mul", "Div", "Add", "Sub")), CONSTANTS, st.integers(0, 1)), max_size=4))
def test_the_output_has_the_same_bits(operators: list[tuple[str, Any, int]]) -> None:
    model = network(operators)
    moved = with_scaling_by_planes(model)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(output_of(moved), output_of(model))
    expected = ["Cast", "Transpose", *(operator for operator, _, _ in operators), "Relu"]
    assert kinds(moved) == expected


def test_constants_follow_the_channels_and_equal_channels_become_one_number() -> None:
    moved = with_scaling_by_planes(network([("Mul", [1, 2, 3], 1), ("Add", [4, 4, 4], 1)]))
    assert [list(constant.dims) for constant in moved.graph.initializer] == [[3, 1, 1], []]


@pytest.mark.parametrize(
    "model",
    [
        network([]),
        network([("Mul", [1, 2, 3], 1)], perm=(0, 3, 2, 1)),
        network([("Mul", np.ones((5, 3)), 1)]),
        network([("Mul", np.ones((5, 1)), 1)]),
    ],
    ids=["no scaling", "another transposition", "a constant of positions and channels", "a constant of positions"],
)
def test_other_networks_stay_as_they_are(model: Any) -> None:
    assert with_scaling_by_planes(model) is model


def test_a_scaled_tensor_that_something_else_reads_is_not_moved() -> None:
    model = network([("Mul", [1, 2, 3], 1)])
    model.graph.output.append(helper.make_tensor_value_info("scaled_0", TensorProto.FLOAT, [None] * 4))
    assert with_scaling_by_planes(model) is model


def test_nodes_without_names_are_kept_apart() -> None:
    model = network([("Mul", [1, 2, 3], 1), ("Add", [4, 5, 6], 1)])
    expected = output_of(model)
    for node in model.graph.node:
        node.name = ""
    moved = with_scaling_by_planes(model)
    assert kinds(moved) == ["Cast", "Transpose", "Mul", "Add", "Relu"]
    np.testing.assert_array_equal(output_of(moved), expected)


def test_the_given_network_is_not_changed() -> None:
    model = network([("Mul", [1, 2, 3], 1)])
    before = model.SerializeToString()
    with_scaling_by_planes(model)
    assert model.SerializeToString() == before
