"""The variant of an INT8 file whose remainder is FP16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from tests.convert.test_precision import CONFIG, batch_of, int8, rtx_builds
from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.small_networks import photos_in, residual_network, saved
from tests.support.tiny import tiny_onnx
from trtpoets.convert.fp16_remainder import with_fp16_remainder
from trtpoets.convert.graph.graph_view import QUANTISERS
from trtpoets.convert.graph.last_layer import last_layer, with_last_layer
from trtpoets.convert.int8.calibration import calibration_from_photos
from trtpoets.core.errors import BadInput
from trtpoets.core.onnx_file import check_onnx, metadata_of, open_session, opset_of, read_onnx
from trtpoets.core.onnx_graph import MIXED_OPSET, fp32_nodes, read_graph
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Precision


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 5, "rose": 4}))


@pytest.fixture(scope="module")
def quantised(photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return int8_file(tmp_path_factory.mktemp("model"), photos)


def int8_file(folder: Path, photos: list[Photo], head: float = 1.0) -> OnnxModel:
    """An INT8 file, of a network whose last layer multiplies by `head` as much."""
    path = folder / "fp32.onnx"
    model = saved(residual_network(), path)
    if head != 1.0:
        proto = check_onnx(path)
        for constant in proto.graph.initializer:
            if constant.name == last_layer(proto).weights_name:
                large = numpy_helper.to_array(constant) * np.float32(head)
                constant.CopyFrom(numpy_helper.from_array(large, constant.name))
        path.write_bytes(proto.SerializeToString())
    ranges = calibration_from_photos(model, photos, CONFIG).by_method[0]
    return int8(model, ranges, photos, folder / "int8.onnx")[0]


def named(model: OnnxModel) -> tuple[str, ...]:
    return fp32_nodes(read_graph(model.path.read_bytes()))


def scores(model: OnnxModel, photos: list[Photo]) -> np.ndarray:
    session = open_session(model.path, as_written=True)
    return np.asarray(session.run(None, {INPUT_NAME: batch_of(model, photos)})[0])


def test_an_int8_file_lists_its_fp32_nodes(quantised: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    assert named(quantised) == ("softmax",)
    proto = check_onnx(quantised.path)
    layer = last_layer(proto)
    assert metadata_of(with_last_layer(proto, layer.weights, layer.bias)) == metadata_of(proto), "another head"
    large = named(int8_file(tmp_path, photos, head=1e5))
    assert {"softmax", "head"} <= {*large}, "logits beyond FP16's range"


def test_the_remainder_becomes_fp16(quantised: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    variant = with_fp16_remainder(quantised, tmp_path / "variant.onnx")
    assert read_onnx(variant.path).precision is Precision.INT8
    proto, before = check_onnx(variant.path), check_onnx(quantised.path)
    assert opset_of(proto) == MIXED_OPSET and metadata_of(proto) == metadata_of(before)
    types = {item.name: item.data_type for item in proto.graph.initializer}
    pairs, pairs_before = ([node for node in item.graph.node if node.op_type in QUANTISERS] for item in (proto, before))
    assert [node.name for node in pairs] == [node.name for node in pairs_before]
    assert {types[node.input[1]] for node in pairs} == {TensorProto.FLOAT}, "scales in FP16 would ruin the network"
    given = {
        attribute.i
        for node in pairs
        if node.op_type == "DequantizeLinear"
        for attribute in node.attribute
        if attribute.name == "output_dtype"
    }
    assert given == {TensorProto.FLOAT16}
    biases = [name for name in types if ".bias" in name]
    assert biases and {types[name] for name in biases} == {TensorProto.FLOAT16}
    result, expected = scores(variant, photos), scores(quantised, photos)
    assert np.abs(result - expected).max() < 0.02
    assert (result.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.allclose(result.sum(axis=1), 1.0, atol=1e-6), "the softmax is FP32"


def test_nodes_that_are_named_stay_fp32(photos: list[Photo], tmp_path: Path) -> None:
    """Their logits would be infinite in FP16."""
    model = int8_file(tmp_path, photos, head=1e5)
    result = scores(with_fp16_remainder(model, tmp_path / "variant.onnx"), photos)
    assert np.isfinite(result).all() and np.allclose(result.sum(axis=1), 1.0, atol=1e-6)


def test_the_real_tensorrt_rtx_builds_it(quantised: OnnxModel, tmp_path: Path) -> None:
    assert rtx_builds(with_fp16_remainder(quantised, tmp_path / "variant.onnx").path)


def test_files_without_a_variant(tmp_path: Path) -> None:
    with raises(BadInput, "TP3001", "fp16"):
        with_fp16_remainder(tiny_onnx(tmp_path / "fp16.onnx", Precision.FP16), tmp_path / "out.onnx")
    with raises(BadInput, "TP3002") as caught:
        with_fp16_remainder(tiny_onnx(tmp_path / "int8.onnx", Precision.INT8), tmp_path / "out.onnx")
    assert caught.value.hint == "write it again: trtpoets quantize NAME"
    assert not (tmp_path / "out.onnx").exists()
