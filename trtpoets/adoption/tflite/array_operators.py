"""Converts TFLite's operators without weights to ONNX: element by element, and moving values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from trtpoets.adoption.tflite.contents import GIVE_SOURCE, Operator
from trtpoets.adoption.tflite.fixed_point import hard_swish_table
from trtpoets.adoption.tflite.layer_operators import limits_of, put_activated
from trtpoets.adoption.tflite.onnx_writer import EVERYTHING, FIRST, LAST, Interval, OnnxWriter
from trtpoets.core.errors import ConversionFailed

_UNIT: Interval = (0, 1)

_INT64 = 7
"""The number of this type in ONNX."""


def _add(writer: OnnxWriter, kind: str, name: str, other: float) -> str:
    return writer.add(kind, [name, writer.number(other)])


def _hard_swish(writer: OnnxWriter, name: str) -> str:
    gate = writer.add("HardSigmoid", [name], alpha=1 / 6, beta=0.5)
    return writer.add("Mul", [name, gate])


def _exact_gelu(writer: OnnxWriter, name: str) -> str:
    inner = writer.add("Erf", [_add(writer, "Mul", name, math.sqrt(0.5))])
    return writer.add("Mul", [_add(writer, "Mul", name, 0.5), _add(writer, "Add", inner, 1)])


def _approximate_gelu(writer: OnnxWriter, name: str) -> str:
    cube = writer.add("Mul", [writer.add("Mul", [name, name]), name])
    sum_ = writer.add("Add", [name, _add(writer, "Mul", cube, 0.044715)])
    inner = writer.add("Tanh", [_add(writer, "Mul", sum_, math.sqrt(2 / math.pi))])
    return writer.add("Mul", [_add(writer, "Mul", name, 0.5), _add(writer, "Add", inner, 1)])


_Conversion = Callable[[OnnxWriter, str], str]


def _node(kind: str) -> _Conversion:
    return lambda writer, name: writer.add(kind, [name])


_UNARY: dict[str, tuple[_Conversion, Interval]] = {
    "LOGISTIC": (_node("Sigmoid"), _UNIT),
    "TANH": (_node("Tanh"), (-1, 1)),
    "ELU": (_node("Elu"), (-1, math.inf)),
    "EXP": (_node("Exp"), EVERYTHING),
    "LOG": (_node("Log"), EVERYTHING),
    "SQRT": (_node("Sqrt"), EVERYTHING),
    "RSQRT": (lambda writer, name: writer.add("Reciprocal", [writer.add("Sqrt", [name])]), EVERYTHING),
    "NEG": (_node("Neg"), EVERYTHING),
    "ABS": (_node("Abs"), EVERYTHING),
    "FLOOR": (_node("Floor"), EVERYTHING),
    "CEIL": (_node("Ceil"), EVERYTHING),
    "SQUARE": (lambda writer, name: writer.add("Mul", [name, name]), EVERYTHING),
    "HARD_SWISH": (_hard_swish, EVERYTHING),
}

_LIMITS: dict[str, Interval] = {
    "RELU": (0, math.inf),
    "RELU6": (0, 6),
    "RELU_N1_TO_1": (-1, 1),
    "RELU_0_TO_1": (0, 1),
}

_BINARY = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
    "SQUARED_DIFFERENCE": "Sub",
}

UNARY_KINDS = (*_UNARY, *_LIMITS, "GELU", "LEAKY_RELU")
BINARY_KINDS = tuple(_BINARY)


def unary(writer: OnnxWriter, operator: Operator) -> None:
    """Convert an operator that computes each value by itself."""
    source, target = operator.inputs[0], operator.outputs[0]
    first = writer.has_first(source)
    name = writer.in_order(source, first)
    kind = operator.kind
    if kind == "LEAKY_RELU" and writer.in_integers(source, target):
        _rescaled(writer, operator, operator.options.alpha)
        return
    if kind == "HARD_SWISH" and writer.in_integers(source, target):
        _by_table(writer, operator, first)
        return
    if kind in _LIMITS:
        writer.put(target, name, first=first, limits=_LIMITS[kind])
        return
    convert: _Conversion
    inside = EVERYTHING
    if kind == "GELU":
        convert = _approximate_gelu if operator.options.approximate else _exact_gelu
    elif kind == "LEAKY_RELU":
        alpha = operator.options.alpha
        convert = lambda writer, name: writer.add("LeakyRelu", [name], alpha=alpha)  # noqa: E731
    else:
        convert, inside = _UNARY[kind]
    writer.put(target, convert(writer, name), first=first, inside=inside)


def _by_table(writer: OnnxWriter, operator: Operator, first: bool) -> None:
    """HARD_SWISH of integers, which the interpreter computes with 16 bits."""
    source, target = operator.inputs[0], operator.outputs[0]
    before, after = (writer.tensor(index) for index in (source, target))
    assert before.quantisation and after.quantisation and before.integer_range
    smallest, _ = before.integer_range
    table = hard_swish_table(before.quantisation.single, after.quantisation.single, before.integer_range)
    place = _add(writer, "Add", writer.steps(source, first), before.quantisation.single[1] - smallest)
    indices = writer.add("Cast", [place], to=_INT64)
    name = writer.add("Gather", [writer.store(table.astype(np.float32)), indices])
    writer.put_steps(target, name, factor=np.ones(1), first=first)


def binary(writer: OnnxWriter, operator: Operator) -> None:
    """Convert an operator on two tensors, of which one may be smaller or a constant."""
    target = operator.outputs[0]
    rank = len(writer.shape(target))
    first = rank == 4 and any(writer.has_first(index) for index in operator.inputs)
    if operator.kind in ("ADD", "SUB", "MUL") and writer.in_integers(*operator.inputs[:2], target):
        _in_integers(writer, operator, rank, first)
        return
    inputs = [_operand(writer, index, rank, first) for index in operator.inputs[:2]]
    name = writer.add(_BINARY[operator.kind], inputs)
    if operator.kind == "SQUARED_DIFFERENCE":
        name = writer.add("Mul", [name, name])
    put_activated(writer, operator, name, first=first)


def _in_integers(writer: OnnxWriter, operator: Operator, rank: int, first: bool) -> None:
    """ADD, SUB and MUL of integers, as XNNPACK computes them.

    A product of steps is multiplied by one float32 number. The steps of a sum are multiplied by integers of 21 bits,
    added, and divided by a power of 2 with halves rounded up. The multipliers are divided into high and low bits, so
    that float32 holds all sums exactly.
    """
    target = operator.outputs[0]
    names = [_operand(writer, index, rank, first, steps=True) for index in operator.inputs[:2]]
    one, other, result = (_scale(writer, index) for index in (*operator.inputs[:2], target))
    limits = limits_of(writer, operator)
    if operator.kind == "MUL":
        factor = np.array([one * other / result], np.float32)
        writer.put_steps(target, writer.add("Mul", names), factor=factor, first=first, limits=limits)
        return
    shares = [one / result, other / result]
    shift = 20 - math.frexp(max(shares))[1] + 1
    multipliers = [float(np.rint(np.ldexp(np.float64(share), shift))) for share in shares]
    if operator.kind == "SUB":
        multipliers[1] = -multipliers[1]
    low_bits = min(_LOW_BITS, shift)
    parts = [divmod(round(number), 1 << low_bits) for number in (*multipliers, math.ldexp(1, shift - 1))]
    high, low = (_weighted_sum(writer, names, [part[place] for part in parts]) for place in (0, 1))
    carry = writer.add("Floor", [_add(writer, "Mul", low, math.ldexp(1, -low_bits))])
    total = _add(writer, "Mul", writer.add("Add", [high, carry]), math.ldexp(1, low_bits - shift))
    writer.put_steps(target, writer.add("Floor", [total]), factor=np.ones(1), first=first, limits=limits)


def _weighted_sum(writer: OnnxWriter, names: list[str], numbers: list[int]) -> str:
    """Each tensor times its number, and the last number."""
    terms = [_add(writer, "Mul", name, number) for name, number in zip(names, numbers[:2], strict=True)]
    return _add(writer, "Add", writer.add("Add", terms), numbers[2])


_LOW_BITS = 11


def _scale(writer: OnnxWriter, index: int) -> np.float32:
    quantisation = writer.tensor(index).quantisation
    assert quantisation is not None
    scale: np.float32 = np.float32(quantisation.single[0])
    return scale


def add_all(writer: OnnxWriter, operator: Operator) -> None:
    """Convert ADD_N, the sum of several tensors of one shape."""
    rank = len(writer.shape(operator.outputs[0]))
    first = rank == 4 and any(writer.has_first(index) for index in operator.inputs)
    name = writer.add("Sum", [_operand(writer, index, rank, first) for index in operator.inputs])
    writer.put(operator.outputs[0], name, first=first)


def parametric_relu(writer: OnnxWriter, operator: Operator) -> None:
    """Convert PRELU with constant slopes."""
    source, target = operator.inputs[0], operator.outputs[0]
    rank = len(writer.shape(source))
    first = rank == 4
    slopes = _aligned(writer.needed_constant(operator, 1), rank)
    slopes = slopes.transpose(FIRST) if first else slopes
    name = writer.add("PRelu", [writer.in_order(source, first), writer.store(slopes.reshape(slopes.shape[1:]))])
    writer.put(target, name, first=first)


def _aligned(array: np.ndarray, rank: int) -> np.ndarray:
    """The array with axes of size 1 in front, so that it has `rank` axes."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _operand(writer: OnnxWriter, index: int, rank: int, first: bool, *, steps: bool = False) -> str:
    """The name of an input, or of its steps, that is broadcast to `rank` axes."""
    shape = writer.shape(index)
    data = writer.constants.get(index)
    if data is not None:
        tensor = writer.tensor(index)
        if steps and tensor.data is not None and tensor.quantisation is not None:
            data = tensor.data.astype(np.float32) - tensor.quantisation.single[1]
        if data.size == 1:
            return writer.store(data.reshape(()))
        return writer.store(_aligned(data, rank).transpose(FIRST) if first else data)
    if len(shape) == rank:
        return writer.steps(index, first) if steps else writer.in_order(index, first)
    # The first axis remains that of the photos.
    wider = (1,) * (rank - len(shape)) + shape[1:]
    if first:
        wider = wider[2], wider[0], wider[1]
    return writer.reshaped(writer.steps(index) if steps else writer.plain(index), wider)


