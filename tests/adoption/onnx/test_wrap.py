"""fp32.onnx of ONNX classifiers of other programs gives the scores of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, plain, saved, scores
from trtpoets.adoption.contract import CAFFE, IMAGENET, RAW, SIGNED, UNIT, Contract, Geometry, Pixels
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.adoption.onnx.float32 import computes_in_half
from trtpoets.convert.int8.quantised_files import unsuitable_quantisation
from trtpoets.core.errors import ConversionFailed, MissingArtefact, RunFailed
from trtpoets.core.onnx_file import open_session, opset_of, read_onnx
from trtpoets.core.onnx_metadata import fixed_batch
from trtpoets.core.original import (
    Answers,
    Channels,
    Layout,
    Original,
    classes_of,
    scores_from_output,
    values_from_photos,
)
from trtpoets.core.types import ModelSpec
from trtpoets.device.original_onnx import OnnxNetwork

GRAY = Pixels((1 / 255,) * 3, (0.0,) * 3, Channels.GRAY, "0..1")


def spec_for(foreign: ForeignModel, pixels: Pixels = UNIT, side: int = SIDE) -> ModelSpec:
    preprocess = Contract(pixels, Geometry()).preprocess(foreign.height or side, foreign.width or side)
    original = Original(
        foreign.format,
        foreign.path.name,
        foreign.sha256,
        foreign.clues.writer,
        foreign.input,
        foreign.output,
        pixels.channels,
    )
    labels = tuple(f"class {index}" for index in range(classes_of(foreign.output)))
    return ModelSpec("adopted", "onnx", preprocess, labels, foreign.sha256, original)


def largest_difference(path: Path, out: Path, pixels: Pixels = UNIT, count: int = 5) -> float:
    """Wrap a file; return the largest difference of its scores from those of the file for random photos."""
    foreign = read_onnx_classifier(path)
    spec = spec_for(foreign, pixels)
    wrapped, _ = fp32_from_onnx(foreign, spec, out)
    assert read_onnx(out).spec == spec
    size = (spec.preprocess.height, spec.preprocess.width)
    photos = np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    assert spec.original is not None
    with OnnxNetwork(path, foreign.input, foreign.output, threads=1) as network:
        raw = network.infer(values_from_photos(photos, spec.preprocess, pixels.channels))
    assert raw.shape == (count, foreign.output.size)
    assert raw.dtype == foreign.output.dtype
    expected = scores_from_output(raw, foreign.output)
    session = open_session(wrapped.path, 1)
    (given,) = session.run(["scores"], {"photos": photos})
    assert given.shape == (count, len(spec.labels))
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    assert count == 1 or expected.std(axis=0).max() > 1e-4, "the photos make no difference"
    return float(np.abs(given - expected).max())


@pytest.mark.parametrize("pixels", [RAW, UNIT, SIGNED, IMAGENET, CAFFE], ids=lambda pixels: pixels.name)
def test_pixels(tmp_path: Path, pixels: Pixels) -> None:
    path = plain(tmp_path / "a.onnx", scale=1 / 128 if pixels in (RAW, CAFFE) else 1)
    assert largest_difference(path, tmp_path / "fp32.onnx", pixels) < 1e-5


def test_nodes_are_few(tmp_path: Path) -> None:
    foreign = read_onnx_classifier(plain(tmp_path / "a.onnx"))
    fp32_from_onnx(foreign, spec_for(foreign, CAFFE), tmp_path / "fp32.onnx")
    model = onnx.load(tmp_path / "fp32.onnx")
    assert opset_of(model) == 17
    # Scales of 1 need no node, and BGR is in the weights of the convolution.
    assert [node.op_type for node in model.graph.node] == [
        *("Cast", "Add", "Transpose", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax")
    ]


ENDS: dict[str, Answers] = {
    "": Answers.LOGITS,
    "Softmax": Answers.PROBABILITIES,
    "LogSoftmax": Answers.LOG_PROBABILITIES,
    "Sigmoid": Answers.SIGMOID,
}


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 21, 23])
@pytest.mark.parametrize("end", ENDS)
def test_ends_and_opsets(tmp_path: Path, end: str, opset: int) -> None:
    net = Foreign(opset)
    logits = net.logits("input")
    net.op(
        "Identity",
        net.op(end, logits, axis=1) if "oft" in end else net.op(end or "Identity", logits),
        outputs=["output"],
    )
    path = saved(net.model([image()], [scores()], ir_version=3 if opset < 9 else 10), tmp_path / "a.onnx")
    assert read_onnx_classifier(path).output.answers is ENDS[end]
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_one_probability(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Sigmoid", net.logits("input", classes=1), outputs=["output"])
    path = saved(net.model([image()], [scores(("N", 1))]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-6


@pytest.mark.parametrize("batch", [1, 4, "N"])
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts(tmp_path: Path, layout: Layout, channels: int, batch: Any) -> None:
    net = Foreign(13)
    nchw = "input" if layout is Layout.NCHW else net.op("Transpose", "input", perm=[0, 3, 1, 2])
    net.op("Softmax", net.logits(nchw, channels), outputs=["output"])
    sizes = (SIDE, 24, channels) if layout is Layout.NHWC else (channels, SIDE, 24)
    path = saved(net.model([image((batch, *sizes))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.height, foreign.width, foreign.channels) == (SIDE, 24, channels)
    assert (foreign.input.layout, foreign.input.batch) == (layout, batch if batch != "N" else 0)
    assert largest_difference(path, tmp_path / "fp32.onnx", UNIT if channels == 3 else GRAY) < 1e-5


@pytest.mark.parametrize("batch", [1, 4])
def test_batch_inside_the_graph_becomes_dynamic(tmp_path: Path, batch: int) -> None:
    """Shuffled channels, tokens with a class token, and attention with the batch in the second axis."""
    net = Foreign()
    weights = net.number(net.random.normal(0, 0.3, (8, 3, 4, 4)))
    x = net.op("Conv", "input", weights, strides=[4, 4])
    x = net.op("Reshape", x, net.constant(np.array([batch, 2, 4, 4, 4])))
    x = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3, 4]), net.constant(np.array([batch, 8, 16])))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    token = net.number(np.broadcast_to(net.random.normal(0, 1, (1, 1, 8)), (batch, 1, 8)))
    x = net.op("Concat", token, x, axis=1)
    x = net.op("Add", x, net.number(net.random.normal(0, 1, (1, 17, 8))))
    x = net.op("Transpose", x, perm=[1, 0, 2])
    heads = [net.op("MatMul", x, net.number(net.random.normal(0, 1, (8, 8)))) for _ in range(3)]
    split = [net.op("Reshape", head, net.constant(np.array([17, batch * 2, 4]))) for head in heads]
    q, k, v = (net.op("Transpose", one, perm=[1, 0, 2]) for one in split)
    weights = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", weights, v), perm=[1, 0, 2])
    flat = net.op("Reshape", mixed, net.constant(np.array([17 * batch, 8])))
    flat = net.op("Gemm", flat, net.number(net.random.normal(0, 1, (8, 8))))
    x = net.op("Transpose", net.op("Reshape", flat, net.constant(np.array([17, batch, 8]))), perm=[1, 0, 2])
    x = net.op("Gather", x, net.constant(np.array(0)), axis=1)
    net.op("Gemm", x, net.number(net.random.normal(0, 1, (8, CLASSES))), outputs=["output"])
    path = saved(net.model([image((batch, 3, SIDE, SIDE))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def halves(net: Foreign, batch: int) -> str:
    """The photos of a batch in two halves, each by its own node: the batch can't be derived."""
    size = net.constant(np.array([batch // 2, batch // 2]))
    outputs = ["first", "second"]
    net.op("Split", "input", size, outputs=outputs, axis=0)
    return net.op("Concat", *(net.op("Abs", name) for name in outputs), axis=0)


def first_photo(net: Foreign, batch: int) -> str:
    """The photo without the axis of the batch, as some exporters write a batch of 1."""
    photo = net.op("Gather", "input", net.constant(np.array(0)), axis=0)
    return net.op("Unsqueeze", photo, net.constant(np.array([0])))


@pytest.mark.parametrize(("build", "batch"), [(first_photo, 1), (halves, 4), (halves, 64)])
def test_a_batch_that_cannot_be_made_dynamic_stays_fixed(
    tmp_path: Path, build: Callable[[Foreign, int], str], batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    net = Foreign()
    net.op("Identity", net.logits(build(net, batch)), outputs=["output"])
    path = saved(net.model([image((batch, 3, SIDE, SIDE))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    for count in (1, 5):
        assert largest_difference(path, tmp_path / "fp32.onnx", count=count) < 1e-5
    assert fixed_batch(tmp_path / "fp32.onnx") == batch
    assert f"the batch of a.onnx stays fixed at {batch}, because it cannot be made dynamic" in caplog.text
    sizes = [value.type.tensor_type.shape.dim[0].dim_value for value in onnx.load(tmp_path / "fp32.onnx").graph.output]
    assert sizes == [batch]


def test_a_batch_of_one_in_a_file_that_claims_any_is_an_error(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits(first_photo(net, 1)), outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    with pytest.raises(ConversionFailed, match="because its size 1 is fixed inside the graph"):
        fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")


def test_batch_that_mixes_photos_is_an_error(tmp_path: Path) -> None:
    net = Foreign()
    x = net.op("Sub", "input", net.op("ReduceMean", "input", axes=[0], keepdims=1))
    net.op("Identity", net.logits(x), outputs=["output"])
    path = saved(net.model([image((4, 3, SIDE, SIDE))], [scores((4, CLASSES))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    with pytest.raises(ConversionFailed, match=r"batch of a\.onnx cannot be made dynamic.*depend on the other photos"):
        fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")


def test_one_logit(tmp_path: Path) -> None:
    """The logit of the second of two classes."""
    net = Foreign()
    net.op("Identity", net.logits("input", classes=1), outputs=["output"])
    path = saved(net.model([image()], [scores(("N", 1))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.size, foreign.output.answers) == (1, Answers.LOGITS)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_float64(tmp_path: Path) -> None:
    """Scores prove that a network in float32 is equivalent; ONNX Runtime has no convolution that could prove it."""
    net = Foreign(13, np.float64)
    weights = net.number(net.random.normal(0, 0.1, (3 * SIDE * SIDE, CLASSES)))
    net.op("Softmax", net.op("Gemm", net.op("Flatten", "input"), weights), outputs=["output"])
    path = saved(net.model([image(dtype=np.float64)], [scores(dtype=np.float64)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.input.dtype == foreign.output.dtype == "float64"
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    assert onnx.TensorProto.DOUBLE not in {t.data_type for t in onnx.load(tmp_path / "fp32.onnx").graph.initializer}


def test_float16(tmp_path: Path) -> None:
    dtype = np.float16
    net = Foreign(13, dtype)
    net.op("Softmax", net.logits("input"), outputs=["output"])
    path = saved(net.model([image(dtype=dtype)], [scores(dtype=dtype)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.input.dtype == foreign.output.dtype == "float16"
    assert largest_difference(path, tmp_path / "fp32.onnx") < 2e-3
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "fp32.onnx").graph.initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_float16_inside(tmp_path: Path) -> None:
    """Input and output are float32; only the nodes between them may round, which depends on the processor."""
    net = Foreign(13, np.float16)
    half = net.op("Cast", "input", to=onnx.TensorProto.FLOAT16)
    softmax = net.op("Softmax", net.logits(half))
    net.op("Cast", softmax, to=onnx.TensorProto.FLOAT, outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.input.dtype == foreign.output.dtype == "float32"
    assert computes_in_half(onnx.load(path)) and not computes_in_half(onnx.load(plain(tmp_path / "plain.onnx")))
    assert largest_difference(path, tmp_path / "fp32.onnx") < 5e-3


def test_any_size(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["output"])
    path = saved(net.model([image(("N", 3, "H", "W"))], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.height, foreign.width) == (0, 0)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_size_that_only_the_weights_fix(tmp_path: Path) -> None:
    net = Foreign()
    flat = net.op("Flatten", net.op("AveragePool", "input", kernel_shape=[4, 4], strides=[4, 4]))
    net.op("Gemm", flat, net.number(net.random.normal(0, 0.1, (3 * 8 * 8, CLASSES))), outputs=["output"])
    path = saved(net.model([image(("N", 3, "H", "W"))], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.height, foreign.width) == (32, 32)


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.uint8, 0), (np.int8, -128)])
def test_integer_input_and_output(tmp_path: Path, dtype: Any, zero_point: int) -> None:
    net = Foreign(13)
    pixels = net.op("DequantizeLinear", "input", net.number(1 / 255), net.constant(dtype(zero_point)))
    probabilities = net.op("Softmax", net.logits(pixels))
    output = net.constant(dtype(zero_point))
    net.op("QuantizeLinear", probabilities, net.number(1 / 256), output, outputs=["output"])
    path = saved(net.model([image(dtype=dtype)], [scores(dtype=dtype)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.scale, foreign.output.zero_point) == (1 / 256, zero_point)
    assert foreign.fixed is not None
    assert foreign.fixed.pixels.same_as(UNIT)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1 / 128


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (SIDE, SIDE, 3)])
@pytest.mark.parametrize("pixels", [RAW, GRAY], ids=["colour", "grey"])
def test_uint8_pixels(tmp_path: Path, shape: tuple[int, ...], pixels: Pixels) -> None:
    channels = pixels.channels.number
    shape = tuple(channels if size == 3 else size for size in shape)
    net = Foreign(13)
    real = net.op("Cast", "input", to=onnx.TensorProto.FLOAT)
    real = net.op("Div", real, net.number(255))
    real = real if shape[0] == channels else net.op("Transpose", real, perm=[0, 3, 1, 2])
    net.op("Identity", net.logits(real, channels), outputs=["output"])
    path = saved(net.model([image((1, *shape), dtype=np.uint8)], [scores((1, CLASSES))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.fixed is not None
    whole = Pixels((1.0,) * 3, (0.0,) * 3, pixels.channels, "0..255")
    assert foreign.fixed.pixels.same_as(whole)
    assert largest_difference(path, tmp_path / "fp32.onnx", whole) < 1e-5


def test_external_data_is_embedded(tmp_path: Path) -> None:
    model = onnx.load(plain(tmp_path / "whole.onnx"))
    path = tmp_path / "a.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    whole = read_onnx_classifier(tmp_path / "whole.onnx")
    assert read_onnx_classifier(path).sha256 != whole.sha256
    assert largest_difference(path, tmp_path / "out" / "fp32.onnx") < 1e-5
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(MissingArtefact, match=r"weights\.bin"):
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


@pytest.mark.parametrize("after", ["Reshape", "Squeeze", "Identity", "Cast", "Unsqueeze"])
def test_nodes_after_the_softmax(tmp_path: Path, after: str) -> None:
    net = Foreign(13, np.float16 if after == "Cast" else np.float32)
    x = net.op("Softmax", net.op("Unsqueeze", net.logits("input"), net.constant(np.array([2, 3]))), axis=1)
    more = {
        "Reshape": [net.constant(np.array([-1, CLASSES]))],
        "Squeeze": [net.constant(np.array([2, 3]))],
        "Unsqueeze": [net.constant(np.array([1]))],
    }.get(after, [])
    net.op(after, x, *more, outputs=["output"], **({"to": onnx.TensorProto.FLOAT} if after == "Cast" else {}))
    path = saved(net.model([image(dtype=net.dtype)], [scores(None)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.answers, foreign.output.size) == (Answers.PROBABILITIES, CLASSES)
    assert largest_difference(path, tmp_path / "fp32.onnx") < (2e-3 if after == "Cast" else 1e-5)


@pytest.mark.parametrize("kind", ["Azure", "scikit-learn"])
def test_labels_and_maps_as_outputs(tmp_path: Path, kind: str) -> None:
    net = Foreign(8)
    probabilities = net.op("Softmax", net.logits("data"), axis=1)
    names = ["daisy", "rose", "tulip"]
    best = net.op("ArgMax", probabilities, axis=1, keepdims=0)
    label = net.op("LabelEncoder", best, domain="ai.onnx.ml", classes_strings=names, default_string="?")
    if kind == "Azure":
        net.op("Identity", label, outputs=["classLabel"])
    else:
        net.op("Identity", label, outputs=["output_label"])
        probabilities = net.op("Normalizer", probabilities, domain="ai.onnx.ml", norm="L1")
    outputs = ["classLabel", "loss"] if kind == "Azure" else ["output_label", "output_probability"]
    net.op("ZipMap", probabilities, outputs=outputs[1:], domain="ai.onnx.ml", classlabels_strings=names)
    values = [
        onnx.helper.make_tensor_value_info(outputs[0], onnx.TensorProto.STRING, ["N"]),
        onnx.helper.make_value_info(
            outputs[1],
            onnx.helper.make_sequence_type_proto(
                onnx.helper.make_map_type_proto(
                    onnx.TensorProto.STRING, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
                )
            ),
        ),
    ]
    path = saved(net.model([image(("N", 3, SIDE, SIDE), "data")], values), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.output.answers is Answers.PROBABILITIES
    assert foreign.clues.metadata["onnx.outputs"].split() == outputs
    assert foreign.clues.files["labels.txt"].split() == names
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_label_as_the_only_output(tmp_path: Path) -> None:
    net = Foreign()
    net.op("ArgMax", net.logits("input"), outputs=["label"], axis=1, keepdims=0)
    path = saved(net.model([image()], [scores(("N",), "label", np.int64)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.answers, foreign.output.size) == (Answers.LOGITS, CLASSES)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


@pytest.mark.parametrize("batch", [1, "N"])
def test_shapes_that_are_computed_become_constants(tmp_path: Path, batch: Any) -> None:
    """As PyTorch's exporters write x.view(x.shape[0], -1), mean and as_strided."""
    net = Foreign(18)
    x = net.op("ReduceMean", "input", net.constant(np.array([2, 3])), keepdims=1, noop_with_empty_axes=1)
    size = net.op("Gather", net.op("Shape", x, start=0), net.constant(np.array([0])))
    x = net.op("Reshape", x, net.op("Concat", size, net.constant(np.array([-1])), axis=0), allowzero=1)
    if batch == 1:
        x = net.op("Reshape", x, net.constant(np.array([-1])))
        x = net.op("Gather", x, net.constant(np.arange(3).reshape(1, 3)))
    net.op("Gemm", x, net.number(net.random.normal(0, 9, (3, CLASSES))), outputs=["output"])
    path = saved(net.model([image((batch, 3, SIDE, SIDE))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    operators = {node.op_type for node in onnx.load(tmp_path / "fp32.onnx").graph.node}
    assert operators <= {"Cast", "Mul", "Transpose", "ReduceMean", "Reshape", "Gemm", "Softmax"}


def test_logits_softmax_and_label_together(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["logits"])
    net.op("Softmax", "logits", outputs=["probabilities"])
    net.op("ArgMax", "logits", outputs=["label"], axis=1, keepdims=0)
    net.op("TopK", "probabilities", net.constant(np.array([2])), outputs=["best", "indices"])
    outputs = [scores(name="logits"), scores(name="probabilities"), scores(("N",), "label", np.int64)]
    outputs += [scores(("N", 2), "best"), scores(("N", 2), "indices", np.int64)]
    path = saved(net.model([image()], outputs), tmp_path / "a.onnx")
    assert read_onnx_classifier(path).output.name == "probabilities"
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-6


def test_sigmoids_that_are_all_zero_give_uniform_scores(tmp_path: Path) -> None:
    net = Foreign()
    low = net.op("Mul", net.op("ReduceMax", "input", axes=[1, 2, 3], keepdims=0), net.number(-1000))
    low = net.op("Unsqueeze", low, net.constant(np.array([1])))
    x = net.op("Add", net.logits("input"), low)
    net.op("Sigmoid", x, outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")
    photos = np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)])
    (given,) = open_session(tmp_path / "fp32.onnx", 1).run(None, {"photos": photos})
    assert given[0].std() > 0.01
    np.testing.assert_allclose(given[1], 1 / CLASSES)


@pytest.mark.parametrize("operator", ["Gelu", "GroupNormalization", "Mish", "Split", "Pad", "HardSwish"])
def test_operators_of_newer_opsets(tmp_path: Path, operator: str) -> None:
    net = Foreign(21)
    ones = net.number([0.5, 0.8, 1.1])
    x = {
        "GroupNormalization": lambda: net.op(operator, "input", ones, ones, num_groups=1),
        "Split": lambda: net.op(
            "Concat", net.op(operator, "input", outputs=["a", "b"], num_outputs=2, axis=2), "b", axis=2
        ),
        "Pad": lambda: net.op(
            operator, "input", net.constant(np.array([1, 2, 1, 0])), "", net.constant(np.array([2, 3]))
        ),
    }.get(operator, lambda: net.op(operator, "input"))()
    net.op("Identity", net.logits(x), outputs=["output"])
    path = saved(net.model([image()], [scores()], ir_version=10), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_names_that_the_wrapped_network_uses_too(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Relu", "photos", outputs=["trtpoets_photos_0:0"])
    net.op("Softmax", net.logits("trtpoets_photos_0:0"), outputs=["scores"])
    path = saved(net.model([image(name="photos")], [scores(name="scores")]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-6


def test_bgr_of_a_network_that_does_not_begin_with_a_convolution(tmp_path: Path) -> None:
    net = Foreign()
    x = net.op("Transpose", net.op("Sub", "input", net.number([104, 117, 123])), perm=[0, 3, 1, 2])
    net.op("Identity", net.logits(x, scale=1 / 128), outputs=["output"])
    path = saved(net.model([image(("N", SIDE, SIDE, 3))], [scores()]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx", CAFFE) < 1e-5


def with_pairs(path: Path, activations: bool = True) -> Path:
    """Write a network with symmetric pairs as ONNX Runtime writes them: INT8 weights and an INT32 bias."""
    net = Foreign(13)
    zero = net.constant(np.int8(0))
    scale = net.number(1 / 127)
    x = "input"
    if activations:
        x = net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale, zero), scale, zero)
    stored = net.constant(net.random.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8))
    scales = net.random.uniform(0.001, 0.004, 8)
    per_channel = [net.number(scales), net.constant(np.zeros(8, np.int8))]
    weights = net.op("DequantizeLinear", stored, *per_channel, axis=0)
    steps = net.constant(net.random.integers(-9000, 9000, 8).astype(np.int32))
    bias = net.op("DequantizeLinear", steps, net.number(scales / 127), net.constant(np.zeros(8, np.int32)), axis=0)
    x = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", net.op("Conv", x, weights, bias))))
    net.op("Gemm", x, net.number(net.random.normal(0, 1, (8, CLASSES))), outputs=["output"])
    return saved(net.model([image()], [scores()]), path)


def scores_of(path: Path) -> np.ndarray:
    photos = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    result: np.ndarray = open_session(path, 1).run(["scores"], {"photos": photos})[0]
    return result


def operators_of(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_symmetric_quantisation_is_kept(tmp_path: Path) -> None:
    """In the form that every TensorRT reads, with float biases. fp32.onnx clips and does not round."""
    foreign = read_onnx_classifier(with_pairs(tmp_path / "a.onnx"))
    rounded, out = tmp_path / "rounded.onnx", tmp_path / "fp32.onnx"
    spec = spec_for(foreign)
    fp32_from_onnx(foreign, spec, out, rounded=rounded)
    photos = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    with OnnxNetwork(foreign.path, foreign.input, foreign.output, threads=1) as network:
        raw = network.infer(values_from_photos(photos, spec.preprocess, Channels.RGB))
    expected = scores_from_output(raw, foreign.output)
    assert np.abs(scores_of(rounded) - expected).max() < 1e-5
    assert 1e-6 < np.abs(scores_of(out) - expected).max() < 0.01
    assert operators_of(rounded).count("QuantizeLinear") == operators_of(rounded).count("DequantizeLinear") == 2
    assert unsuitable_quantisation(onnx.load(rounded)) == ()
    assert not set(operators_of(out)) & {"QuantizeLinear", "DequantizeLinear", "Identity"}
    assert operators_of(out).count("Clip") == 1
    types = {tensor.data_type for tensor in onnx.load(rounded).graph.initializer}
    assert onnx.TensorProto.INT32 not in types


def test_a_file_with_integer_weights_alone_is_a_float_network(tmp_path: Path) -> None:
    path = with_pairs(tmp_path / "a.onnx", activations=False)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    assert not set(operators_of(tmp_path / "fp32.onnx")) & {"QuantizeLinear", "DequantizeLinear", "Clip"}


def test_zero_photos_give_zero_rows(tmp_path: Path) -> None:
    foreign = read_onnx_classifier(plain(tmp_path / "a.onnx"))
    with OnnxNetwork(foreign.path, foreign.input, foreign.output) as network:
        assert network.infer(np.zeros((0, SIDE, SIDE, 3), np.float32)).shape == (0, CLASSES)
    with pytest.raises(RunFailed, match="before it was entered"):
        network.infer(np.zeros((1, SIDE, SIDE, 3), np.float32))
