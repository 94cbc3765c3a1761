"""Converts TFLite's operators with weights and windows to ONNX: convolution, dense, pooling, reduction, padding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trtpoets.adoption.tflite.contents import GIVE_SOURCE, Operator
from trtpoets.adoption.tflite.onnx_writer import EVERYTHING, FIRST, LARGEST_SUM, Interval, OnnxWriter
from trtpoets.core.errors import ConversionFailed

_SAME = 0
_TANH = 4
_ACTIVATIONS: dict[int, Interval] = {0: EVERYTHING, 1: (0, math.inf), 2: (-1, 1), 3: (0, 6)}
"""Limits of the fused activations: none, Relu, Relu -1 to 1, Relu6."""


def put_activated(
    writer: OnnxWriter,
    operator: Operator,
    name: str,
    *,
    first: bool,
    inside: Interval = EVERYTHING,
    moved: bool = False,
) -> None:
    """Make `name`, after the fused activation, the output of an operator."""
    limits = EVERYTHING
    if getattr(operator.options, "fusedActivationFunction", 0) == _TANH:
        name, inside, moved = writer.add("Tanh", [name]), (-1, 1), False
    else:
        limits = limits_of(writer, operator)
    writer.put(
        operator.outputs[0], name, first=first, limits=limits, inside=inside, moved=moved and limits == EVERYTHING
    )


def convolution(writer: OnnxWriter, operator: Operator) -> None:
    """CONV_2D (weights OHWI; groups by their input channels) and DEPTHWISE_CONV_2D (weights 1HWO)."""
    options = operator.options
    blocks = blocks_of(writer, operator)
    source, before = (blocks.source, list(blocks.pads)) if blocks else _without_padding(writer, operator)
    _, height, width, channels = writer.shape(source)
    kernel = writer.needed_constant(operator, 1)
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    order = (3, 0, 1, 2) if depthwise else FIRST
    group = channels if depthwise else channels // max(1, kernel.shape[3])
    size = kernel.shape[1:3]
    strides = options.strideH, options.strideW
    dilations = blocks.size if blocks else (options.dilationHFactor, options.dilationWFactor)
    pads = before
    if options.padding == _SAME:
        pads = _same_pads((height, width), size, strides, dilations)
    attributes = {
        "kernel_shape": list(size),
        "strides": list(strides),
        "dilations": list(dilations),
        "pads": pads,
        "group": group,
    }
    if writer.in_integers(source, operator.inputs[1], operator.outputs[0]):
        weights, bias, factor = _integer_weights(writer, operator)
        inputs = [writer.steps(source, first=True), writer.store(weights.transpose(order)), *bias]
        name = writer.add("Conv", inputs, **attributes)
        writer.put_steps(operator.outputs[0], name, factor=factor, first=True, limits=limits_of(writer, operator))
        return
    if writer.is_hybrid(operator):
        steps, step = _quantised_at_run_time(writer, writer.first(source), [1, 2, 3])
        sums = writer.add(
            "Conv", [steps, writer.store(_steps_of_weights(writer, operator).transpose(order))], **attributes
        )
        put_activated(writer, operator, _real_sums(writer, operator, sums, step, (-1, 1, 1)), first=True)
        return
    inputs = [writer.first(source), writer.store(kernel.transpose(order)), *_float_bias(writer, operator)]
    put_activated(writer, operator, writer.add("Conv", inputs, **attributes), first=True)


def _quantised_at_run_time(writer: OnnxWriter, name: str, axes: list[int]) -> tuple[str, str]:
    """Quantise a float tensor to int8 as the interpreter does for weights of 8 bits: by its range along the axes and 0.

    Returns the steps from the zero point, and the value of a step.
    """

    zero = writer.number(0)
    low = writer.add("Min", [reduced(writer, "ReduceMin", name, axes), zero])
    high = writer.add("Max", [reduced(writer, "ReduceMax", name, axes), zero])
    span = writer.add("Sub", [high, low])
    density = writer.add("Div", [writer.number(255), span])
    density = writer.add("Where", [writer.add("Equal", [span, zero]), writer.number(1), density])
    lowest, highest = (writer.add("Mul", [end, density]) for end in (low, high))
    from_low = writer.add("Sub", [writer.number(-128), lowest])
    from_high = writer.add("Sub", [writer.number(127), highest])
    # The zero point follows from the end that is rounded less.
    by_low = writer.add("Greater", [writer.add("Add", [lowest, highest]), writer.number(1)])
    nearer = writer.add("Where", [by_low, from_low, from_high])
    ends = [writer.number(-128), writer.number(127)]
    zero_point = writer.add("Round", [writer.add("Clip", [nearer, *ends])])
    stored = writer.add("Add", [writer.add("Round", [writer.add("Mul", [name, density])]), zero_point])
    steps = writer.add("Sub", [writer.add("Clip", [stored, *ends]), zero_point])
    return steps, writer.add("Reciprocal", [density])


def _real_sums(writer: OnnxWriter, operator: Operator, sums: str, step: str, shape: tuple[int, ...]) -> str:
    """The real values of sums of steps, with the bias; `shape` is that of a number for each channel."""
    quantisation = writer.tensor(operator.inputs[1]).quantisation
    assert quantisation is not None
    sums = writer.add("Clip", [sums, writer.number(-LARGEST_SUM), writer.number(LARGEST_SUM)])
    name = writer.add("Mul", [writer.add("Mul", [sums, step]), writer.store(quantisation.scale.reshape(shape))])
    bias = writer.constant(operator, 2)
    return name if bias is None else writer.add("Add", [name, writer.store(bias.reshape(shape))])


def _float_bias(writer: OnnxWriter, operator: Operator) -> list[str]:
    """The bias as float32, if there is one; integers without quantisation have the scale of input times weights."""
    bias = writer.constant(operator, 2)
    if bias is None:
        return []
    scale = np.float64(1)
    if bias.dtype.kind != "f":
        for index in operator.inputs[:2]:
            quantisation = writer.tensor(index).quantisation
            scale = scale * (1 if quantisation is None else quantisation.scale.astype(np.float64))
    return [writer.store((bias.reshape(-1) * scale).astype(np.float32))]


def _integer_weights(writer: OnnxWriter, operator: Operator) -> tuple[np.ndarray, list[str], np.ndarray]:
    """The steps of the weights, the integer bias if there is one, and what their sums are multiplied by."""
    source, kernel, target = (
        writer.tensor(index).quantisation for index in (*operator.inputs[:2], operator.outputs[0])
    )
    assert source and kernel and target
    bias = []
    if writer.constant(operator, 2) is not None:
        integers = writer.tensor(operator.inputs[2]).data
        assert integers is not None
        bias = [writer.store(integers.reshape(-1).astype(np.float32))]
    return _steps_of_weights(writer, operator), bias, source.scale * kernel.scale / target.scale


def _steps_of_weights(writer: OnnxWriter, operator: Operator) -> np.ndarray:
    """The quantised weights minus their zero points, as float32."""
    tensor = writer.tensor(operator.inputs[1])
    assert tensor.quantisation and tensor.data is not None
    zero_points = tensor.quantisation.zero_point
    if zero_points.size > 1:
        along = [1] * tensor.data.ndim
        along[tensor.quantisation.axis] = -1
        zero_points = zero_points.reshape(along)
    steps: np.ndarray = (tensor.data.astype(np.int64) - zero_points).astype(np.float32)
    return steps


def limits_of(writer: OnnxWriter, operator: Operator) -> Interval:
    """Return the limits of the fused activation. Raises ConversionFailed for an unknown activation."""
    number = getattr(operator.options, "fusedActivationFunction", 0)
    if number not in _ACTIVATIONS:
        raise ConversionFailed(
            f"{writer.contents.path} has the operator {operator.kind} with the unknown activation {number}",
            hint=GIVE_SOURCE,
            code="TP9352",
        )
    return _ACTIVATIONS[number]


def _same_pads(
    shape: tuple[int, int], size: tuple[int, ...], strides: tuple[int, int], dilations: tuple[int, int] = (1, 1)
) -> list[int]:
    """The pads of TensorFlow's SAME: the larger half behind."""
    begins, ends = [], []
    for length, window, stride, dilation in zip(shape, size, strides, dilations, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + (window - 1) * dilation + 1 - length)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return [*begins, *ends]


