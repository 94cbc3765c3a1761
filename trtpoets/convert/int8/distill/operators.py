"""The operators of the differentiable network that have no weights: pointwise, and those that move or reduce values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import attribute
from trtpoets.convert.int8.distill import layers
from trtpoets.convert.int8.distill.layers import unsupported
from trtpoets.convert.int8.distill.layouts import NetworkValue, aligned, transposed
from trtpoets.core.optional import tensorflow

Inputs = Sequence["NetworkValue | None"]
"""The inputs of a node; None for an optional one that is left out."""

Operator = Callable[[Any, Inputs], "NetworkValue | list[NetworkValue]"]
"""Computes the outputs of a node from its inputs."""

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool"}
"""TensorFlow's name of each TensorProto.DataType that Cast may give."""


@lru_cache(maxsize=1)
def operators() -> Mapping[str, Operator]:
    """Return the function of each supported operator."""
    tf = tensorflow()
    unary: dict[str, Callable[[Any, Any], Any]] = {
        "Abs": lambda node, x: tf.abs(x),
        "Celu": lambda node, x: _celu(x, float(attribute(node, "alpha", 1.0))),
        "Elu": lambda node, x: _elu(x, float(attribute(node, "alpha", 1.0))),
        "Erf": lambda node, x: tf.math.erf(x),
        "Exp": lambda node, x: tf.exp(x),
        "Gelu": lambda node, x: tf.nn.gelu(x, approximate=attribute(node, "approximate", b"none") == b"tanh"),
        "HardSigmoid": lambda node, x: tf.clip_by_value(
            float(attribute(node, "alpha", 0.2)) * x + float(attribute(node, "beta", 0.5)), 0.0, 1.0
        ),
        "HardSwish": lambda node, x: x * tf.clip_by_value(x / 6 + 0.5, 0.0, 1.0),
        "LeakyRelu": lambda node, x: tf.where(x > 0, x, float(attribute(node, "alpha", 0.01)) * x),
        "Mish": lambda node, x: x * tf.tanh(tf.math.softplus(x)),
        "Neg": lambda node, x: -x,
        "Reciprocal": lambda node, x: 1 / x,
        "Relu": lambda node, x: tf.nn.relu(x),
        "Selu": lambda node, x: tf.nn.selu(x),
        "Sigmoid": lambda node, x: tf.sigmoid(x),
        "Softplus": lambda node, x: tf.math.softplus(x),
        "Softsign": lambda node, x: tf.nn.softsign(x),
        "Sqrt": lambda node, x: tf.sqrt(x),
        "Tanh": lambda node, x: tf.tanh(x),
    }
    several: dict[str, Callable[..., Any]] = {
        "Add": lambda a, b: a + b,
        "Div": lambda a, b: a / b,
        "Max": lambda *all_of: _folded(tf.maximum, all_of),
        "Min": lambda *all_of: _folded(tf.minimum, all_of),
        "Mul": lambda a, b: a * b,
        "Pow": lambda a, b: tf.square(a) if isinstance(b, np.ndarray) and (b == 2).all() else tf.pow(a, b),
        "PRelu": lambda a, b: tf.where(a > 0, a, a * b),
        "Sub": lambda a, b: a - b,
        "Sum": lambda *all_of: _folded(lambda a, b: a + b, all_of),
    }
    others: dict[str, Operator] = {
        "AveragePool": layers.pool,
        "BatchNormalization": _batch_norm,
        "Cast": lambda node, inputs: _map(inputs, lambda x: tf.cast(x, _type_of_cast(node))),
        "Clip": _clip,
        "Concat": _concat,
        "Conv": layers.convolution,
        "Dropout": lambda node, inputs: _first(inputs),
        "Flatten": _flatten,
        "Gemm": layers.gemm,
        "GlobalAveragePool": layers.global_pool,
        "GlobalMaxPool": layers.global_pool,
        "Identity": lambda node, inputs: _first(inputs),
        "LayerNormalization": _layer_norm,
        "LogSoftmax": lambda node, inputs: _softmax(node, inputs, tf.nn.log_softmax),
        "MatMul": layers.product,
        "MaxPool": layers.pool,
        "Pad": _pad,
        "ReduceMean": lambda node, inputs: _reduce(node, inputs, tf.reduce_mean),
        "ReduceSum": lambda node, inputs: _reduce(node, inputs, tf.reduce_sum),
        "Reshape": _reshape,
        "Slice": _slice,
        "Softmax": lambda node, inputs: _softmax(node, inputs, tf.nn.softmax),
        "Split": _split,
        "Squeeze": _squeeze,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
    return {
        **{name: _pointwise(function) for name, function in unary.items()},
        **{name: _broadcast(function) for name, function in several.items()},
        **others,
    }


def _first(inputs: Inputs) -> NetworkValue:
    value = inputs[0]
    assert value is not None  # the first input is mandatory in ONNX
    return value


def _map(inputs: Inputs, function: Callable[[Any], Any]) -> NetworkValue:
    return _first(inputs).like(function(_first(inputs).tensor))


def _pointwise(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda node, inputs: _map(inputs, lambda x: function(node, x))


def _broadcast(function: Callable[..., Any]) -> Operator:
    def operator(node: Any, inputs: Inputs) -> NetworkValue:
        tensors, channels_last = aligned([value for value in inputs if value is not None])
        return NetworkValue(function(*tensors), channels_last)

    return operator


def _folded(function: Callable[[Any, Any], Any], tensors: Sequence[Any]) -> Any:
    result = tensors[0]
    for tensor in tensors[1:]:
        result = function(result, tensor)
    return result


def _elu(x: Any, alpha: float) -> Any:
    tf = tensorflow()
    return tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0.0)))


