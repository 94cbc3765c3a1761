"""Converts a TFLite network to ONNX, without TensorFlow.

tf2onnx would import TensorFlow (14 s on two slow cores) and then take as long again, mostly to copy its graph before
each of 36 optimisations; here files of 1 to 3 MB take about a second. Integer networks become two files: one rounds as
the interpreter does, one only saturates as it does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.adoption.tflite import array_operators as arrays
from trtpoets.adoption.tflite import layer_operators as layers
from trtpoets.adoption.tflite import size_operators as sizes
from trtpoets.adoption.tflite.contents import GIVE_SOURCE, Operator, TfliteContents, is_hybrid, read_contents
from trtpoets.adoption.tflite.onnx_writer import OnnxWriter
from trtpoets.adoption.tflite.pixels import pixels_of_input
from trtpoets.core.errors import BadArtefact, ConversionFailed, TrtPoetsError, first_line
from trtpoets.core.images import usable_cores
from trtpoets.core.optional import needs, onnxruntime
from trtpoets.device.original_tflite import interpreter_of

if TYPE_CHECKING:
    import onnx

INPUT_NAME = "values"
"""The input of the converted network."""

OUTPUT_NAME = "answers"
"""The output of the converted network."""

_IR_VERSION = 8
"""The version of ONNX files of opset 17, which every TensorRT from 8.5 on reads."""

_HANDLERS: dict[str, Callable[[OnnxWriter, Operator], None]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), layers.convolution),
    "FULLY_CONNECTED": layers.fully_connected,
    **dict.fromkeys(("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"), layers.block_operator),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), layers.pooling),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), layers.reduction),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), layers.padding),
    **dict.fromkeys(("LOCAL_RESPONSE_NORMALIZATION", "L2_NORMALIZATION"), layers.normalisation),
    **dict.fromkeys(arrays.UNARY_KINDS, arrays.unary),
    **dict.fromkeys(arrays.BINARY_KINDS, arrays.binary),
    "ADD_N": arrays.add_all,
    "PRELU": arrays.parametric_relu,
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX"), arrays.softmax),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), arrays.reshape),
    "TRANSPOSE": arrays.transpose,
    "CONCATENATION": arrays.concatenation,
    **dict.fromkeys(("SPLIT", "SPLIT_V"), arrays.split),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), arrays.slice_),
    "REVERSE_V2": arrays.reverse,
    "GATHER": arrays.gather,
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), sizes.resize),
    "TILE": sizes.tile,
    "PACK": sizes.pack,
    "BATCH_MATMUL": arrays.matrix_product,
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "CAST"), arrays.same_values),
}

_ONE_VALUE = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
"""Operators of which only the first input is needed, because the shape of the output is known."""


def network_from_tflite(path: Path, opset: int = 17) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the network of a TFLite file in ONNX twice: `rounded` and `smooth`; the same for a float file.

    Both take `values`, float32 in the layout of the file with any number of photos: the real values of the pixels, also
    for an integer input. They return `answers`, float32 (N, K): the real values of the output.

    `rounded` stores integers where the file does (QuantizeLinear, DequantizeLinear), and computes with them as XNNPACK
    does, the interpreter's default kernels: exact sums, one float32 factor, halves to even. It is the proof that the
    conversion is right, because "within one quantisation scale" has a meaning for it alone: on x86, its output was the
    same integers for all photos of four real files, and for random images in MobileNetV2, MobileNetV3 and EfficientNet
    with random weights. Not so with integer LayerNorm (ConvNeXt: 5 steps), whose SQUARED_DIFFERENCE has its own kernel.
    In float files with weights of 8 bits, `rounded` quantises the inputs of layers as the interpreter does; float32
    rounding then moves single integers, and scores may differ by more than 1e-4 (MLPerf ResNet8: 4e-4; `smooth`: 0.03).

    `smooth` is for TensorRT, which accepts no zero points: all weights are float, and where the file stores integers
    there is a Clip to the values that these can have. So it saturates exactly where the file does, and does not round.
    Activations are merged into the Clip behind them. The output of a softmax or sigmoid is not clipped, although its
    largest integer stands for 255/256. Its scores differ from those of the file by the file's own rounding errors,
    which add up to many steps of the output. So do those of the interpreter's two sets of kernels, XNNPACK and its own:

    | file, resize              | `smooth` and XNNPACK               | the interpreter's own kernels and XNNPACK |
    | ------------------------- | ---------------------------------- | ----------------------------------------- |
    | AutoML Vision Edge        | 1.1 steps, at most 21, label 55/55 | 0.9 steps, at most 13, label 55/55        |
    | AutoML labeler            | 0.6 steps, at most 10, label 54/55 | 0.7 steps, at most 16, label 54/55        |
    | Edge Impulse, stretch     | 4.0 steps, at most 47, label 57/59 | 2.9 steps, at most 52, label 55/59        |
    | Edge Impulse, crop        | 4.7 steps, at most 68, label 53/59 | 3.4 steps, at most 53, label 56/59        |
    | MLPerf ResNet8, stretch   | 1.3 steps, at most 39, label 28/28 | 1.3 steps, at most 38, label 28/28        |
    | MLPerf ResNet8, crop      | 2.3 steps, at most 96, label 25/28 | 1.8 steps, at most 59, label 27/28        |

    A step is 1/256 of a score; "label" counts the photos with the same first label. The number of right answers changed
    by -2 to 3 of 28 to 59 photos.

    Raises as `read_contents` does, BadArtefact also for operators that are not supported, and ConversionFailed for
    unsupported uses of others.
    """
    contents = read_contents(path)
    require_convertible(contents)
    shapes = _shapes(contents)
    smooth = _model(contents, shapes, opset, rounded=False)
    _check_batch(contents, smooth)
    operators = _needed(contents, _constants(contents))
    rounds = any(
        is_hybrid(contents, operator) or any(contents.tensors[index].integer_range for index in operator.outputs)
        for operator in operators
    )
    return (_model(contents, shapes, opset, rounded=True) if rounds else smooth), smooth