@dataclass(frozen=True)
class Blocks:
    """A dilated convolution as old converters write it: SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND.

    `size` are the dilations; `pads` those of the convolution of `source`, in ONNX's order.
    """

    source: int
    size: tuple[int, int]
    pads: tuple[int, int, int, int]


def blocks_of(writer: OnnxWriter, operator: Operator) -> Blocks | None:
    """Return what a convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND computes; None for another operator."""
    before = writer.contents.producer_of(operator.inputs[0])
    after = [other for other in writer.contents.operators if operator.outputs[0] in other.inputs]
    options = operator.options
    if (
        operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D")
        or before is None
        or before.kind != "SPACE_TO_BATCH_ND"
        or [other.kind for other in after] != ["BATCH_TO_SPACE_ND"]
        or options.padding == _SAME
        or (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor) != (1, 1, 1, 1)
        or not writer.same_steps(before.inputs[0], before.outputs[0])
    ):
        return None
    size, again = (writer.needed_constant(other, 1).reshape(-1) for other in (before, after[0]))
    paddings, crops = (writer.needed_constant(other, 2).reshape(-1, 2) for other in (before, after[0]))
    if size.size != 2 or not np.array_equal(size, again) or np.any(paddings < crops):
        return None
    top, left = paddings[:, 0] - crops[:, 0]
    bottom, right = paddings[:, 1] - crops[:, 1]
    return Blocks(before.inputs[0], (int(size[0]), int(size[1])), (int(top), int(left), int(bottom), int(right)))