def _celu(x: Any, alpha: float) -> Any:
    tf = tensorflow()
    return tf.maximum(x, 0.0) + tf.minimum(0.0, alpha * tf.math.expm1(tf.minimum(x, 0.0) / alpha))


def _type_of_cast(node: Any) -> str:
    code = int(attribute(node, "to", 0))
    if code not in _TYPES:
        raise unsupported(node, f"type {code}")
    return _TYPES[code]


def _clip(node: Any, inputs: Inputs) -> NetworkValue:
    tf = tensorflow()
    tensor = _first(inputs).tensor
    low, high = (None if value is None else value.tensor for value in (*inputs[1:], None, None)[:2])
    low = attribute(node, "min", None) if low is None else low  # an attribute up to opset 10
    high = attribute(node, "max", None) if high is None else high
    # Unlike clip_by_value, a minimum and a maximum have the gradient of a ReLU at their bounds.
    tensor = tensor if high is None else tf.minimum(tensor, high)
    return _first(inputs).like(tensor if low is None else tf.maximum(tensor, low))


def _batch_norm(node: Any, inputs: Inputs) -> NetworkValue:
    tf = tensorflow()
    data, gamma, beta, mean, variance = inputs[:5]
    assert data is not None and gamma is not None and beta is not None and mean is not None and variance is not None
    factor = gamma.tensor / tf.sqrt(variance.tensor + float(attribute(node, "epsilon", 1e-5)))
    return NetworkValue(data.maps * factor + (beta.tensor - mean.tensor * factor), channels_last=True)


def _layer_norm(node: Any, inputs: Inputs) -> NetworkValue:
    tf = tensorflow()
    data = _first(inputs).plain
    axes = list(range(int(attribute(node, "axis", -1)) % len(data.shape), len(data.shape)))
    mean, variance = tf.nn.moments(data, axes, keepdims=True)
    result = (data - mean) * tf.math.rsqrt(variance + float(attribute(node, "epsilon", 1e-5)))
    for function, value in zip((tf.multiply, tf.add), inputs[1:], strict=False):
        result = result if value is None else function(result, value.plain)
    return NetworkValue(result)


def _softmax(node: Any, inputs: Inputs, function: Callable[..., Any]) -> NetworkValue:
    data = _first(inputs)
    axis = int(attribute(node, "axis", -1))
    return data.like(function(data.tensor, axis=data.axis(axis)))


def _concat(node: Any, inputs: Inputs) -> NetworkValue:
    values = [value for value in inputs if value is not None]
    tensors, channels_last = aligned(values)
    stored = NetworkValue(tensors[0], channels_last)
    return NetworkValue(tensorflow().concat(tensors, axis=stored.axis(int(attribute(node, "axis", 0)))), channels_last)


def _split(node: Any, inputs: Inputs) -> list[NetworkValue]:
    data = _first(inputs)
    sizes = _integers(node, inputs, 1, "split")
    parts = len(node.output) if sizes is None else sizes
    pieces = tensorflow().split(data.tensor, parts, axis=data.axis(int(attribute(node, "axis", 0))))
    return [data.like(piece) for piece in pieces]