def require_convertible(contents: TfliteContents) -> None:
    """Raise BadArtefact if the output depends on operators that cannot be converted; they are named."""
    unsupported = sorted({operator.kind for operator in _needed(contents, _constants(contents))} - set(_HANDLERS))
    if unsupported:
        raise BadArtefact(
            f"{contents.path} has operators that can't be converted to ONNX: {', '.join(unsupported)}",
            hint=GIVE_SOURCE,
            code="TP9360",
        )


def _needed(contents: TfliteContents, constants: dict[int, np.ndarray]) -> list[Operator]:
    """The operators that compute the output, in their order; not those that only compute shapes."""
    wanted = set(contents.outputs)
    operators = []
    for operator in reversed(contents.operators):
        if not wanted.intersection(operator.outputs) or constants.keys() >= set(operator.outputs):
            continue
        operators.append(operator)
        wanted.update(operator.inputs[:1] if operator.kind in _ONE_VALUE else operator.inputs)
    return operators[::-1]


def _constants(contents: TfliteContents) -> dict[int, np.ndarray]:
    """The real values of constants, and of what is computed of constants alone, such as float16 weights."""
    constants = {}
    for index, tensor in enumerate(contents.tensors):
        if tensor.real_data is not None:
            constants[index] = tensor.real_data
    for operator in contents.operators:
        if operator.kind in ("DEQUANTIZE", "RESHAPE", "TRANSPOSE") and constants.keys() >= set(operator.inputs):
            value = constants[operator.inputs[0]]
            if operator.kind == "RESHAPE":
                value = value.reshape(contents.tensors[operator.outputs[0]].shape)
            elif operator.kind == "TRANSPOSE":
                value = value.transpose([int(axis) for axis in constants[operator.inputs[1]]])
            constants[operator.outputs[0]] = value
    return constants