def block_operator(writer: OnnxWriter, operator: Operator) -> None:
    """SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND around a convolution, which becomes a dilated one."""
    source, target = operator.inputs[0], operator.outputs[0]
    if operator.kind == "SPACE_TO_BATCH_ND":
        inner = [other for other in writer.contents.operators if target in other.inputs]
        if inner and all(blocks_of(writer, other) for other in inner):
            return  # the convolution reads the tensor before
    else:
        producer = writer.contents.producer_of(source)
        if producer is not None and blocks_of(writer, producer):
            name, inside = writer.first(source), writer.inside(source)
            writer.put(target, name, first=True, inside=inside, moved=writer.same_steps(source, target))
            return
    raise ConversionFailed(
        f"{writer.contents.path} has the operator {operator.kind} that moves parts of a photo to the batch, other than "
        "around a convolution",
        hint=GIVE_SOURCE,
        code="TP9598",
    )


def _without_padding(writer: OnnxWriter, operator: Operator) -> tuple[int, list[int]]:
    """The tensor to convolve and its pads: a PAD with zeros in front of a VALID convolution becomes part of it."""
    source = operator.inputs[0]
    padding = writer.contents.producer_of(source)
    if padding is None or padding.kind != "PAD" or operator.options.padding == _SAME:
        return source, [0] * 4
    amounts = writer.needed_constant(padding, 1).reshape(-1, 2)
    inner = padding.inputs[0]
    if len(amounts) != 4 or amounts[[0, 3]].any() or not writer.same_steps(inner, source):
        return source, [0] * 4
    return inner, [int(amounts[axis, side]) for side in (0, 1) for axis in (1, 2)]


def fully_connected(writer: OnnxWriter, operator: Operator) -> None:
    """FULLY_CONNECTED: weights (O, I)."""
    source, target = operator.inputs[0], operator.outputs[0]
    weights = writer.needed_constant(operator, 1)
    if getattr(operator.options, "weightsFormat", 0):
        raise ConversionFailed(
            f"{writer.contents.path} has the operator FULLY_CONNECTED with shuffled weights",
            hint=GIVE_SOURCE,
            code="TP9353",
        )
    shape = writer.shape(source)
    width = weights.shape[1]
    integers = writer.in_integers(source, operator.inputs[1], target)
    flat = len(shape) == 2 and shape[1] == width
    name = writer.flat(source, steps=integers)
    name = name if flat else writer.reshaped(name, (width,))
    factor = None
    if integers:
        steps, bias, factor = _integer_weights(writer, operator)
        name = writer.add("Gemm", [name, writer.store(steps), *bias], transB=1)
    elif writer.is_hybrid(operator):
        rows, step = _quantised_at_run_time(writer, name, [1])
        sums = writer.add("Gemm", [rows, writer.store(_steps_of_weights(writer, operator))], transB=1)
        name = _real_sums(writer, operator, sums, step, (-1,))
    else:
        name = writer.add("Gemm", [name, writer.store(weights), *_float_bias(writer, operator)], transB=1)
    if len(writer.shape(target)) != 2:
        name = writer.reshaped(name, writer.shape(target)[1:])
    if factor is None:
        put_activated(writer, operator, name, first=False)
    else:
        writer.put_steps(target, name, factor=factor, limits=limits_of(writer, operator))


def pooling(writer: OnnxWriter, operator: Operator) -> None:
    """AVERAGE_POOL_2D (the padding does not count) and MAX_POOL_2D."""
    options, source, target = operator.options, operator.inputs[0], operator.outputs[0]
    height, width = writer.shape(source)[1:3]
    size, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
    pads = _same_pads((height, width), size, strides) if options.padding == _SAME else [0] * 4
    largest = operator.kind == "MAX_POOL_2D"
    same = writer.same_steps(source, target)
    integers = not largest and same and writer.in_integers(source, target)
    name = writer.steps(source, first=True) if integers else writer.first(source)
    kind = "MaxPool" if largest else "AveragePool"
    if size == (height, width) and not any(pads):
        name = writer.add(f"Global{kind}", [name])
    else:
        name = writer.add(kind, [name], kernel_shape=list(size), strides=list(strides), pads=pads)
    if integers:
        name = _rounded_mean(writer, name, target)
        writer.put_steps(target, name, factor=np.ones(1), first=True, limits=limits_of(writer, operator))
        return
    put_activated(writer, operator, name, first=True, inside=writer.inside(source), moved=largest and same)


