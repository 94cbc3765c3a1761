"""Conversion of fp32.onnx to FP16 and INT8: scores, structure of the files, and errors."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.small_networks import LABELS, Network, photos_in, residual_network, saved
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, calibration_from_photos
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import Int8Notes, int8_from_onnx
from trtpoets.convert.precision import fp16_from_onnx
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import CALIBRATION_KEY, LABELS_KEY, metadata_of, open_session, read_onnx
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Precision

CONFIG = CalibrationConfig(method=Method.MINMAX)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return saved(residual_network(), tmp_path_factory.mktemp("model") / "fp32.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 5, "rose": 4}))


@pytest.fixture(scope="module")
def ranges(model: OnnxModel, photos: list[Photo]) -> Ranges:
    return calibration_from_photos(model, photos, CONFIG).by_method[0]


def int8(model: OnnxModel, ranges: Ranges, photos: list[Photo], out: Path) -> tuple[OnnxModel, Int8Notes]:
    return int8_from_onnx(Int8Evaluator(model, photos, (), Int8Config(max_float_layers=0)), ranges, out)


def batch_of(model: OnnxModel, photos: list[Photo]) -> np.ndarray:
    (batch,) = photo_batches([photo.path for photo in photos], model.spec.preprocess, 100)
    return batch


def scores(model: OnnxModel, photos: list[Photo]) -> np.ndarray:
    result: np.ndarray = open_session(model.path).run(None, {INPUT_NAME: batch_of(model, photos)})[0]
    return result


def rtx_builds(path: Path, batch: int = 2) -> bool:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        return False
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    shape = tuple(network.get_input(0).shape)[1:]
    profile.set_shape(INPUT_NAME, (1, *shape), (batch, *shape), (batch, *shape))
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config) is not None


# -- int8 ----------------------------------------------------------------------------------------------------------


def test_int8_scores_are_close_to_fp32(model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path) -> None:
    converted, notes = int8(model, ranges, photos, tmp_path / "int8.onnx")
    int8_scores = scores(converted, photos)
    assert int8_scores.dtype == np.float32
    np.testing.assert_allclose(int8_scores.sum(axis=1), 1, atol=1e-5)
    difference = np.abs(int8_scores - scores(model, photos)).max()
    assert 0 < difference < 0.05
    assert (notes.convolutions, notes.convolutions_int8, notes.products, notes.products_int8) == (6, 6, 1, 0)
    assert set(notes.in_float) == {"head"}
    assert read_onnx(converted.path) == OnnxModel(converted.path, Precision.INT8, model.spec)


def test_int8_graph_has_the_form_that_tensorrt_reads(
    model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path
) -> None:
    converted, notes = int8(model, ranges, photos, tmp_path / "int8.onnx")
    proto = onnx.load(converted.path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    producers = {node.output[0]: node for node in proto.graph.node}
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert (constants[node.input[1]] > 0).all()
            assert constants[node.input[1]].dtype == np.float32
            assert constants[node.input[2]].dtype == np.int8
            assert not constants[node.input[2]].any()
            assert constants[node.input[1]].shape == constants[node.input[2]].shape
        if node.op_type == "Conv":
            data, weight = producers[node.input[0]], producers[node.input[1]]
            assert data.op_type == weight.op_type == "DequantizeLinear"
            assert constants[data.input[1]].shape == ()
            source = producers[weight.input[0]]
            assert constants[source.input[0]].dtype == np.float32, "TensorRT 8.x requires FP32 weights before the pair"
            assert constants[weight.input[1]].shape == constants[source.input[0]].shape[:1]
            assert node.input[2] in constants, "biases get no pair"
    kinds = Counter(node.op_type for node in proto.graph.node)
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == notes.pairs == 6 + 7
    assert metadata_of(proto)[CALIBRATION_KEY] == ranges.hash
    assert metadata_of(proto)[LABELS_KEY] == "\n".join(LABELS)
    assert proto.opset_import[0].version == 17
    assert proto.ir_version == 8


def test_share_of_multiply_adds(model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path) -> None:
    _, notes = int8(model, ranges, photos, tmp_path / "int8.onnx")
    pixels = 16 * 16
    work = pixels * (16 * 27 + 16 * 9 + 16 * 16 + 16 * 32 + 32 * 16 + 16 * 32)
    assert notes.multiply_adds == work + 32 * 3
    assert notes.share == pytest.approx(work / notes.multiply_adds)


def test_tensors_of_a_concat_share_the_largest_scale(photos: list[Photo], tmp_path: Path) -> None:
    net = Network()
    branches = [net.unary("Relu", net.conv(net.features, 16, name), f"{name}_relu") for name in "ab"]
    model = saved(net.model(net.conv(net.concat(branches, "join"), 16, "top")), tmp_path / "fp32.onnx")
    ranges = calibration_from_photos(model, photos, CONFIG).by_method[0]
    converted, _ = int8(model, ranges, photos, tmp_path / "int8.onnx")
    initializers = onnx.load(converted.path).graph.initializer
    scales = {t.name: numpy_helper.to_array(t) for t in initializers if ".scale" in t.name}
    widest = max(ranges.tensors[name][1] for name in ("a_relu:0", "b_relu:0", "join:0"))
    shared = {float(scales[f"{name}.scale"]) for name in ("a_relu", "b_relu", "join")}
    assert shared == {float(np.float32(widest / 127))}
    assert rtx_builds(converted.path)


def test_readers_of_a_tensor_that_is_always_zero_stay_in_fp32(photos: list[Photo], tmp_path: Path) -> None:
    proto = residual_network()
    for tensor in proto.graph.initializer:
        if tensor.name == "expand.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(32, -100, np.float32), "expand.bias"))
    model = saved(proto, tmp_path / "fp32.onnx")
    converted, notes = int8(
        model, calibration_from_photos(model, photos, CONFIG).by_method[0], photos, tmp_path / "int8.onnx"
    )
    assert notes.in_float["back"] == "expand_relu:0 is 0 for every calibration photo"
    assert notes.convolutions_int8 == 5
    assert notes.share < 0.9
    assert np.isfinite(scores(converted, photos)).all()


def test_ranges_of_another_network_or_damaged_ones(
    model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path
) -> None:
    other = saved(residual_network(seed=1), tmp_path / "other.onnx")
    with raises(BadArtefact, "TP3025", "other.onnx"):
        int8(other, ranges, photos, tmp_path / "int8.onnx")
    less = {name: span for name, span in ranges.tensors.items() if name != "project:0"}
    with raises(BadArtefact, "TP3027", "project:0"):
        int8(model, Ranges(**{**ranges.__dict__, "tensors": less}), photos, tmp_path / "int8.onnx")
    wrong = {**ranges.tensors, "project:0": (0.0, float("nan"))}
    with raises(BadArtefact, "TP3028", "project:0", "0.0", "nan"):
        int8(model, Ranges(**{**ranges.__dict__, "tensors": wrong}), photos, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_a_network_without_any_layer_for_int8(photos: list[Photo], tmp_path: Path) -> None:
    net = Network()
    model = saved(net.model(net.conv(net.features, 3, "odd")), tmp_path / "fp32.onnx")
    with raises(ConversionFailed, "TP3026", "odd"):
        int8(model, calibration_from_photos(model, photos, CONFIG).by_method[0], photos, tmp_path / "int8.onnx")


def test_only_fp32_files_are_converted(model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path) -> None:
    converted, _ = int8(model, ranges, photos, tmp_path / "int8.onnx")
    with raises(BadInput, "TP3057", "int8.onnx", "int8"):
        int8(converted, ranges, photos, tmp_path / "again.onnx")
    with raises(BadInput, "TP3057", "int8.onnx", "int8"):
        fp16_from_onnx(converted, photos, tmp_path / "again.onnx")


# -- fp16 ----------------------------------------------------------------------------------------------------------


def test_fp16_scores_are_close_to_fp32(model: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    converted, notes = fp16_from_onnx(model, photos, tmp_path / "fp16.onnx", lambda *update: progress.append(update))
    fp16_scores = scores(converted, photos)
    assert fp16_scores.dtype == np.float32
    np.testing.assert_allclose(fp16_scores.sum(axis=1), 1, atol=1e-5)
    assert 0 < notes.max_abs < 0.01
    assert notes.max_abs == pytest.approx(np.abs(fp16_scores - scores(model, photos)).max(), rel=1e-3)
    assert notes.kept_fp32 == {"softmax": "Softmax sums exponentials"}
    assert (notes.largest, notes.largest_at) == (batch_of(model, photos).max(), "cast:0")
    assert notes.same_answer == 1.0
    assert progress[-1] == ("fp16", 18, 18)
    assert read_onnx(converted.path).precision is Precision.FP16


def test_fp16_graph_has_half_the_bytes_and_two_casts(model: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    converted, _ = fp16_from_onnx(model, photos, tmp_path / "fp16.onnx")
    proto = onnx.load(converted.path)
    assert {tensor.data_type for tensor in proto.graph.initializer} == {TensorProto.FLOAT16}
    assert [node.name for node in proto.graph.node if node.op_type == "Cast"] == ["cast", "head:0.fp32/Cast"]
    assert converted.path.stat().st_size < 0.7 * model.path.stat().st_size
    assert proto.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert proto.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def changed(path: Path, name: str, factor: float) -> OnnxModel:
    proto = residual_network()
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype(np.float32), name))
    return saved(proto, path / "fp32.onnx")


def test_nodes_with_activations_beyond_fp16_stay_fp32(photos: list[Photo], tmp_path: Path) -> None:
    model = changed(tmp_path, "expand.weight", 1e5)
    converted, notes = fp16_from_onnx(model, photos, tmp_path / "fp16.onnx")
    assert "expand:0 reaches" in notes.kept_fp32["expand"]
    assert "the limit of FP16 is 65504" in notes.kept_fp32["expand_relu"]
    assert "stem" not in notes.kept_fp32
    assert notes.max_abs < 0.01
    assert np.isfinite(scores(converted, photos)).all()
    assert rtx_builds(converted.path)


def test_nodes_with_weights_that_do_not_fit_fp16_stay_fp32(photos: list[Photo], tmp_path: Path) -> None:
    _, notes = fp16_from_onnx(changed(tmp_path, "depthwise.weight", 1e-7), photos, tmp_path / "fp16.onnx")
    assert "depthwise.weight contains values too small for FP16" in notes.kept_fp32["depthwise"]
    _, notes = fp16_from_onnx(changed(tmp_path, "depthwise.bias", 1e6), photos, tmp_path / "fp16.onnx")
    assert "depthwise" in notes.kept_fp32


def test_fp16_needs_photos(model: OnnxModel, tmp_path: Path) -> None:
    with raises(BadInput, "TP3056"):
        fp16_from_onnx(model, [], tmp_path / "fp16.onnx")


# -- both ----------------------------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes(
    model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path
) -> None:
    for number in range(2):
        int8(model, ranges, photos, tmp_path / f"int8-{number}.onnx")
        fp16_from_onnx(model, photos, tmp_path / f"fp16-{number}.onnx")
    assert (tmp_path / "int8-0.onnx").read_bytes() == (tmp_path / "int8-1.onnx").read_bytes()
    assert (tmp_path / "fp16-0.onnx").read_bytes() == (tmp_path / "fp16-1.onnx").read_bytes()


def test_tensorrt_rtx_builds_each_precision(
    model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path
) -> None:
    assert rtx_builds(model.path)
    assert rtx_builds(int8(model, ranges, photos, tmp_path / "int8.onnx")[0].path)
    assert rtx_builds(fp16_from_onnx(model, photos, tmp_path / "fp16.onnx")[0].path)


def test_a_truncated_file(model: OnnxModel, ranges: Ranges, photos: list[Photo], tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(model.path.read_bytes()[:2000])
    broken = OnnxModel(half, Precision.FP32, model.spec)
    with raises(BadArtefact, "TP1038", "half.onnx"):
        fp16_from_onnx(broken, photos, tmp_path / "fp16.onnx")
    with raises(BadArtefact, "TP1038", "half.onnx"):
        calibration_from_photos(broken, photos, CONFIG)
