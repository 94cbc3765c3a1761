"""ONNX files for older operator sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.errors import raises
from tests.support.tiny import tiny_onnx
from trtpoets.convert.opset_downgrade import onnx_for_older
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.types import OnnxModel


def with_nodes(model: OnnxModel, change: Any) -> OnnxModel:
    import onnx

    proto = onnx.load(str(model.path))
    change(proto.graph.node)
    onnx.save(proto, str(model.path))
    return model


def test_what_an_old_operator_set_can_not_say_is_refused(tmp_path: Path) -> None:
    from onnx import helper

    def modern(nodes: Any) -> None:
        next(node for node in nodes if node.op_type == "Relu").CopyFrom(helper.make_node("Trilu", ["c"], ["r"]))

    model = with_nodes(tiny_onnx(tmp_path / "new.onnx"), modern)
    with raises(ConversionFailed, "TP3051", "13", "Trilu") as caught:
        onnx_for_older(model, tmp_path / "old.onnx", opset=13)
    assert caught.value.hint == "trtpoets export NAME --opset 13 && trtpoets quantize NAME"
    assert not (tmp_path / "old.onnx").exists()


def test_a_network_without_a_cast_keeps_its_photos(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    def shifted(nodes: Any) -> None:
        nodes[0].input[0] = "same"
        nodes.insert(0, helper.make_node("Identity", ["photos"], ["same"], to=None))

    model = with_nodes(tiny_onnx(tmp_path / "new.onnx"), shifted)
    assert check_onnx(model.path).graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    with raises(ConversionFailed, "TP3052", "Identity"):
        onnx_for_older(model, tmp_path / "old.onnx", float_photos=True)
