"""Shapes of Reshapes that are computed from the sizes of tensors become constant, where they can."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtpoets.convert.graph.constant_shapes import constant_shape, with_constant_shapes
from trtpoets.convert.graph.naming import canonical
from trtpoets.core.onnx_file import open_session

RANDOM = np.random.default_rng(0)
PHOTOS = RANDOM.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)


def _dense_on_maps() -> onnx.ModelProto:
    """A Dense layer on (N, 4, 5, 3) as tf2onnx writes it: its output has the sizes of its input, with 7 channels."""
    constants: dict[str, np.ndarray] = {
        "flat": np.array([-1, 3], np.int64),
        "weights": RANDOM.normal(size=(3, 7)).astype(np.float32),
        "first": np.array([0, 1, 2], np.int64),
        "channels": np.array([7], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["photos"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["x", "flat"], ["matrix"]),
        helper.make_node("MatMul", ["matrix", "weights"], ["product"]),
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["outer"]),
        helper.make_node("Concat", ["outer", "channels"], ["target"], axis=0),
        helper.make_node("Reshape", ["product", "target"], ["maps"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["N", 4, 5, 3])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 4, 5, 7])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_chain_of_sizes_becomes_a_constant_and_the_results_stay_the_same() -> None:
    model = _dense_on_maps()
    clean = canonical(with_constant_shapes(model), "photos", "maps", {})
    assert [node.op_type for node in clean.graph.node] == ["Cast", "Reshape", "MatMul", "Reshape"]
    target = clean.graph.node[-1].input[1]
    (shape,) = (numpy_helper.to_array(value) for value in clean.graph.initializer if value.name == target)
    assert shape.tolist() == [-1, 4, 5, 7]
    for photos in (PHOTOS, PHOTOS[:1]):
        before, after = (
            open_session(each.SerializeToString()).run(["maps"], {"photos": photos})[0] for each in (model, clean)
        )
        np.testing.assert_array_equal(before, after)


def test_a_network_without_such_chains_is_returned_as_it_is() -> None:
    model = canonical(with_constant_shapes(_dense_on_maps()), "photos", "maps", {})
    assert with_constant_shapes(model) is model


def test_a_shape_that_depends_on_pixels_stays_computed() -> None:
    model = _dense_on_maps()
    model.graph.node[3].CopyFrom(helper.make_node("Identity", ["pixel_sizes"], ["sizes"]))
    model.graph.node.insert(3, helper.make_node("Cast", ["x"], ["pixel_sizes"], to=TensorProto.INT64))
    assert with_constant_shapes(model) is model


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ([1, 4, 7], [2, 4, 7], [-1, 4, 7]),
        ([20, 7], [40, 7], [-1, 7]),
        ([4, 7], [4, 7], [4, 7]),
        ([-1, 7], [-1, 7], [-1, 7]),
        ([1, 1, 7], [2, 2, 7], None),
        ([-1, 1], [-1, 2], None),
        ([1, 7], [3, 7], None),
        ([1, 7], [1, 1, 7], None),
    ],
)
def test_only_a_size_that_grows_with_the_photos_is_left_open(
    one: list[int], two: list[int], expected: list[int] | None
) -> None:
    shape = constant_shape(np.array(one), np.array(two))
    assert (None if shape is None else shape.tolist()) == expected