def _rounded_mean(writer: OnnxWriter, name: str, target: int) -> str:
    """Round a mean of steps as AVERAGE_POOL_2D does: the mean of the integers, halves away from zero."""
    quantisation = writer.tensor(target).quantisation
    assert quantisation is not None
    zero = writer.number(quantisation.single[1])
    mean = writer.add("Add", [name, zero])
    half_up = writer.add("Floor", [writer.add("Add", [writer.add("Abs", [mean]), writer.number(0.5)])])
    return writer.add("Sub", [writer.add("Mul", [writer.add("Sign", [mean]), half_up]), zero])


_REDUCTIONS = {"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"}


def reduction(writer: OnnxWriter, operator: Operator) -> None:
    """MEAN, SUM, REDUCE_MAX and REDUCE_MIN along constant axes."""
    source, target = operator.inputs[0], operator.outputs[0]
    rank = len(writer.shape(source))
    axes = sorted({int(axis) % rank for axis in writer.needed_constant(operator, 1).reshape(-1)})
    keep = bool(operator.options.keepDims)
    inside = EVERYTHING if operator.kind == "SUM" else writer.inside(source)
    if rank == 4 and axes == [1, 2] and operator.kind == "MEAN":
        integers = writer.in_integers(source, target)
        name = writer.add("GlobalAveragePool", [writer.steps(source, first=True) if integers else writer.first(source)])
        name = name if keep else writer.reshaped(name, writer.shape(source)[3:])
        if integers:
            scales = [writer.tensor(index).quantisation for index in (source, target)]
            assert scales[0] is not None and scales[1] is not None
            writer.put_steps(target, name, factor=scales[0].scale / scales[1].scale, first=keep)
        else:
            writer.put(target, name, first=keep, inside=inside)
        return
    name = reduced(writer, _REDUCTIONS[operator.kind], writer.plain(source), axes, keep=keep)
    writer.put(target, name, inside=inside)


def reduced(writer: OnnxWriter, kind: str, name: str, axes: list[int], *, keep: bool = True) -> str:
    """Reduce a tensor along axes, which are an input or an attribute, by the opset."""
    if kind == "ReduceSum" or writer.opset >= 18:
        return writer.add(kind, [name, writer.store(np.array(axes, np.int64))], keepdims=int(keep))
    return writer.add(kind, [name], axes=axes, keepdims=int(keep))


def padding(writer: OnnxWriter, operator: Operator) -> None:
    """PAD (zeros), PADV2 (a constant) and MIRROR_PAD (reflect or symmetric)."""
    source, target = operator.inputs[0], operator.outputs[0]
    amounts = writer.needed_constant(operator, 1).reshape(-1, 2)
    first = len(amounts) == 4
    ordered = amounts[list(FIRST)] if first else amounts
    inputs = [writer.in_order(source, first), writer.store(ordered.T.reshape(-1).astype(np.int64))]
    if operator.kind == "MIRROR_PAD":
        if operator.options.mode != 0:
            raise ConversionFailed(
                f"{writer.contents.path} has the operator MIRROR_PAD in symmetric mode, which ONNX does not have",
                hint=GIVE_SOURCE,
                code="TP9354",
            )
        name, value = writer.add("Pad", inputs, mode="reflect"), None
    else:
        constant = writer.constant(operator, 2) if operator.kind == "PADV2" else None
        value = 0.0 if constant is None else float(constant.reshape(-1)[0])
        name = writer.add("Pad", [*inputs, writer.number(value)], mode="constant")
    low, high = writer.inside(source)
    inside = (low, high) if value is None else (min(low, value), max(high, value))
    writer.put(target, name, first=first, inside=inside, moved=writer.same_steps(source, target))


def normalisation(writer: OnnxWriter, operator: Operator) -> None:
    """LOCAL_RESPONSE_NORMALIZATION along the channels, and L2_NORMALIZATION along the last axis."""
    source, options = operator.inputs[0], operator.options
    if operator.kind == "L2_NORMALIZATION":
        name = writer.add("LpNormalization", [writer.plain(source)], axis=-1, p=2)
        put_activated(writer, operator, name, first=False, inside=(-1, 1))
        return
    size = 2 * options.radius + 1
    name = writer.add(
        "LRN", [writer.first(source)], size=size, alpha=options.alpha * size, beta=options.beta, bias=options.bias
    )
    writer.put(operator.outputs[0], name, first=True)