def softmax(writer: OnnxWriter, operator: Operator) -> None:
    """SOFTMAX and LOG_SOFTMAX along the last axis."""
    source, target = operator.inputs[0], operator.outputs[0]
    first = len(writer.shape(source)) == 4 and writer.has_first(source)
    name = writer.in_order(source, first)
    beta = getattr(operator.options, "beta", 1.0)
    if operator.kind == "SOFTMAX" and beta != 1:
        name = _add(writer, "Mul", name, beta)
    kind, inside = ("Softmax", _UNIT) if operator.kind == "SOFTMAX" else ("LogSoftmax", (-math.inf, 0.0))
    writer.put(target, writer.add(kind, [name], axis=1 if first else -1), first=first, inside=inside)


def reshape(writer: OnnxWriter, operator: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS to the shape that the file has for its own batch."""
    source, target = operator.inputs[0], operator.outputs[0]
    before, after = writer.shape(source), writer.shape(target)
    _check_moved(writer, operator, source)
    if before == after:
        first = writer.has_first(source)
        writer.put(target, writer.in_order(source, first), first=first, inside=writer.inside(source), moved=True)
        return
    writer.put(target, writer.reshaped(writer.flat(source), after[1:]), inside=writer.inside(source), moved=True)


def transpose(writer: OnnxWriter, operator: Operator) -> None:
    """TRANSPOSE; between NHWC and NCHW it needs no node if the tensor exists in the other order."""
    source, target = operator.inputs[0], operator.outputs[0]
    order = tuple(int(axis) for axis in writer.needed_constant(operator, 1).reshape(-1))
    _check_moved(writer, operator, source)
    if order == LAST:
        writer.put(target, writer.plain(source), first=True, inside=writer.inside(source), moved=True)
    elif order == FIRST:
        writer.put(target, writer.first(source), inside=writer.inside(source), moved=True)
    else:
        name = writer.add("Transpose", [writer.plain(source)], perm=list(order))
        writer.put(target, name, inside=writer.inside(source), moved=True)


def concatenation(writer: OnnxWriter, operator: Operator) -> None:
    """CONCATENATION along one axis."""
    target = operator.outputs[0]
    rank = len(writer.shape(target))
    first = rank == 4 and any(writer.has_first(index) for index in operator.inputs)
    axis = _axis(operator.options.axis, rank, first)
    name = writer.add("Concat", [_operand(writer, index, rank, first) for index in operator.inputs], axis=axis)
    ends = [writer.inside(index) for index in operator.inputs]
    inside = min(low for low, _ in ends), max(high for _, high in ends)
    moved = all(writer.same_steps(index, target) for index in operator.inputs)
    put_activated(writer, operator, name, first=first, inside=inside, moved=moved)


def split(writer: OnnxWriter, operator: Operator) -> None:
    """SPLIT (axis, value) and SPLIT_V (value, sizes, axis)."""
    even = operator.kind == "SPLIT"
    source = operator.inputs[1] if even else operator.inputs[0]
    rank = len(writer.shape(source))
    axis = int(writer.needed_constant(operator, 0 if even else 2).reshape(-1)[0]) % rank
    first = rank == 4 and writer.has_first(source)
    sizes = np.array([writer.shape(index)[axis] for index in operator.outputs], np.int64)
    names = writer.add_many(
        "Split",
        [writer.in_order(source, first), writer.store(sizes)],
        len(operator.outputs),
        axis=_axis(axis, rank, first),
    )
    for target, name in zip(operator.outputs, names, strict=True):
        moved = writer.same_steps(source, target)
        writer.put(target, name, first=first, inside=writer.inside(source), moved=moved)


def slice_(writer: OnnxWriter, operator: Operator) -> None:
    """SLICE (begin, size) and STRIDED_SLICE (begin, end, strides) with constants; the photos' axis stays whole."""
    source, target = operator.inputs[0], operator.outputs[0]
    shape = writer.shape(source)
    begins, ends, steps, dropped = _slice_bounds(writer, operator, shape)
    first = len(shape) == 4 and not dropped and writer.has_first(source)
    axes = [
        axis for axis, size in enumerate(shape) if axis > 0 and (begins[axis], ends[axis], steps[axis]) != (0, size, 1)
    ]
    if begins[0] != 0 or ends[0] != shape[0] or steps[0] != 1 or 0 in dropped:
        raise ConversionFailed(
            f"{writer.contents.path} has the operator {operator.kind} that selects among the photos of a batch",
            hint=GIVE_SOURCE,
            code="TP9355",
        )
    name = writer.in_order(source, first)
    if axes:
        columns = ([begins[a] for a in axes], [ends[a] for a in axes], [_axis(a, len(shape), first) for a in axes])
        bounds = [writer.store(np.array(column, np.int64)) for column in (*columns, [steps[a] for a in axes])]
        name = writer.add("Slice", [name, *bounds])
    moved = writer.same_steps(source, target)
    if dropped:
        name = writer.add("Squeeze", [name, writer.store(np.array(dropped, np.int64))])
    writer.put(target, name, first=first, inside=writer.inside(source), moved=moved)


def _slice_bounds(
    writer: OnnxWriter, operator: Operator, shape: tuple[int, ...]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Begin, end and step along each axis, and the axes that are removed."""
    begin, other = ([int(value) for value in writer.needed_constant(operator, place).reshape(-1)] for place in (1, 2))
    rank = len(shape)
    if operator.kind == "SLICE":
        sizes = zip(shape, begin, other, strict=True)
        return begin, [size if count == -1 else start + count for size, start, count in sizes], [1] * rank, []
    options = operator.options
    if options.ellipsisMask or options.newAxisMask or getattr(options, "offset", False):
        raise ConversionFailed(
            f"{writer.contents.path} has the operator STRIDED_SLICE with an ellipsis or new axes",
            hint=GIVE_SOURCE,
            code="TP9357",
        )
    steps = [int(value) for value in writer.needed_constant(operator, 3).reshape(-1)]
    begins: list[int] = []
    ends: list[int] = []
    dropped = [axis for axis in range(rank) if axis < len(begin) and options.shrinkAxisMask >> axis & 1]
    for axis, size in enumerate(shape):
        if axis >= len(begin):
            begins, ends, steps = [*begins, 0], [*ends, size], [*steps, 1]
            continue
        step = steps[axis]
        start = begin[axis] if begin[axis] >= 0 else begin[axis] + size
        end = other[axis] if other[axis] >= 0 else other[axis] + size
        if axis in dropped:
            begins, ends = [*begins, start], [*ends, start + 1]
            continue
        if options.beginMask >> axis & 1:
            start = 0 if step > 0 else size - 1
        if options.endMask >> axis & 1:
            end = size if step > 0 else -(2**31)
        elif step > 0:
            end = min(end, size)
        begins, ends = [*begins, start], [*ends, end]
    return begins, ends, steps, dropped


def reverse(writer: OnnxWriter, operator: Operator) -> None:
    """REVERSE_V2 along constant axes, such as from RGB to BGR."""
    source, target = operator.inputs[0], operator.outputs[0]
    rank = len(writer.shape(source))
    first = rank == 4 and writer.has_first(source)
    axes = [_axis(int(axis), rank, first) for axis in writer.needed_constant(operator, 1).reshape(-1)]
    bounds = ([-1] * len(axes), [-(2**31)] * len(axes), axes, [-1] * len(axes))
    names = [writer.store(np.array(column, np.int64)) for column in bounds]
    name = writer.add("Slice", [writer.in_order(source, first), *names])
    writer.put(target, name, first=first, inside=writer.inside(source), moved=writer.same_steps(source, target))


def gather(writer: OnnxWriter, operator: Operator) -> None:
    """GATHER with constant indices, such as a new order of channels."""
    source, target = operator.inputs[0], operator.outputs[0]
    indices = writer.needed_constant(operator, 1)
    rank = len(writer.shape(source))
    axis = operator.options.axis % rank
    name = writer.add("Gather", [writer.plain(source), writer.store(indices.astype(np.int64))], axis=axis)
    writer.put(target, name, inside=writer.inside(source), moved=writer.same_steps(source, target))


def matrix_product(writer: OnnxWriter, operator: Operator) -> None:
    """Convert BATCH_MATMUL, the product of two computed matrices."""
    names = []
    for index, turned in zip(operator.inputs, (operator.options.adjX, operator.options.adjY), strict=False):
        name, rank = writer.plain(index), len(writer.shape(index))
        if turned:
            name = writer.add("Transpose", [name], perm=[*range(rank - 2), rank - 1, rank - 2])
        names.append(name)
    writer.put(operator.outputs[0], writer.add("MatMul", names))


def same_values(writer: OnnxWriter, operator: Operator) -> None:
    """QUANTIZE, DEQUANTIZE and CAST: the values stay, and the output stores them in its own type."""
    source, target = operator.inputs[0], operator.outputs[0]
    if operator.kind == "CAST" and writer.tensor(target).dtype not in ("float32", "float16"):
        raise ConversionFailed(
            f"{writer.contents.path} has the operator CAST to {writer.tensor(target).dtype}",
            hint=GIVE_SOURCE,
            code="TP9358",
        )
    if writer.in_integers(source, target):
        _rescaled(writer, operator)
        return
    first = writer.has_first(source)
    writer.put(target, writer.in_order(source, first), first=first, inside=writer.inside(source))


def _rescaled(writer: OnnxWriter, operator: Operator, alpha: float | None = None) -> None:
    """Convert integers to those of another scale as XNNPACK does: times a number of 8 fractional bits, halves up.

    Negative values are also multiplied by `alpha`.
    """
    source, target = operator.inputs[0], operator.outputs[0]
    first = writer.has_first(source)
    name = writer.steps(source, first)
    ratio = _scale(writer, source) / _scale(writer, target)
    scaled = _add(writer, "Mul", name, float(np.rint(ratio * 256)))
    if alpha is not None:
        negative = _add(writer, "Mul", name, float(np.rint(ratio * np.float32(alpha) * 256)))
        scaled = writer.add("Where", [_add(writer, "Less", name, 0), negative, scaled])
    name = writer.add("Floor", [_add(writer, "Mul", _add(writer, "Add", scaled, 128), 1 / 256)])
    writer.put_steps(target, name, factor=np.ones(1), first=first)


def _axis(axis: int, rank: int, first: bool) -> int:
    """The number of an axis in the other order."""
    axis %= rank
    return {0: 0, 1: 2, 2: 3, 3: 1}[axis] if first else axis


def _check_moved(writer: OnnxWriter, operator: Operator, source: int) -> None:
    target = operator.outputs[0]
    if not writer.same_steps(source, target):
        raise ConversionFailed(
            f"{writer.contents.path} has the operator {operator.kind} with another quantisation at its output than at "
            "its input",
            hint=GIVE_SOURCE,
            code="TP9359",
        )
