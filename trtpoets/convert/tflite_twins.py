"""Matches a float TFLite network with the ONNX network of the same classifier, so that parameters can be exchanged.

Tensors are matched by their values on a photo, convolutions by their weights: names and order may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.tflite_graph import PIXELS, TfliteGraph
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import loaded_interpreter
from trtpoets.core.types import INPUT_NAME

_SCALING = ("CAST", "MUL", "ADD", "SUB", "DIV")
"""Operators that may scale pixels."""

_MOVING = ("PAD", "PADV2", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "MAX_POOL_2D", "AVERAGE_POOL_2D")
"""Operators whose output has the scale of their input. ONNX files may pad inside convolutions."""

_SAME = 1e-3
"""Tensors are equal if no value differs by more than this share of the largest magnitude."""

_SAME_WEIGHTS = 1e-4

ONLY_FP32 = "write FP32 only: trtpoets bundle NAME --for tflite --precision fp32"


@dataclass(frozen=True)
class Twins:
    """A float TFLite network and the ONNX network that computes the same.

    `content` is the flatbuffer; it reads float32 pixels, and its first operator scales them. `tensors` maps computed
    TFLite tensors to ONNX tensors. `layers` maps the number of a convolution in `TfliteGraph.convolutions` to its node
    in the ONNX file. `scaled` is the tensor of scaled pixels and their range. `unknown` are the computed tensors that
    the ONNX network does not have, with their ranges on a few photos, except those that only move values.
    """

    content: bytes
    tensors: Mapping[int, str]
    layers: Mapping[int, Any]
    scaled: tuple[int, tuple[float, float]]
    unknown: Mapping[int, tuple[float, float]]


def twins_from(network: bytes, proto: Any, photos: np.ndarray) -> Twins:
    """Match a TFLite flatbuffer of uint8 photos with an FP32 ModelProto; `photos` are uint8 (N, H, W, 3).

    Raises ConversionFailed if the two networks differ, or if the first does not begin with the scaling of pixels.
    """
    graph = TfliteGraph(network)
    scaled = _start_from_pixels(graph)
    content = graph.content
    tensors, unknown = _matched_tensors(graph, content, proto, photos)
    return Twins(content, tensors, _matched_layers(graph, GraphView(proto)), scaled, unknown)


def as_onnx(weights: np.ndarray, kind: str) -> np.ndarray:
    """Return the weights of a TFLite convolution as ONNX stores them: (O, I / groups, H, W)."""
    axes = (3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
    return np.asarray(weights.transpose(axes))


def as_tflite(weights: np.ndarray, kind: str) -> np.ndarray:
    """Return ONNX weights (O, I / groups, H, W) as a TFLite convolution stores them."""
    axes = (1, 2, 3, 0) if kind == "DEPTHWISE_CONV_2D" else (0, 2, 3, 1)
    return np.ascontiguousarray(weights.transpose(axes))


def _start_from_pixels(graph: TfliteGraph) -> tuple[int, tuple[float, float]]:
    """Replace the scaling of pixels by a 1 x 1 convolution of float32 pixels; return its tensor and its range.

    As a convolution, with a weight per channel and a 32-bit bias, the scaling is exact in INT8.
    """
    tensors = graph.graph.tensors
    (start,) = map(int, graph.graph.inputs)
    end, chain = start, []
    values = np.array([[0.0] * 3, [PIXELS] * 3])  # black and white
    while True:
        readers = [operator for operator in graph.operators if end in operator.inputs]
        following = _scaled(graph, readers[0], end, values) if len(readers) == 1 else None
        if following is None:
            break
        values = following
        chain.append(readers[0])
        end = int(readers[0].outputs[0])
    if end == start:
        raise ConversionFailed(
            "the TFLite network does not begin with the scaling of pixels, which INT8 needs to start from pixels",
            hint=ONLY_FP32,
            code="TP3260",
        )
    schema = graph.schema
    operator = schema.OperatorT()
    operator.opcodeIndex = graph.code("DEPTHWISE_CONV_2D")
    weights = ((values[1] - values[0]) / PIXELS).reshape(1, 1, 1, 3)
    operator.inputs = [
        start,
        graph.add_constant("scaling/weights", weights),
        graph.add_constant("scaling/bias", values[0]),
    ]
    operator.outputs = [end]
    operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideW = options.strideH = options.depthMultiplier = 1
    options.dilationWFactor = options.dilationHFactor = 1
    operator.builtinOptions = options
    graph.graph.operators = [operator, *(old for old in graph.operators if all(old is not used for used in chain))]
    tensors[start].type = schema.TensorType.FLOAT32
    return end, (float(values.min()), float(values.max()))


def _scaled(graph: TfliteGraph, operator: Any, source: int, values: np.ndarray) -> np.ndarray | None:
    """Return pixels (2, 3) after an operator that scales each channel; None if it does anything else."""
    kind = graph.kind(operator)
    if kind not in _SCALING or getattr(operator.builtinOptions, "fusedActivationFunction", False):
        return None
    if kind == "CAST":
        return values
    inputs = [int(index) for index in operator.inputs]
    constant = graph.constant(inputs[1 - inputs.index(source)])
    if constant is None or constant.size not in (1, 3):
        return None
    factor = constant.reshape(-1).astype(np.float64)
    if kind in ("SUB", "DIV"):
        if inputs[0] != source:
            return None
        kind, factor = ("ADD", -factor) if kind == "SUB" else ("MUL", 1 / factor)
    return values * factor if kind == "MUL" else values + factor


def _matched_tensors(
    graph: TfliteGraph, content: bytes, proto: Any, photos: np.ndarray
) -> tuple[dict[int, str], dict[int, tuple[float, float]]]:
    """Return the ONNX tensor of each computed TFLite tensor, and the range of each TFLite tensor without one."""
    view = GraphView(proto)
    names = [name for node in view.nodes for name in node.output if view.is_float(name)]
    inner = [name for name in names if name not in view.outputs]
    arrays = open_session(with_outputs(proto, inner).SerializeToString()).run(names, {INPUT_NAME: photos[:1]})
    by_shape: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}
    for name, array in zip(reversed(names), reversed(arrays), strict=True):
        by_shape.setdefault(array.shape, []).append((name, array))
    interpreter = loaded_interpreter(content, keep_tensors=True)
    run = partial(_run, interpreter, int(graph.graph.inputs[0]))
    run(photos[:1])
    matched, unknown = {}, []
    for operator in graph.operators:
        for index in map(int, operator.outputs):
            if graph.graph.tensors[index].type != graph.schema.TensorType.FLOAT32:
                continue
            name = _twin(interpreter.get_tensor(index), by_shape)
            if name is not None:
                matched[index] = name
            elif graph.kind(operator) not in _MOVING:
                unknown.append(index)
    (scores,) = map(int, graph.graph.outputs)
    if scores not in matched:
        raise ConversionFailed(
            "the TFLite network does not compute the same scores as the ONNX network", hint=ONLY_FP32, code="TP3261"
        )
    lowest, highest = dict.fromkeys(unknown, np.inf), dict.fromkeys(unknown, -np.inf)
    for number in range(len(photos) if unknown else 0):
        run(photos[number : number + 1])
        for index in unknown:
            values = interpreter.get_tensor(index)
            lowest[index] = min(lowest[index], values.min())
            highest[index] = max(highest[index], values.max())
    return matched, {index: (float(lowest[index]), float(highest[index])) for index in unknown}


def _run(interpreter: Any, source: int, photo: np.ndarray) -> None:
    interpreter.set_tensor(source, photo.astype(np.float32))
    interpreter.invoke()


def _twin(values: np.ndarray, by_shape: Mapping[tuple[int, ...], list[tuple[str, np.ndarray]]]) -> str | None:
    """Return the last ONNX tensor with these values; TFLite has the channels last."""
    layouts = [values, values.transpose(0, 3, 1, 2)] if values.ndim == 4 else [values]
    for layout in layouts:
        for name, array in by_shape.get(layout.shape, ()):
            if np.abs(array - layout).max() <= _SAME * np.abs(array).max():
                return name
    return None


def _matched_layers(graph: TfliteGraph, view: GraphView) -> dict[int, Any]:
    """Return the ONNX convolution with the same weights for each TFLite convolution that has one."""
    left = [node for node in view.weighted() if node.op_type == "Conv" and len(view.shape(node.input[1]) or ()) == 4]
    layers = {}
    for number, operator in enumerate(graph.convolutions):
        constant = graph.constant(int(operator.inputs[1]))
        if constant is None:
            continue
        weights = as_onnx(constant, graph.kind(operator))
        for node in left:
            exact = view.array(node.input[1])
            if weights.shape == exact.shape and np.abs(weights - exact).max() <= _SAME_WEIGHTS * np.abs(exact).max():
                layers[number] = node
                left.remove(node)
                break
    return layers
