"""ONNX files are read with their external data into one self-contained network."""

from __future__ import annotations

import hashlib
import inspect
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.errors import raises
from tests.support.foreign_onnx import external
from tests.support.tiny import tiny_graph
from trtpoets.core import onnx_load
from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.onnx_load import (
    check_part_count,
    embed_external_data,
    is_self_contained,
    load_self_contained,
    tensors_of,
)
from trtpoets.core.protobuf import check_field_count


def test_tensors_of_another_size_than_their_shape(tmp_path: Path) -> None:
    path = external(tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weights.dims[0] = 800
    path.write_bytes(model.SerializeToString())
    with raises(BadArtefact, "TP1047", "w", "864", "86,400"):
        check_onnx(path)


def test_a_file_without_external_data_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(tiny_graph().SerializeToString())
    loaded = load_self_contained(path)
    assert (loaded.content, loaded.with_external) == (path.read_bytes(), "")
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert is_self_contained(loaded.content)


def test_external_data_becomes_part_of_the_content_and_of_the_identity(tmp_path: Path) -> None:
    path = external(tmp_path)
    assert not is_self_contained(path.read_bytes())
    loaded = load_self_contained(path)
    assert is_self_contained(loaded.content)
    network = onnx.load_from_string(loaded.content)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in network.graph.initializer}
    for tensor in tiny_graph().graph.initializer:
        np.testing.assert_array_equal(weights[tensor.name], numpy_helper.to_array(tensor))
    assert loaded.sha256 not in ("", hashlib.sha256(loaded.content).hexdigest())
    other = load_self_contained(external(tmp_path / "other", scale=2.0))
    assert other.sha256 != loaded.sha256


def test_external_data_without_a_location_is_an_error(tmp_path: Path) -> None:
    model = onnx.load(str(external(tmp_path)), load_external_data=False)
    with raises(BadArtefact, "TP1046"):
        embed_external_data(model, {}, tmp_path / "net.onnx")


def test_tensors_of_subgraphs_sparse_tensors_and_functions_are_listed() -> None:
    def tensor(name: str) -> onnx.TensorProto:
        return numpy_helper.from_array(np.arange(2, dtype=np.int64), name)

    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor("in a node"))], "inner", [], [])
    node = helper.make_node("If", ["flag"], ["out"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "outer", [], [], [tensor("initializer")])
    graph.sparse_initializer.append(helper.make_sparse_tensor(tensor("values"), tensor("indices"), [4]))
    model = helper.make_model(graph)
    function = model.functions.add()
    function.node.append(helper.make_node("Constant", [], ["z"], value=tensor("in a function")))
    names = [proto.name for proto in tensors_of(model) if proto.name]
    assert sorted(set(names)) == ["in a function", "in a node", "indices", "initializer", "values"]
    assert names.count("in a node") == 2


def test_a_file_with_too_many_fields_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.onnx"
    assert inspect.signature(check_field_count).parameters["most"].default == 5_000_000
    monkeypatch.setattr(onnx_load, "check_field_count", partial(check_field_count, most=1000))
    check_part_count(path, b"\x08\x01" * 1000)
    check_part_count(path, b"\xff" * 40)  # no protobuf: the parser reports that
    with raises(BadArtefact, "TP1045", "x.onnx"):
        check_part_count(path, b"\x08\x01" * 1001)
