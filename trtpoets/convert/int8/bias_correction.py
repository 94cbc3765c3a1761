"""Biases moved so that rounding does not move any channel's mean.

Rounding weights shifts the mean of each channel, and folded batch-norms make the shift large; rounding data does a
little too. The bias can take it back at no cost. Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization
Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, in its empirical form: layer by layer in the
order of the data, each measured with the earlier ones corrected.

What is taken back is what rounding does within the layer, on the data that INT8 layers before it give. Matching the
whole mean of FP32 would also make up for values that the ranges cut, and so move every position of a channel for the
sake of a few huge ones: that costs MobileNetV2 9 dB, where rounding the data too gains 0.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute, channel_axis
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.fidelity import features_of, sqnr_db
from trtpoets.convert.int8.segments import Live, Piece, Sessions, last_needed, pieces_of
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME


@dataclass(frozen=True)
class Reference:
    """The FP32 network on some photos, for many quantised versions of it to be held against.

    `ends` are its layers with weights, in order. `needed` tells how long each tensor is of use. `features` is float32
    (N, F).
    """

    ends: tuple[str, ...]
    needed: Mapping[str, int]
    feature_name: str
    features: np.ndarray


def reference_from_onnx(model: Any, photos: np.ndarray) -> Reference:
    """Run the FP32 ModelProto on photos uint8 (N, H, W, 3)."""
    view = GraphView(model)
    ends = tuple(node.name for node in view.weighted())
    name = features_of(view)
    session = open_session(with_outputs(model, [name]).SerializeToString(), one_of_many=True)
    return Reference(ends, last_needed(view, ends), name, session.run([name], {INPUT_NAME: photos})[0])


def pieces_like(model: Any, reference: Reference) -> list[Piece]:
    """A quantised ModelProto cut where the reference was cut, so that any other version can go on from any cut."""
    return pieces_of(model, reference.ends, (reference.feature_name, OUTPUT_NAME), reference.needed)


def corrections(
    quantised: Any,
    unstepped: Any,
    reference: Reference,
    photos: np.ndarray,
    sessions: Sessions,
) -> dict[str, np.ndarray]:
    """How far the bias of each INT8 layer has to move, float32 (channels,), in one run through the network.

    `unstepped` is the ModelProto that cuts data where `quantised` does, and rounds nothing (`with_cuts`). `photos` are
    uint8 (N, H, W, 3).
    """
    live: Live = {INPUT_NAME: photos}
    shifts = {}
    twins = pieces_like(unstepped, reference)
    for piece, twin in zip(pieces_like(quantised, reference), twins, strict=True):
        before = dict(live)
        sessions.advance(piece, live)
        if piece.end and _is_rounded(piece) and has_bias(piece.nodes[-1], piece.view):
            sessions.advance(twin, before)
            shift = (_mean(before[twin.tensor]) - _mean(live[piece.tensor])).astype(np.float32)
            live[piece.tensor] = live[piece.tensor] + shift.reshape(-1, *[1] * (live[piece.tensor].ndim - 2))
            shifts[piece.end] = shift
    return shifts


def with_biases(model: Any, shifts: Mapping[str, np.ndarray]) -> Any:
    """A copy of a ModelProto with the bias of each named layer moved. A convolution without bias gets one."""
    from onnx import numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    view = GraphView(copy)
    for node in view.nodes:
        if node.name not in shifts:
            continue
        shift = shifts[node.name]
        name = f"{node.name}.bias"
        if len(node.input) > 2 and node.input[2]:
            old = view.array(node.input[2])
            name = node.input[2] if len(view.readers[node.input[2]]) == 1 else f"{node.name}.own_bias"
            shift = old.reshape(-1) + shift
        else:
            del node.input[2:]
            node.input.append(name)
        node.input[2] = name
        made = numpy_helper.from_array(np.asarray(shift, np.float32), name)
        if name in view.constants:
            view.constants[name].CopyFrom(made)
        else:
            copy.graph.initializer.append(made)
    return copy


def layer_fidelity(fp32: Any, quantised: Any, photos: np.ndarray, sessions: Sessions) -> dict[str, float]:
    """Signal to quantisation noise in dB of each layer's output, the two networks run beside each other."""
    view = GraphView(fp32)
    ends = [node.name for node in view.weighted()]
    wanted = (OUTPUT_NAME,)
    first: Live = {INPUT_NAME: photos}
    second: Live = {INPUT_NAME: photos}
    found = {}
    for exact, rounded in zip(pieces_of(fp32, ends, wanted), pieces_of(quantised, ends, wanted), strict=True):
        sessions.advance(exact, first)
        sessions.advance(rounded, second)
        if exact.end:
            found[exact.end] = sqnr_db(first[exact.tensor], second[exact.tensor])
    return found


def _is_rounded(piece: Piece) -> bool:
    """Whether the layer that a piece ends with has its weights through a pair."""
    maker = piece.view.producer.get(piece.nodes[-1].input[1])
    return maker is not None and maker.op_type == "DequantizeLinear"


def has_bias(node: Any, view: GraphView) -> bool:
    """Whether a layer has a bias of one number a channel, or can be given one."""
    if node.op_type == "MatMul":
        return False
    if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    return node.input[2] in view.constants and view.array(node.input[2]).size == _channels(node, view)


def _channels(node: Any, view: GraphView) -> int:
    # The weights may come through a pair, which keeps their shape.
    shape = view.shape(node.input[1]) or ()
    size = shape[channel_axis(node, len(shape))] if shape else None
    groups = int(attribute(node, "group", 1)) if node.op_type == "ConvTranspose" else 1
    return int(size or 0) * groups


def _mean(array: np.ndarray) -> np.ndarray:
    """The mean of each channel, axis 1: float64 (channels,)."""
    others = tuple(axis for axis in range(array.ndim) if axis != 1)
    return np.asarray(array.mean(axis=others, dtype=np.float64))