def _shapes(contents: TfliteContents) -> dict[int, tuple[int, ...]]:
    """The shapes of all tensors for the batch of the file; the interpreter knows those that the file does not say."""
    interpreter = interpreter_of(contents.path, contents.content, usable_cores())
    (details,) = interpreter.get_input_details()
    interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
    return {
        tensor["index"]: tuple(int(size) for size in tensor["shape"]) for tensor in interpreter.get_tensor_details()
    }


def _model(
    contents: TfliteContents, shapes: dict[int, tuple[int, ...]], opset: int, *, rounded: bool
) -> onnx.ModelProto:
    with needs("convert", reason="converting TFLite to ONNX"):
        from onnx import TensorProto, checker, helper, numpy_helper
    writer = OnnxWriter(contents, shapes, opset, rounded=rounded)
    writer.constants = _constants(contents)
    source, target = contents.inputs[0], contents.outputs[0]
    writer.put(source, INPUT_NAME, moved=contents.tensors[source].quantisation is None or _takes_pixels(contents))
    for operator in _needed(contents, writer.constants):
        _convert(writer, operator)
    batch = writer.shape(source)[0]
    size = int(np.prod(writer.shape(target))) // batch
    name = writer.flat(target)
    if len(writer.shape(target)) != 2:
        name = writer.reshaped(name, (size,))
    writer.nodes.append(helper.make_node("Identity", [name], [OUTPUT_NAME], name="answer"))
    nodes, used = _used(writer.nodes)
    graph = helper.make_graph(
        nodes,
        "tflite",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", *writer.shape(source)[1:]])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", size])],
        [numpy_helper.from_array(array, name) for name, array in writer.initializers.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="trtpoets")
    model.ir_version = _IR_VERSION
    checker.check_model(model)
    return model


def _convert(writer: OnnxWriter, operator: Operator) -> None:
    try:
        _HANDLERS[operator.kind](writer, operator)
    except TrtPoetsError:
        raise
    except Exception as error:
        raise ConversionFailed(
            f"{writer.contents.path} has the operator {operator.kind} in a form that can't be converted to ONNX: "
            f"{first_line(error)}",
            hint=GIVE_SOURCE,
            code="TP9363",
        ) from error


def _used(nodes: list[Any]) -> tuple[list[Any], set[str]]:
    """The nodes on which the last one depends, in their order, and the names that they read."""
    kept: list[Any] = []
    used = set(nodes[-1].output)
    for node in reversed(nodes):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    return kept[::-1], used


def _takes_pixels(contents: TfliteContents) -> bool:
    """Whether the integers of the input are pixels, so that its values need neither rounding nor limits."""
    return pixels_of_input(contents) is not None


def _check_batch(contents: TfliteContents, model: onnx.ModelProto) -> None:
    """Raise ConversionFailed if several photos at once give other answers than one by one."""
    (shape,) = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input]
    values = np.random.default_rng(0).uniform(0, 1, (3, *shape[1:])).astype(np.float32)
    try:
        run = session_of(model)
        together, single = run(values), np.concatenate([run(values[row : row + 1]) for row in range(len(values))])
    except Exception as error:
        raise ConversionFailed(
            f"ONNX Runtime can't run {contents.path} as converted: {first_line(error)}", code="TP9361"
        ) from error
    if together.shape != single.shape or not np.allclose(together, single, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ConversionFailed(
            f"{contents.path} mixes the photos of a batch, so it can't take several at once",
            hint=GIVE_SOURCE,
            code="TP9362",
        )


def session_of(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs a converted network in ONNX Runtime: values to answers."""
    with needs("convert", reason="running ONNX files"):
        runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(values: np.ndarray) -> np.ndarray:
        answers: np.ndarray = session.run([OUTPUT_NAME], {INPUT_NAME: values})[0]
        return answers

    return run
