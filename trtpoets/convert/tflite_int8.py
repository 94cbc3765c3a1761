"""Writes int8.tflite from fp32.tflite with the parameters that quantize found for the ONNX file.

TensorFlow's quantiser reads the range of each tensor from the file, where its own calibration writes minima and maxima.
Here the ranges, the equalised and rounded weights are those of int8.onnx, as far as validation photos confirm them, and
biases are corrected for the weights that TFLite uses. ONNX Runtime answers the photos; TensorFlow's calibration, which
is several times as slow, is not needed.

TFLite quantises the same network differently than TensorRT: every tensor from the photo to the features is INT8, with
256 levels and a zero point. So ranges that were chosen for 127 levels and no zero point may be too narrow, and variants
are compared in the TFLite interpreter. The first is what TensorFlow's own calibration gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import CONVOLUTIONS, GraphView
from trtpoets.convert.int8.activation_stats import activation_ranges
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.equalisation import equalised, pairs_of
from trtpoets.convert.int8.fidelity import closeness_of_scores, features_of, outputs_from_onnx, sqnr_db
from trtpoets.convert.int8.forms import TFLITE
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.other_form import ranges_for_form
from trtpoets.convert.int8.placement import LEVELS
from trtpoets.convert.int8.qdq import channel_scales
from trtpoets.convert.tflite_base import with_features_of_tflite
from trtpoets.convert.tflite_export import HEAD, described, require_training_photos
from trtpoets.convert.tflite_graph import PIXELS, TfliteGraph
from trtpoets.convert.tflite_twins import ONLY_FP32, Twins, as_onnx, as_tflite, twins_from
from trtpoets.core.errors import ConversionFailed, first_line
from trtpoets.core.images import photo_batches
from trtpoets.core.network_notes import Closeness
from trtpoets.core.onnx_file import check_onnx, open_session
from trtpoets.core.optional import loaded_interpreter, native_stderr_to, needs
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.tflite_file import network_in, write_tflite
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Precision, TfliteModel, hash_of

_CORRECTION_PHOTOS = Int8Config.correction_photos
"""Number of calibration photos that biases are corrected on, as many as for int8.onnx."""

_JUDGED_PHOTOS = Int8Config.judged_photos
"""Highest number of validation photos that decide between variants, as many as for int8.onnx."""

_BATCH = 16
_SMALL_BATCH = 4

_LARGEST_BIAS = 2.0**30
"""Largest integer of a bias. Where it would be larger, the scale of the channel's weights is larger instead."""


@dataclass(frozen=True)
class Parameters:
    """What determines an INT8 network. Tensors and layers have their names in ONNX.

    `spans` are the range (lowest, highest) of each computed tensor. `weights` float32 (O, I / groups, H, W) and
    `biases` float32 (O,) are those of each layer. `rounded` are weights that are multiples of the scale already.
    """

    spans: Mapping[str, tuple[float, float]]
    weights: Mapping[str, np.ndarray]
    biases: Mapping[str, np.ndarray]
    rounded: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class TfliteNotes:
    """How int8.tflite was quantised: the name of the variant, and how close each variant that was tried is.

    "calibrated" is what TensorFlow's own calibration gives: minima and maxima, weights rounded to the nearest.
    "corrected" has corrected biases in addition. "searched" has the ranges and the equalised weights of int8.onnx and
    corrected biases, "rounded" its rounded weights in addition. "affine" has weights that GPTQ rounded for the integers
    of TFLite instead, as activations with a zero point are other integers than those of TensorRT, and biases that are
    corrected layer by layer for these. `features_db` is the SQNR of the features of each variant, in dB; empty if the
    last layer of the network can't be separated.
    """

    variant: str
    trials: Mapping[str, Closeness]
    features_db: Mapping[str, float] = field(default_factory=dict, metadata=OPTIONAL)


