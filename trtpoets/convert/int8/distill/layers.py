"""Convolutions, pools and products of the differentiable network, as TensorFlow operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import attribute
from trtpoets.convert.int8.distill.layouts import NetworkValue
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import tensorflow

Pads = list[tuple[int, int]]
"""The numbers of cells before and after a map, for height and width."""


def unsupported(node: Any, why: str = "") -> ConversionFailed:
    """Return the error for an operator that cannot be differentiated here."""
    reason = f" with {why}" if why else ""
    return ConversionFailed(
        f"the operator {node.op_type}{reason} of node {node.name} is not supported by distillation",
        hint="quantise without it: trtpoets quantize NAME",
        code="TP3290",
    )


def convolution(node: Any, inputs: Sequence[NetworkValue | None]) -> NetworkValue:
    """Return the result of a Conv."""
    tf = tensorflow()
    data, weights = _given(inputs[0]), _given(inputs[1])
    if weights.rank != 4:
        raise unsupported(node, f"{weights.rank - 2} spatial axes")
    maps, kernel = data.maps, weights.plain
    out, _, high, wide = (int(size) for size in kernel.shape)
    groups, channels = int(attribute(node, "group", 1)), int(maps.shape[-1])
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    spans = [(size - 1) * dilation + 1 for size, dilation in zip((high, wide), dilations, strict=True)]
    pads = _pads(node, maps, spans, strides)
    padding: Any = [(0, 0), *pads, (0, 0)] if any(map(any, pads)) else "VALID"
    if groups == 1:
        result = tf.nn.conv2d(maps, tf.transpose(kernel, (2, 3, 1, 0)), strides, padding, dilations=dilations)
    elif groups == channels and strides[0] == strides[1] and (max(strides) == 1 or max(dilations) == 1):
        kernel = tf.transpose(tf.reshape(kernel, (groups, out // groups, high, wide)), (2, 3, 0, 1))
        if padding != "VALID":
            # With oneDNN, TensorFlow aborts on a depthwise convolution with explicit padding before a ReLU.
            maps = tf.pad(maps, padding)
        result = tf.nn.depthwise_conv2d(maps, kernel, [1, *strides, 1], "VALID", dilations=dilations)
    else:
        # TensorFlow has no gradient of convolutions in groups on a CPU.
        kernels = tf.split(tf.transpose(kernel, (2, 3, 1, 0)), groups, axis=3)
        parts = zip(tf.split(maps, groups, axis=3), kernels, strict=True)
        result = tf.concat([tf.nn.conv2d(a, b, strides, padding, dilations=dilations) for a, b in parts], axis=3)
    bias = inputs[2] if len(inputs) > 2 else None
    return NetworkValue(result if bias is None else result + bias.tensor, channels_last=True)


def pool(node: Any, inputs: Sequence[NetworkValue | None]) -> NetworkValue:
    """Return the result of a MaxPool or AveragePool."""
    tf = tensorflow()
    data = _given(inputs[0])
    kernel = attribute(node, "kernel_shape", [])
    if len(kernel) != 2 or max(attribute(node, "dilations", [1, 1])) > 1 or len(node.output) > 1:
        raise unsupported(node, "dilations, indices or other than two spatial axes")
    maps, strides = data.maps, attribute(node, "strides", [1, 1])
    pads = _pads(node, maps, kernel, strides)
    if attribute(node, "ceil_mode", 0):
        pads = [
            (first, last + _missing(int(size), first, last, span, stride))
            for (first, last), size, span, stride in zip(pads, maps.shape[1:3], kernel, strides, strict=True)
        ]
    margins = [(0, 0), *pads, (0, 0)]
    if node.op_type == "MaxPool":
        padded = tf.pad(maps, margins, constant_values=maps.dtype.min) if any(map(any, pads)) else maps
        return NetworkValue(tf.nn.max_pool2d(padded, kernel, strides, "VALID"), channels_last=True)
    if not any(map(any, pads)):
        return NetworkValue(tf.nn.avg_pool2d(maps, kernel, strides, "VALID"), channels_last=True)
    if attribute(node, "count_include_pad", 0):
        if attribute(node, "ceil_mode", 0):
            raise unsupported(node, "count_include_pad and ceil_mode")
        return NetworkValue(tf.nn.avg_pool2d(tf.pad(maps, margins), kernel, strides, "VALID"), channels_last=True)
    inside = np.pad(np.ones((1, *maps.shape[1:3], 1), np.float32), margins)
    sums = tf.nn.avg_pool2d(tf.pad(maps, margins), kernel, strides, "VALID")
    return NetworkValue(sums / tf.nn.avg_pool2d(inside, kernel, strides, "VALID"), channels_last=True)


def global_pool(node: Any, inputs: Sequence[NetworkValue | None]) -> NetworkValue:
    """Return the result of a GlobalAveragePool or GlobalMaxPool."""
    tf = tensorflow()
    maps = _given(inputs[0]).maps
    reduce = tf.reduce_mean if node.op_type == "GlobalAveragePool" else tf.reduce_max
    return NetworkValue(reduce(maps, axis=list(range(1, len(maps.shape) - 1)), keepdims=True), channels_last=True)


def product(node: Any, inputs: Sequence[NetworkValue | None]) -> NetworkValue:
    """Return the result of a MatMul."""
    return NetworkValue(tensorflow().matmul(_given(inputs[0]).plain, _given(inputs[1]).plain))


def gemm(node: Any, inputs: Sequence[NetworkValue | None]) -> NetworkValue:
    """Return the result of a Gemm."""
    result = float(attribute(node, "alpha", 1.0)) * tensorflow().matmul(
        _given(inputs[0]).plain,
        _given(inputs[1]).plain,
        transpose_a=bool(attribute(node, "transA", 0)),
        transpose_b=bool(attribute(node, "transB", 0)),
    )
    bias = inputs[2] if len(inputs) > 2 else None
    return NetworkValue(result if bias is None else result + float(attribute(node, "beta", 1.0)) * bias.plain)


def _given(value: NetworkValue | None) -> NetworkValue:
    assert value is not None  # the input is mandatory in ONNX
    return value


def _missing(size: int, first: int, last: int, span: int, stride: int) -> int:
    """Return how many cells the last window lacks, if a pool rounds the number of windows up.

    As in ONNX Runtime, a window does not begin in the padding after the map.
    """
    windows = -(-(size + first + last - span) // stride) + 1
    if (windows - 1) * stride >= size + first:
        windows -= 1
    return max((windows - 1) * stride + span - (size + first + last), 0)


def _pads(node: Any, maps: Any, spans: Sequence[int], strides: Sequence[int]) -> Pads:
    kind = attribute(node, "auto_pad", b"NOTSET").decode()
    if not kind.startswith("SAME"):
        before_and_after = attribute(node, "pads", [0, 0, 0, 0])
        return list(zip(before_and_after[:2], before_and_after[2:], strict=True))
    pads = []
    for size, span, stride in zip(maps.shape[1:3], spans, strides, strict=True):
        total = max((-(-int(size) // stride) - 1) * stride + span - int(size), 0)
        less = total // 2
        pads.append((less, total - less) if kind == "SAME_UPPER" else (total - less, less))
    return pads
