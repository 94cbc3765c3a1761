"""The ONNX networks that are written for TFLite files, compared with the interpreter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_files import TfliteFile, tflite_classifier
from trtpoets.adoption.tflite import network_from_tflite, read_tflite_classifier
from trtpoets.adoption.tflite.to_onnx import session_of
from trtpoets.core.errors import BadArtefact, ConversionFailed
from trtpoets.device import original_tflite
from trtpoets.device.original_tflite import TfliteNetwork

pytest.importorskip("ai_edge_litert")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of these tests are sound: no child process has to try them."""
    monkeypatch.setattr(original_tflite, "require_sound", lambda *arguments, **options: None)


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def real_answers(path: Path, values: np.ndarray) -> np.ndarray:
    """What the interpreter answers, as real values."""
    model = read_tflite_classifier(path)
    with TfliteNetwork(path, model.input, model.output) as network:
        stored = network.infer(values)
    return (stored.astype(np.float32) - model.output.zero_point) * np.float32(model.output.scale)


@pytest.mark.parametrize("last", ["SOFTMAX", "LOGISTIC", "LOG_SOFTMAX", ""])
@pytest.mark.parametrize("batch", [1, 3])
def test_float_files(tmp_path: Path, last: str, batch: int) -> None:
    path = tflite_classifier(last=last, shape=(batch, 8, 8, 3)).write(tmp_path / "net.tflite")
    rounded, smooth = network_from_tflite(path)
    assert rounded is smooth
    values = np.random.default_rng(1).uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(session_of(smooth)(values), real_answers(path, values), atol=1e-5)


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("uint8", 0), ("int8", -100), ("uint8", 140)])
@pytest.mark.parametrize("last", ["SOFTMAX", "LOGISTIC", ""])
def test_integer_files(tmp_path: Path, dtype: str, zero_point: int, last: str) -> None:
    path = tflite_classifier(dtype=dtype, zero_point=zero_point, last=last).write(tmp_path / "net.tflite")
    rounded, smooth = network_from_tflite(path)
    values = np.random.default_rng(1).uniform(-0.5, 1.2, (40, 8, 8, 3)).astype(np.float32)
    expected = real_answers(path, values)
    np.testing.assert_allclose(session_of(rounded)(values), expected, atol=1e-6)
    assert abs(session_of(smooth)(values) - expected).max() < 0.2
    assert not {"QuantizeLinear", "DequantizeLinear"} & kinds(smooth).keys()


def test_activations_become_one_clip_with_the_range_of_the_integers(tmp_path: Path) -> None:
    path = tflite_classifier(dtype="int8", zero_point=-128).write(tmp_path / "net.tflite")
    _, smooth = network_from_tflite(path)
    # One for Relu6 of the convolution and one for the logits; the mean and the softmax stay in their ranges.
    assert kinds(smooth) == Counter(
        Transpose=1, Conv=1, Clip=2, GlobalAveragePool=1, Reshape=1, Gemm=1, Softmax=1, Identity=1
    )


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_opsets(tmp_path: Path, opset: int) -> None:
    path = unary_network("SQUARE").write(tmp_path / "net.tflite")
    _, smooth = network_from_tflite(path, opset)
    assert [entry.version for entry in smooth.opset_import] == [opset]
    values = random_values()
    np.testing.assert_allclose(session_of(smooth)(values), real_answers(path, values), atol=1e-5)


def random_values(count: int = 4) -> np.ndarray:
    return np.random.default_rng(2).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)