def int8_from_fp32(
    fp32: TfliteModel,
    onnx: tuple[OnnxModel, OnnxModel | None, Ranges | None],
    photos: Sequence[Photo],
    validation: Sequence[Photo],
    out: Path,
    progress: Progress = silent,
) -> tuple[TfliteModel, TfliteNotes]:
    """Write int8.tflite from fp32.tflite. `onnx` are fp32.onnx, int8.onnx and its ranges, None if there are none.

    `photos` of the training split give the minima and maxima of tensors. The variant that is closest to FP32 on
    `validation` photos is written (on `photos` if there are none): the one with the highest SQNR of the features, where
    they can be measured, otherwise the one with the closest scores. Errors of several features can cancel out in the
    scores of one head by chance. The head stays FP32.

    Raises BadInput without training photos, BadPhoto, BadArtefact, StorageFailed, MissingDependency; ConversionFailed
    if the two FP32 files differ or TensorFlow's quantiser fails.
    """
    require_training_photos(photos)
    spec = fp32.spec
    task = "int8.tflite"
    judged = sorted(validation or photos, key=lambda photo: photo.sha256)[:_JUDGED_PHOTOS]
    progress(task, 0, 3)
    proto = check_onnx(onnx[0].path)
    first = next(photo_batches(photos[:_CORRECTION_PHOTOS], spec.preprocess, _CORRECTION_PHOTOS))
    twins = twins_from(network_in(fp32.path), proto, first)
    variants = _Variants(twins, proto, onnx[0], photos, first)
    trials: dict[str, Closeness] = {}
    features_db: dict[str, float] = {}
    networks: dict[str, bytes] = {}
    progress(task, 1, 3)
    batches = tuple(photo_batches(judged, spec.preprocess, _BATCH))
    reference = outputs_from_onnx(proto, features_of(GraphView(proto)), batches)
    for name, parameters in variants.all(onnx[1], onnx[2]).items():
        networks[name] = quantised_network(twins, parameters)
        scores, features = _scores_and_features(networks[name], batches)
        trials[name] = closeness_of_scores(reference.scores, scores)
        if features is not None and features.shape == reference.features.shape:
            features_db[name] = sqnr_db(reference.features, features)
    by_features = len(features_db) == len(trials)
    best = max(trials, key=lambda name: (features_db[name] if by_features else 0.0, trials[name].rank))
    progress(task, 2, 3)
    calibration = hash_of([photo.sha256 for photo in photos])
    model = write_tflite(described(networks[best], spec, Precision.INT8), spec, Precision.INT8, out, calibration)
    progress(task, 3, 3)
    return model, TfliteNotes(best, trials, features_db if by_features else {})


