"""ONNX files are read with their external data, in a form with initializers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, plain, saved, scores
from tests.adoption.onnx.wrapping import largest_difference
from tests.core.test_file_kinds import POINTER
from tests.support.errors import raises
from tests.support.tiny import tiny_onnx
from trtpoets.adoption.contract import Pixels
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.errors import MissingArtefact, TrtPoetsError
from trtpoets.core.onnx_file import FORM_KEY, metadata_of
from trtpoets.core.original import Channels
from trtpoets.core.types import Int8Form


def test_external_data_is_embedded(tmp_path: Path) -> None:
    model = onnx.load(plain(tmp_path / "whole.onnx"))
    path = tmp_path / "a.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    whole = read_onnx_classifier(tmp_path / "whole.onnx")
    assert read_onnx_classifier(path).sha256 != whole.sha256
    assert largest_difference(path, tmp_path / "out" / "fp32.onnx") < 1e-5
    (tmp_path / "weights.bin").unlink()
    with raises(MissingArtefact, "TP1950", "weights.bin"):
        read_onnx_classifier(path)


def test_image_scaler_and_old_attributes(tmp_path: Path) -> None:
    net = Foreign(7)
    x = net.op("ImageScaler", "data", scale=1.0, bias=[-104.0, -117.0, -123.0])
    x = net.op("Mul", x, net.number(1 / 64))
    statistics = [net.number(values) for values in ([1.0] * 3, [0.1] * 3, [0.0] * 3, [1.0] * 3)]
    x = net.op("BatchNormalization", x, *statistics, spatial=1)
    x = net.op("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0])
    x = net.op("Dropout", x, ratio=0.5)
    net.op("Softmax", net.logits(x), outputs=["output"], axis=1)
    model = net.model([image((1, 3, SIDE, SIDE), "data")], [scores((1, CLASSES))], ir_version=3)
    path = saved(model, tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.fixed is not None
    assert foreign.fixed.pixels.channels is Channels.BGR
    pixels = Pixels((1.0,) * 3, (0.0,) * 3, Channels.BGR, "0..255")
    assert foreign.fixed.pixels.same_as(pixels)
    assert "Add (-104, -117, -123)" in foreign.fixed.evidence.text
    assert largest_difference(path, tmp_path / "fp32.onnx", pixels) < 1e-5


def test_initializers_among_the_inputs(tmp_path: Path) -> None:
    net = Foreign(9)
    net.op("Softmax", net.logits("input"), outputs=["output"], axis=1)
    model = net.model([image()], [scores()], ir_version=3)
    for tensor in net.constants:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert largest_difference(saved(model, tmp_path / "a.onnx"), tmp_path / "fp32.onnx") < 1e-5


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    cases: list[tuple[bytes, str, str]] = [
        (POINTER.encode(), "TP1011", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "TP1011", "HTML"),
        (plain(path).read_bytes()[:200], "TP9201", "ONNX"),
    ]
    for content, code, value in cases:
        path.write_bytes(content)
        with raises(TrtPoetsError, code, path, value):
            read_onnx_classifier(path)
    with raises(TrtPoetsError, "TP9200"):
        read_onnx_classifier(tmp_path / "nothing.onnx")
    for form, verb in ((Int8Form.TENSORRT, "build"), (Int8Form.CPU, "inspect")):
        model = onnx.load(tiny_onnx(path).path)
        onnx.helper.set_model_props(model, {**metadata_of(model), FORM_KEY: form.value})
        onnx.save(model, path)
        with raises(TrtPoetsError, "TP9203") as caught:
            read_onnx_classifier(path)
        assert caught.value.hint == f"trtpoets {verb} {path}"


@pytest.mark.parametrize("opset", [6, 24])
def test_other_opsets(tmp_path: Path, opset: int) -> None:
    with raises(TrtPoetsError, "TP9205", opset, "7", "23"):
        read_onnx_classifier(plain(tmp_path / "a.onnx", opset=opset))