class Network:
    """A network that begins with a convolution (1, 8, 8, 3) -> (1, 8, 8, 4), in float or int8."""

    def __init__(self, *, int8: bool = False) -> None:
        self.file, self.int8 = TfliteFile(), int8
        self.random = np.random.default_rng(5)
        photo = self.file.tensor("photo", (1, 8, 8, 3), "int8" if int8 else "float32", 2 / 255 if int8 else None, 0)
        self.file.inputs = [photo]
        self.start = self.tensor((1, 8, 8, 4))
        self.convolve(photo, self.start)

    def tensor(self, shape: tuple[int, ...], largest: float = 4.0) -> int:
        name = f"tensor {len(self.file._graph.tensors)}"
        return self.file.tensor(name, shape, *(("int8", 2 * largest / 255, 0) if self.int8 else ("float32",)))

    def weights(self, shape: tuple[int, ...], axis: int, scale: float = 0.5) -> int:
        real = self.random.normal(0, scale, shape).astype(np.float32)
        if not self.int8:
            return self.file.constant(real)
        others = tuple(number for number in range(len(shape)) if number != axis)
        step = abs(real).max(axis=others, keepdims=True) / 127
        return self.file.constant(np.rint(real / step).astype(np.int8), step.reshape(-1), axis=axis)

    def bias(self, source: int, kernel: int, channels: int) -> int:
        real = self.random.normal(0, 0.2, channels).astype(np.float32)
        if not self.int8:
            return self.file.constant(real)
        tensors = self.file._graph.tensors
        step = tensors[source].quantization.scale * tensors[kernel].quantization.scale
        return self.file.constant(np.rint(real / step).astype(np.int32), step)

    def convolve(self, source: int, target: int, **options: Any) -> None:
        channels = self.file._graph.tensors[source].shape[3]
        kernel = self.weights((self.file._graph.tensors[target].shape[3], 3, 3, options.pop("per_group", channels)), 0)
        defaults: dict[str, Any] = {
            "padding": 0,
            "strideH": 1,
            "strideW": 1,
            "dilationHFactor": 1,
            "dilationWFactor": 1,
        }
        bias = self.bias(source, kernel, self.file._graph.tensors[target].shape[3])
        self.file.operator("CONV_2D", [source, kernel, bias], [target], "Conv2DOptions", **{**defaults, **options})

    def constant(self, array: Any, dtype: str = "int32") -> int:
        return self.file.constant(np.asarray(array, dtype))

    def add(
        self,
        kind: str,
        inputs: list[int],
        shape: tuple[int, ...],
        options: str = "",
        largest: float = 4.0,
        **values: Any,
    ) -> int:
        target = self.tensor(shape, largest)
        self.file.operator(kind, inputs, [target], options, **values)
        return target

    def finish(self, current: int) -> TfliteFile:
        """Mean over the image if it still is one; that is the output."""
        shape = self.file._graph.tensors[current].shape
        if len(shape) == 4:
            current = self.add(
                "MEAN", [current, self.constant([1, 2])], (1, shape[3]), "ReducerOptions", keepDims=False
            )
        self.file.outputs = [current]
        return self.file


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("block", [2, 3])
def test_dilated_convolutions_in_blocks(tmp_path: Path, block: int, int8: bool) -> None:
    """As old converters write them: parts of the photo become photos, and return after the convolution."""
    network = Network(int8=int8)
    size, extra = network.constant([block, block]), -(8 + 2 * block) % block
    paddings = network.constant([[block, block + extra]] * 2)
    side = (8 + 2 * block + extra) // block
    parts = network.add("SPACE_TO_BATCH_ND", [network.start, size, paddings], (block * block, side, side, 4))
    inner = network.tensor((block * block, side - 2, side - 2, 4))
    network.convolve(parts, inner, padding=1)
    crops = network.constant([[0, extra]] * 2)
    whole = network.add("BATCH_TO_SPACE_ND", [inner, size, crops], (1, 8, 8, 4))
    _, smooth = check(network.finish(whole), tmp_path / "net.tflite")
    assert kinds(smooth)["Conv"] == 2


def test_blocks_without_a_convolution_are_refused(tmp_path: Path) -> None:
    network = Network()
    size, none = network.constant([2, 2]), network.constant([[0, 0], [0, 0]])
    parts = network.add("SPACE_TO_BATCH_ND", [network.start, size, none], (4, 4, 4, 4))
    current = network.add("ABS", [parts], (4, 4, 4, 4))
    whole = network.add("BATCH_TO_SPACE_ND", [current, size, none], (1, 8, 8, 4))
    network.finish(whole).write(tmp_path / "net.tflite")
    with pytest.raises(ConversionFailed, match="SPACE_TO_BATCH_ND that moves parts of a photo to the batch"):
        network_from_tflite(tmp_path / "net.tflite")


def unary_network(kind: str, options: str = "", *, int8: bool = False, **values: Any) -> TfliteFile:
    network = Network(int8=int8)
    return network.finish(network.add(kind, [network.start], (1, 8, 8, 4), options, **values))


UNARY: list[tuple[str, str, dict[str, Any]]] = [
    *[(kind, "", {}) for kind in ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "ELU", "EXP", "NEG", "ABS")],
    *[(kind, "", {}) for kind in ("FLOOR", "CEIL", "SQUARE", "HARD_SWISH")],
    ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.2}),
    ("GELU", "GeluOptions", {"approximate": False}),
    ("GELU", "GeluOptions", {"approximate": True}),
    ("SOFTMAX", "SoftmaxOptions", {"beta": 1.5}),
    ("LOG_SOFTMAX", "LogSoftmaxOptions", {}),
    ("L2_NORMALIZATION", "L2NormOptions", {"fusedActivationFunction": 0}),
    (
        "LOCAL_RESPONSE_NORMALIZATION",
        "LocalResponseNormalizationOptions",
        {"radius": 1, "bias": 1.0, "alpha": 0.3, "beta": 0.75},
    ),
]