class _Variants:
    """The parameters of each variant of a network."""

    def __init__(self, twins: Twins, proto: Any, model: OnnxModel, photos: Sequence[Photo], first: np.ndarray) -> None:
        self._twins, self._proto, self._model = twins, proto, model
        self._photos, self._first, self._preprocess = photos, first, model.spec.preprocess

    def all(self, int8: OnnxModel | None, ranges: Ranges | None) -> dict[str, Parameters]:
        """Return the parameters of each variant, by name."""
        calibrated = self._parameters(self._proto, self._spans())
        if int8 is None or ranges is None:
            return {"calibrated": calibrated, "corrected": self._corrected(self._proto, calibrated)}
        proto = self._equalised(ranges)
        searched = self._parameters(proto, _searched(calibrated.spans, ranges, with_factors=proto is not self._proto))
        variants = {"calibrated": calibrated, "searched": self._corrected(proto, searched)}
        weights = _rounded_weights(check_onnx(int8.path), searched)
        if weights:
            variants["rounded"] = self._corrected(proto, replace(searched, rounded=weights))
        own = ranges if proto is not self._proto else replace(ranges, equalised={})
        variants["affine"] = self._affine(searched, own)
        return variants

    def _affine(self, searched: Parameters, ranges: Ranges) -> Parameters:
        """Return `searched` with weights rounded by GPTQ and biases corrected for TFLite's integers."""
        evaluator = Int8Evaluator(self._model, self._photos, (), arithmetic=TFLITE)
        builder = evaluator.builder(ranges_for_form(self._proto, TFLITE, ranges, self._photos, self._preprocess))
        builder.rounded = evaluator.gptq_weights(*builder.build())
        shifts = evaluator.bias_shifts(builder, *builder.build())
        layers = self._twins.layers.values()
        return replace(
            searched,
            rounded={node.name: builder.rounded[node.input[1]] for node in layers if node.input[1] in builder.rounded},
            biases={
                name: np.asarray(bias + shifts.get(name, np.float32(0)), np.float32)
                for name, bias in searched.biases.items()
            },
        )

    def _spans(self) -> dict[str, tuple[float, float]]:
        names = list(dict.fromkeys(self._twins.tensors.values()))
        return activation_ranges(self._proto, names, self._photos, self._preprocess, _BATCH, lambda done: None)

    def _parameters(self, proto: Any, spans: Mapping[str, tuple[float, float]]) -> Parameters:
        view = GraphView(proto)
        nodes = self._twins.layers.values()
        weights = {node.name: view.array(node.input[1]) for node in nodes}
        biases = {
            node.name: view.array(node.input[2])
            if len(node.input) > 2
            else np.zeros(len(weights[node.name]), np.float32)
            for node in nodes
        }
        return Parameters(spans, weights, biases)

    def _corrected(self, proto: Any, parameters: Parameters) -> Parameters:
        return corrected(proto, parameters, list(self._twins.layers.values()), self._first)

    def _equalised(self, ranges: Ranges) -> Any:
        """Return the equalised network; the network itself if TFLite lacks a layer or a tensor that may change."""
        known = {node.name for node in self._twins.layers.values()}
        pairs = pairs_of(GraphView(self._proto), ranges.equalised)
        if (
            not ranges.equalised
            or self._twins.unknown
            or not all(node.name in known for pair in pairs for node in (pair.producer, *pair.readers))
        ):
            return self._proto
        return equalised(self._proto, {name: np.array(e.factors, np.float32) for name, e in ranges.equalised.items()})


def _searched(
    spans: Mapping[str, tuple[float, float]], ranges: Ranges, with_factors: bool
) -> dict[str, tuple[float, float]]:
    """Return minima and maxima, replaced by the ranges that quantize chose for the tensors that have one."""
    chosen = dict(spans)
    for name, (low, high) in spans.items():
        if with_factors and name in ranges.equalised:
            limit = ranges.equalised[name].limit
            chosen[name] = (-limit if low < 0 else 0.0, limit if high > 0 else 0.0)
        elif name in ranges.tensors:
            chosen[name] = ranges.tensors[name]
    return chosen


def _rounded_weights(int8: Any, parameters: Parameters) -> dict[str, np.ndarray]:
    """Return the weights in an INT8 ModelProto of the layers whose weights there are those of `parameters`, rounded."""
    view = GraphView(int8)
    rounded = {}
    for node in view.nodes:
        name = _quantised_constant(view, node)
        if name is None or node.name not in parameters.weights:
            continue
        weights, exact = view.array(name), parameters.weights[node.name]
        scales = channel_scales(exact, 0).reshape(-1, 1, 1, 1)
        # GPTQ moves weights by a few levels; a layer that was equalised otherwise differs much more.
        if weights.shape == exact.shape and np.median(np.abs(weights - exact) / scales) <= 1.0:
            rounded[node.name] = weights
    return rounded


def _quantised_constant(view: GraphView, node: Any) -> str | None:
    """Return the constant that a convolution reads as weights through a Q/DQ pair; None if it reads none."""
    producer = view.producer.get(node.input[1]) if node.op_type in CONVOLUTIONS else None
    quantise = view.producer.get(producer.input[0]) if producer is not None else None
    return str(quantise.input[0]) if quantise is not None and quantise.input[0] in view.constants else None


