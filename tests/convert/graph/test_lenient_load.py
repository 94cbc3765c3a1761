"""ONNX files are read for a description, with the complaints of ONNX's checker."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.lenient_load import read_unchecked
from trtpoets.core.errors import BadArtefact


def test_a_valid_file_has_no_complaints(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(residual_network().SerializeToString())
    read = read_unchecked(path)
    assert (read.complaints, read.external) == ((), ())
    assert len(read.model.graph.node) == len(residual_network().graph.node)


def test_every_unknown_operator_is_named(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    nodes = [helper.make_node(kind, ["x"], [out]) for kind, out in (("Swirl", "a"), ("Swirl", "b"), ("Twist", "y"))]
    model = helper.make_model(helper.make_graph(nodes, "net", values[:1], values[1:]))
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    text = "\n".join(read_unchecked(path).complaints)
    assert "no operator Swirl, which is used by 2 nodes" in text
    assert "no operator Twist, which is used by 1 nodes" in text


@pytest.mark.parametrize("cut", [20, 300])
def test_a_truncated_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(residual_network().SerializeToString()[:-cut])
    with pytest.raises(BadArtefact):
        read_unchecked(path)


def test_a_file_without_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8, producer_name="none").SerializeToString())
    with pytest.raises(BadArtefact):
        read_unchecked(path)