def check(file: TfliteFile, path: Path, atol: float = 2e-5) -> tuple[Any, Any]:
    """Compare both networks with the interpreter; the float one may differ by rounding in int8."""
    file.write(path)
    rounded, smooth = network_from_tflite(path)
    values = random_values(12)
    expected = real_answers(path, values)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(session_of(rounded)(values), expected, rtol=1e-5, atol=atol)
    if rounded is not smooth:
        assert abs(session_of(smooth)(values) - expected).max() < 0.1 * max(1, expected.std())
    return rounded, smooth


@pytest.mark.parametrize(("kind", "options", "values"), UNARY, ids=str)
def test_operators_on_one_tensor(tmp_path: Path, kind: str, options: str, values: dict[str, Any]) -> None:
    check(unary_network(kind, options, **values), tmp_path / "net.tflite")


def test_roots_and_logarithm(tmp_path: Path) -> None:
    network = Network()
    current = network.add("EXP", [network.start], (1, 8, 8, 4))
    for kind in ("SQRT", "RSQRT", "LOG"):
        current = network.add(kind, [current], (1, 8, 8, 4))
    check(network.finish(current), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize(
    "options",
    [
        {"strideH": 2, "strideW": 2},
        {"strideH": 2, "strideW": 2, "padding": 1},
        {"dilationHFactor": 2, "dilationWFactor": 2},
        {"fusedActivationFunction": 1},
        {"fusedActivationFunction": 2},
        {"fusedActivationFunction": 3},
        {"per_group": 2},
    ],
    ids=str,
)
def test_convolutions(tmp_path: Path, options: dict[str, int], int8: bool) -> None:
    network = Network(int8=int8)
    side = 8 if "strideH" not in options else 3 if options.get("padding") else 4
    target = network.tensor((1, side, side, 6))
    network.convolve(network.start, target, **options)
    check(network.finish(target), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolution_with_padding_before_it(tmp_path: Path, multiplier: int, int8: bool) -> None:
    network = Network(int8=int8)
    amounts = network.constant([[0, 0], [0, 1], [0, 1], [0, 0]])
    padded = network.add("PAD", [network.start, amounts], (1, 9, 9, 4), "PadOptions")
    kernel = network.weights((1, 3, 3, 4 * multiplier), 3)
    target = network.add(
        "DEPTHWISE_CONV_2D",
        [padded, kernel, network.bias(padded, kernel, 4 * multiplier)],
        (1, 4, 4, 4 * multiplier),
        "DepthwiseConv2DOptions",
        padding=1,
        strideH=2,
        strideW=2,
        depthMultiplier=multiplier,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    _, smooth = check(network.finish(target), tmp_path / "net.tflite")
    assert "Pad" not in kinds(smooth)


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("window", "stride", "padding", "side"), [(3, 2, 0, 4), (2, 2, 1, 4), (8, 1, 1, 1)])
def test_pools(tmp_path: Path, kind: str, window: int, stride: int, padding: int, side: int, int8: bool) -> None:
    network = Network(int8=int8)
    pooled = network.add(
        kind,
        [network.start],
        (1, side, side, 4),
        "Pool2DOptions",
        filterHeight=window,
        filterWidth=window,
        strideH=stride,
        strideW=stride,
        padding=padding,
    )
    flat = network.add("RESHAPE", [pooled, network.constant([1, -1])], (1, side * side * 4))
    check(network.finish(flat), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "DIV", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize("other", ["tensor", "channels", "gate"])
def test_operators_on_two_tensors(tmp_path: Path, kind: str, other: str, int8: bool) -> None:
    if int8 and kind not in ("ADD", "SUB", "MUL"):
        pytest.skip("not with these operands in int8")
    network = Network(int8=int8)
    if other == "tensor":
        second = network.tensor((1, 8, 8, 4), 3.0)
        network.convolve(network.start, second)
        second = network.add("EXP", [second], (1, 8, 8, 4)) if kind == "DIV" else second
    elif other == "channels":
        channels = np.array([0.5, -1.5, 2, 0.7], np.float32)
        second = network.file.constant(channels)
        if int8:
            second = network.file.constant(np.rint(channels / 0.02).astype(np.int8), 0.02)
    else:
        second = network.add(
            "MEAN", [network.start, network.constant([1, 2])], (1, 1, 1, 4), "ReducerOptions", 1.0, keepDims=True
        )
    options = f"{kind.title()}Options" if kind in ("ADD", "SUB", "MUL", "DIV") else ""
    target = network.add(kind, [network.start, second], (1, 8, 8, 4), options, 6.0)
    target = network.add("RELU", [target], (1, 8, 8, 4), largest=6.0)
    check(network.finish(target), tmp_path / "net.tflite")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_channels_are_split_and_joined(tmp_path: Path, int8: bool) -> None:
    network = Network(int8=int8)
    halves = [network.tensor((1, 8, 8, 2)) for _ in range(2)]
    network.file.operator("SPLIT", [network.constant(3), network.start], halves, "SplitOptions", numSplits=2)
    wide = network.tensor((1, 8, 8, 2))
    network.convolve(halves[0], wide)
    joined = network.add("CONCATENATION", [wide, halves[1]], (1, 8, 8, 4), "ConcatenationOptions", axis=3)
    # The shuffle of ShuffleNet.
    grouped = network.add("RESHAPE", [joined, network.constant([1, 8, 8, 2, 2])], (1, 8, 8, 2, 2))
    turned = network.add("TRANSPOSE", [grouped, network.constant([0, 1, 2, 4, 3])], (1, 8, 8, 2, 2))
    shuffled = network.add("RESHAPE", [turned, network.constant([1, 8, 8, 4])], (1, 8, 8, 4))
    kept = network.add(
        "STRIDED_SLICE",
        [shuffled, *(network.constant(row) for row in ([0, 0, 0, 1], [0, 0, 0, 4], [1, 1, 1, 1]))],
        (1, 8, 8, 3),
        "StridedSliceOptions",
        beginMask=7,
        endMask=7,
    )
    check(network.finish(kept), tmp_path / "net.tflite")


def test_other_moves(tmp_path: Path) -> None:
    network = Network()
    current = network.add("REVERSE_V2", [network.start, network.constant([3])], (1, 8, 8, 4))
    current = network.add("GATHER", [current, network.constant([3, 0, 1])], (1, 8, 8, 3), "GatherOptions", axis=3)
    begin, size = network.constant([0, 1, 0, 0]), network.constant([1, -1, 5, 3])
    current = network.add("SLICE", [current, begin, size], (1, 7, 5, 3))
    amounts = network.constant([[0, 0], [1, 0], [0, 2], [0, 0]])
    current = network.add("MIRROR_PAD", [current, amounts], (1, 8, 7, 3), "MirrorPadOptions", mode=0)
    current = network.add("PADV2", [current, amounts, network.constant(2.5, "float32")], (1, 9, 9, 3))
    slopes = network.constant([[[0.1, 0.2, -0.3]]], "float32")
    current = network.add("PRELU", [current, slopes], (1, 9, 9, 3))
    current = network.add("SUM", [current, network.constant([2])], (1, 9, 3), "ReducerOptions", keepDims=False)
    current = network.add("EXPAND_DIMS", [current, network.constant(1)], (1, 1, 9, 3))
    current = network.add("SQUEEZE", [current], (1, 9, 3), "SqueezeOptions", squeezeDims=[1])
    turned = network.add("TRANSPOSE", [current, network.constant([0, 2, 1])], (1, 3, 9))
    product = network.add("BATCH_MATMUL", [turned, current], (1, 3, 3), "BatchMatMulOptions")
    largest = network.add("REDUCE_MAX", [product, network.constant([2])], (1, 3), "ReducerOptions", keepDims=False)
    check(network.finish(largest), tmp_path / "net.tflite", 1e-3)


def test_channels_first_inputs_need_no_transpose(tmp_path: Path) -> None:
    file = tflite_classifier(last="")
    photo, (network,) = file.tensor("images", (1, 3, 8, 8)), file.inputs
    file.operator("TRANSPOSE", [photo, file.constant(np.array([0, 2, 3, 1], np.int32))], [network], at_start=True)
    file.inputs = [photo]
    path = file.write(tmp_path / "net.tflite")
    _, smooth = network_from_tflite(path)
    assert "Transpose" not in kinds(smooth)
    values = random_values()
    np.testing.assert_allclose(session_of(smooth)(values.transpose(0, 3, 1, 2)), real_answers(path, values), atol=1e-5)


def test_float16_weights(tmp_path: Path) -> None:
    network = Network()
    half = network.file.constant(np.random.default_rng(0).normal(0, 0.3, (5, 4)).astype(np.float16))
    weights = network.file.tensor("weights", (5, 4))
    network.file.operator("DEQUANTIZE", [half], [weights])
    mean = network.add("MEAN", [network.start, network.constant([1, 2])], (1, 4), "ReducerOptions", keepDims=False)
    current = network.add("FULLY_CONNECTED", [mean, weights], (1, 5), "FullyConnectedOptions")
    check(network.finish(current), tmp_path / "net.tflite")


def test_pixels_as_uint8_without_quantisation(tmp_path: Path) -> None:
    file = tflite_classifier(last="")
    photo, (network,) = file.tensor("pixels", (1, 8, 8, 3), "uint8"), file.inputs
    file.operator("CAST", [photo], [network], at_start=True)
    file.inputs = [photo]
    path = file.write(tmp_path / "net.tflite")
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
        session_of(network_from_tflite(path)[1])(values), real_answers(path, values), rtol=1e-5, atol=1e-4
    )


def refused(file: TfliteFile, path: Path) -> None:
    network_from_tflite(file.write(path))


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    with pytest.raises(BadArtefact, match="can't be converted to ONNX: SIN"):
        refused(unary_network("SIN"), path)
    network = Network()
    weights = network.add("MEAN", [network.start, network.constant([0, 1])], (8, 4), "ReducerOptions", keepDims=False)
    mean = network.add("MEAN", [network.start, network.constant([1, 2])], (1, 4), "ReducerOptions", keepDims=False)
    current = network.add("FULLY_CONNECTED", [mean, weights], (1, 8), "FullyConnectedOptions")
    with pytest.raises(ConversionFailed, match="FULLY_CONNECTED with a computed input"):
        refused(network.finish(current), path)


def test_photos_of_a_batch_that_are_mixed(tmp_path: Path) -> None:
    network = Network()
    current = network.add(
        "REDUCE_MAX", [network.start, network.constant([0])], (8, 8, 4), "ReducerOptions", keepDims=False
    )
    current = network.add("RESHAPE", [current, network.constant([1, 256])], (1, 256))
    with pytest.raises(ConversionFailed, match="mixes the photos of a batch"):
        refused(network.finish(current), tmp_path / "net.tflite")


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_float_layers_with_weights_of_8_bits(tmp_path: Path, kind: str) -> None:
    """The interpreter quantises their inputs by the range of each photo."""
    network = Network()
    shape, axis = {
        "CONV_2D": ((4, 3, 3, 4), 0),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, 4), 3),
        "FULLY_CONNECTED": ((5, 256), 0),
    }[kind]
    network.int8 = True
    kernel = network.weights(shape, axis)
    network.int8 = False
    bias = network.constant(np.linspace(-1, 1, shape[0] if axis == 0 else 4), "float32")
    if kind == "FULLY_CONNECTED":
        flat = network.add("RESHAPE", [network.start, network.constant([1, 256])], (1, 256))
        asymmetric: dict[str, Any] = {"asymmetricQuantizeInputs": True}
        current = network.add(kind, [flat, kernel, bias], (1, 5), "FullyConnectedOptions", **asymmetric)
    else:
        sizes: dict[str, Any] = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        options = "Conv2DOptions"
        if kind == "DEPTHWISE_CONV_2D":
            sizes, options = {**sizes, "depthMultiplier": 1}, "DepthwiseConv2DOptions"
        current = network.add(kind, [network.start, kernel, bias], (1, 8, 8, 4), options, **sizes)
    rounded, smooth = check(network.finish(current), tmp_path / "net.tflite")
    assert rounded is not smooth
    assert not {"Round", "ReduceMin"} & kinds(smooth).keys()


@pytest.mark.parametrize(
    ("kind", "options", "values"),
    [
        *[
            (kind, "", {})
            for kind in ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "ELU", "ABS", "EXP", "QUANTIZE")
        ],
        ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.2}),
        ("GELU", "GeluOptions", {"approximate": False}),
        ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}),
    ],
    ids=str,
)
def test_integers_are_those_of_the_interpreter(tmp_path: Path, kind: str, options: str, values: dict[str, Any]) -> None:
    network = Network(int8=True)
    # The only ranges that TFLite allows for these operators.
    scale, zero_point = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(
        kind, (6.2 / 255, 3)
    )
    result = network.file.tensor("result", (1, 8, 8, 4), "int8", scale, zero_point)
    network.file.operator(kind, [network.start], [result], options, **values)
    flat = network.file.tensor("flat", (1, 256), "int8", scale, zero_point)
    network.file.operator("RESHAPE", [result, network.constant([1, 256])], [flat])
    network.file.outputs = [flat]
    path = network.file.write(tmp_path / "net.tflite")
    rounded, _ = network_from_tflite(path)
    np.testing.assert_allclose(
        session_of(rounded)(random_values()), real_answers(path, random_values()), atol=scale / 100
    )