def quantised_network(twins: Twins, parameters: Parameters) -> bytes:
    """Return the INT8 flatbuffer with these parameters. It reads float32 pixels, which its first operator quantises.

    Raises ConversionFailed if TensorFlow's quantiser fails, or changes more than it should.
    """
    graph = TfliteGraph(twins.content)
    convolutions = graph.convolutions
    for number, node in twins.layers.items():
        operator = convolutions[number]
        graph.set_constant(operator, 1, as_tflite(parameters.weights[node.name], graph.kind(operator)))
        graph.set_constant(operator, 2, parameters.biases[node.name])
    _set_span(graph, int(graph.graph.inputs[0]), (0.0, PIXELS))
    for index, name in twins.tensors.items():
        _set_span(graph, index, parameters.spans[name])
    for index, span in (*twins.unknown.items(), twins.scaled):
        _set_span(graph, index, span)
    result = TfliteGraph(_quantised(graph.content))
    if len(result.convolutions) != len(graph.convolutions):
        raise ConversionFailed(
            f"TensorFlow's quantiser wrote {len(result.convolutions)} convolutions, not {len(graph.convolutions)}",
            hint=ONLY_FP32,
            code="TP3265",
        )
    for number, node in twins.layers.items():
        _set_integers(result, result.convolutions[number], parameters, node.name)
    return result.content


def _quantised(content: bytes) -> bytes:
    with needs("train", reason="quantising TFLite networks"):
        from tensorflow.lite.python.convert import mlir_quantize
    try:
        with native_stderr_to(os.devnull):
            quantised: bytes = mlir_quantize(content, denylisted_ops=HEAD)
    except Exception as error:
        raise ConversionFailed(
            f"TensorFlow can't quantise the network: {first_line(error)}", hint=ONLY_FP32, code="TP3262"
        ) from error
    return quantised


def _set_span(graph: TfliteGraph, index: int, span: tuple[float, float]) -> None:
    """Write the range of a tensor where TensorFlow's calibration writes it. Zero must have an integer."""
    quantisation = graph.schema.QuantizationParametersT()
    quantisation.min, quantisation.max = [min(span[0], 0.0)], [max(span[1], 0.0)]
    graph.graph.tensors[index].quantization = quantisation


def _set_integers(graph: TfliteGraph, operator: Any, parameters: Parameters, name: str) -> None:
    """Replace the integer weights and biases of a layer by those of `parameters`."""
    source, weights, bias = (graph.graph.tensors[int(index)] for index in operator.inputs)
    kinds = graph.schema.TensorType
    if (weights.type, bias.type) != (kinds.INT8, kinds.INT32):
        return  # a layer that TensorFlow left in FP32
    kind, exact = graph.kind(operator), parameters.weights[name]
    offsets = parameters.biases[name].astype(np.float64)
    step = float(source.quantization.scale[0])
    scales = np.maximum(channel_scales(exact, 0), np.abs(offsets) / (step * _LARGEST_BIAS)).astype(np.float32)
    old = graph.constant(int(operator.inputs[1]))
    columns = scales.reshape(-1, 1, 1, 1)
    if old is None or np.abs(_dequantised(old, weights, kind) - exact).max() > 2 * scales.max():
        raise ConversionFailed(f"TensorFlow's quantiser changed the weights of {name}", hint=ONLY_FP32, code="TP3263")
    integers = np.clip(np.rint(parameters.rounded.get(name, exact) / columns), -LEVELS, LEVELS).astype(np.int8)
    for tensor, steps in ((weights, scales), (bias, scales * np.float32(step))):
        tensor.quantization.scale = steps.astype(np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(steps), np.int64)
    graph.set_constant(operator, 1, as_tflite(integers, kind))
    graph.set_constant(operator, 2, np.rint(offsets / (scales.astype(np.float64) * step)).astype(np.int32))


def _dequantised(integers: np.ndarray, tensor: Any, kind: str) -> np.ndarray:
    """Return quantised weights of a TFLite convolution as real weights (O, I / groups, H, W)."""
    return as_onnx(integers, kind) * np.asarray(tensor.quantization.scale, np.float32).reshape(-1, 1, 1, 1)


def rounded_weights(parameters: Parameters, name: str) -> np.ndarray:
    """Return the weights that INT8 uses for a layer, float32."""
    exact = parameters.weights[name]
    scales = channel_scales(exact, 0).reshape(-1, 1, 1, 1)
    return np.asarray(np.clip(np.rint(parameters.rounded.get(name, exact) / scales), -LEVELS, LEVELS) * scales)