def _slice(node: Any, inputs: Inputs) -> NetworkValue:
    data = _first(inputs)
    starts, ends = _integers(node, inputs, 1, "starts") or [], _integers(node, inputs, 2, "ends") or []
    axes = _integers(node, inputs, 3, "axes") or list(range(len(starts)))
    steps = _integers(node, inputs, 4, "steps") or [1] * len(starts)
    index = [slice(None)] * data.rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise unsupported(node, "a negative step")
        size = data.tensor.shape[data.axis(axis)]
        # An end beyond every size stands for the last index.
        last = None if end >= (size if size is not None else 2**31 - 1) else end
        index[data.axis(axis)] = slice(start, last, step)
    return data.like(data.tensor[tuple(index)])


def _pad(node: Any, inputs: Inputs) -> NetworkValue:
    data = _first(inputs)
    margins, mode = _integers(node, inputs, 1, "pads") or [], attribute(node, "mode", b"constant")
    if min(margins, default=0) < 0 or mode not in (b"constant", b"reflect") or len(inputs) > 3:
        raise unsupported(node, "this mode, axes or negative margins")
    pairs = list(zip(margins[: data.rank], margins[data.rank :], strict=True))
    stored = [(0, 0)] * data.rank
    for axis, pair in enumerate(pairs):
        stored[data.axis(axis)] = pair
    value = inputs[2] if len(inputs) > 2 else None
    filling = 0.0 if value is None else float(np.asarray(value.constant).reshape(()))
    return data.like(tensorflow().pad(data.tensor, stored, mode.decode().upper(), filling))


def _reduce(node: Any, inputs: Inputs, function: Callable[..., Any]) -> NetworkValue:
    data = _first(inputs)
    axes = _integers(node, inputs, 1, "axes")
    if axes is None:
        raise unsupported(node, "no axes")
    if attribute(node, "keepdims", 1):
        return data.like(function(data.tensor, axis=[data.axis(axis) for axis in axes], keepdims=True))
    return NetworkValue(function(data.plain, axis=axes))


def _flatten(node: Any, inputs: Inputs) -> NetworkValue:
    tf = tensorflow()
    data = _first(inputs).plain
    axis = int(attribute(node, "axis", 1)) % len(data.shape)
    rest = _static_product(data.shape[axis:])
    if axis != 1 or rest is None:
        raise unsupported(node, f"axis {axis}")
    return NetworkValue(tf.reshape(data, (-1, rest)))


def _static_product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else int(np.prod([int(size or 0) for size in sizes]))


def _reshape(node: Any, inputs: Inputs) -> NetworkValue:
    tf = tensorflow()
    data = _first(inputs).plain
    shape = _integers(node, inputs, 1, "shape")
    if shape is None or (0 in shape and attribute(node, "allowzero", 0)):
        raise unsupported(node, "a computed shape")
    now = [shape_now if shape_now is not None else tf.shape(data)[axis] for axis, shape_now in enumerate(data.shape)]
    wanted = [now[axis] if size == 0 else size for axis, size in enumerate(shape)]
    if -1 not in shape and data.shape[0] is None and shape[0] > 0:
        wanted[0] = -1  # a fixed batch
    return NetworkValue(tf.reshape(data, wanted))


def _squeeze(node: Any, inputs: Inputs) -> NetworkValue:
    data = _first(inputs)
    axes = _integers(node, inputs, 1, "axes")
    if axes is None:
        raise unsupported(node, "no axes")
    return NetworkValue(tensorflow().squeeze(data.plain, axis=axes))


def _unsqueeze(node: Any, inputs: Inputs) -> NetworkValue:
    tensor = _first(inputs).plain
    axes = _integers(node, inputs, 1, "axes") or []
    rank = len(tensor.shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        tensor = tensorflow().expand_dims(tensor, axis)
    return NetworkValue(tensor)


def _transpose(node: Any, inputs: Inputs) -> NetworkValue:
    data = _first(inputs)
    return transposed(data, attribute(node, "perm", list(reversed(range(data.rank)))))


def _integers(node: Any, inputs: Inputs, index: int, name: str) -> list[int] | None:
    """Return a list that is an attribute or a constant input, depending on the opset; None if it is left out.

    Raises ConversionFailed if it is computed.
    """
    value = inputs[index] if len(inputs) > index else None
    if value is None:
        numbers = attribute(node, name, None)
        return None if numbers is None else [int(number) for number in numbers]
    if value.constant is None:
        raise unsupported(node, f"a computed {name}")
    return [int(number) for number in value.constant.reshape(-1)]