def corrected(proto: Any, parameters: Parameters, nodes: Sequence[Any], photos: np.ndarray) -> Parameters:
    """Return parameters whose biases cancel what rounded weights change in the mean of each channel.

    `nodes` are layers of the FP32 ModelProto `proto`. Each reads its FP32 input, clipped as INT8 does, with the part of
    its weights that rounding removes; the mean of the result over photos, uint8 (N, H, W, 3), is added to the bias.
    """
    if not nodes:
        return parameters
    model, means = _with_losses(proto, parameters, nodes)
    session = open_session(model.SerializeToString(), one_of_many=True)
    shifts = {name: np.zeros(len(parameters.biases[name])) for name in means}
    for start in range(0, len(photos), _SMALL_BATCH):
        arrays = session.run(list(means.values()), {INPUT_NAME: photos[start : start + _SMALL_BATCH]})
        for name, array in zip(means, arrays, strict=True):
            shifts[name] += array.sum(axis=(0, 2, 3), dtype=np.float64) / len(photos)
    biases = {name: np.asarray(bias + shifts[name], np.float32) for name, bias in parameters.biases.items()}
    return replace(parameters, biases=biases)


def _with_losses(proto: Any, parameters: Parameters, nodes: Sequence[Any]) -> tuple[Any, dict[str, str]]:
    """Return a copy of the network with the mean of what each layer loses as outputs, and their names by layer."""
    from onnx import TensorProto, helper, numpy_helper

    copy = type(proto)()
    copy.CopyFrom(proto)
    clipped: dict[str, str] = {}
    means = {}
    for node in nodes:
        source, stem = node.input[0], f"{node.name}/lost"
        if source not in clipped:
            clipped[source] = source
            if source in parameters.spans:
                clipped[source] = f"{source}/clipped"
                bounds = [f"{source}/lowest", f"{source}/highest"]
                for bound, name in zip(parameters.spans[source], bounds, strict=True):
                    copy.graph.initializer.append(numpy_helper.from_array(np.float32(bound), name))
                copy.graph.node.append(helper.make_node("Clip", [source, *bounds], [clipped[source]]))
        lost = parameters.weights[node.name] - rounded_weights(parameters, node.name)
        copy.graph.initializer.append(numpy_helper.from_array(lost.astype(np.float32), f"{stem}.weight"))
        layer = helper.make_node("Conv", [clipped[source], f"{stem}.weight"], [f"{stem}:0"], name=stem)
        layer.attribute.extend(node.attribute)
        means[node.name] = f"{stem}/mean:0"
        copy.graph.node.extend([layer, helper.make_node("GlobalAveragePool", [f"{stem}:0"], [means[node.name]])])
        copy.graph.output.append(helper.make_tensor_value_info(means[node.name], TensorProto.FLOAT, None))
    return copy, means


def _scores_and_features(network: bytes, batches: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the scores (N, C) and the input of the last layer (N, D), float32.

    None takes the place of the features if the last layer can't be separated.
    """
    try:
        both = with_features_of_tflite(network)
    except ConversionFailed:
        return _outputs(network, batches)[0], None
    scores, features = _outputs(both, batches)
    return scores, features


def _outputs(network: bytes, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return each output of a network that reads float32 pixels: float32 (N, C) or (N, D)."""
    try:
        with native_stderr_to(os.devnull):  # the interpreter logs its delegate
            interpreter = loaded_interpreter(network)
            (photos,), results = interpreter.get_input_details(), interpreter.get_output_details()
            rows: list[list[np.ndarray]] = [[] for _ in results]
            for photo in (photo for batch in batches for photo in batch):
                interpreter.set_tensor(photos["index"], photo[None].astype(np.float32))
                interpreter.invoke()
                for own, result in zip(rows, results, strict=True):
                    own.append(interpreter.get_tensor(result["index"]).reshape(-1))
    except (RuntimeError, ValueError) as error:
        raise ConversionFailed(
            f"the TFLite interpreter can't run the INT8 network: {first_line(error)}", hint=ONLY_FP32, code="TP3264"
        ) from error
    return [np.array(own) for own in rows]
