"""fp32.onnx -> fp16.onnx, and fp32.onnx + ranges -> int8.onnx. Precision is a property of the file.

The INT8 file keeps opset 17 and an FP32 remainder. That is the form every TensorRT reads: below opset 19 the pairs take
FP32 only, TensorRT 8.x reads no later opset, and scales in FP16 ruin the network (folded weights have steps down to
1e-6). TensorRT 8 to 10 turn the remainder to FP16 by a builder flag, except for the nodes that the file names
(core/onnx_graph.py); for builders without that flag `half_remainder.py` writes a variant of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.fp16 import lacks_fp16, with_fp16
from trtpoets.convert.graph.graph_view import QUANTISERS, GraphView
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.activation_stats import Told, spans
from trtpoets.convert.int8.calibration_checks import refuse_unknown_operators
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.core.errors import BadInput
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import check_onnx, open_session, write_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Precision, Preprocess

FP16_LARGEST = 65504.0
"""The largest finite number in FP16."""

FP16_MARGIN = 4.0
"""Photos that were not looked at may reach this many times what was seen."""

FP16_WEIGHT_ERROR = 2.0**-8
"""Weights whose rounding to FP16 moves them by more, relative to their size, lie below what FP16 holds well."""

_IN_FP32 = ("Softmax",)
"""Operators that sum exponentials: FP32 costs nothing next to the scores."""

_SCANNED = 64
_COMPARED = 32
_BATCH = 8


@dataclass(frozen=True)
class Fp16Notes:
    """What became of a network in FP16. `kept_fp32` tells for each node that stayed FP32, by name, why.

    `max_abs` and `mean_abs` are how far its scores lie from FP32's on `compared` photos; `same_answer` is the share of
    them with the same first label. `largest` is the largest activation seen on `photos` photos, in tensor `largest_at`.
    """

    nodes: int
    kept_fp32: Mapping[str, str]
    photos: int
    largest: float
    largest_at: str
    compared: int
    max_abs: float
    mean_abs: float
    same_answer: float


def fp16_from_onnx(
    model: OnnxModel, photos: Sequence[Photo], out: Path, progress: Progress = silent
) -> tuple[OnnxModel, Fp16Notes]:
    """Write the FP16 file of an FP32 one: photos stay uint8, scores float32, the arithmetic between becomes FP16.

    Every tensor's range is measured on the first 64 of `photos`; a node that comes near the end of FP16's range, or
    whose weights don't fit it, stays FP32. Raises BadInput without photos, BadPhoto, ConversionFailed, StorageFailed.
    """
    expect_fp32(model)
    if not photos:
        raise BadInput(
            "there are no photos to check the range of FP16 on", hint="add photos to the training split", code="TP3056"
        )
    proto = check_onnx(model.path)
    refuse_unknown_operators(model.path)
    view = GraphView(proto)
    photos = photos[:_SCANNED]
    total = len(photos) + min(len(photos), _COMPARED)
    kept, largest = kept_fp32(proto, photos, model.spec.preprocess, lambda done: progress("fp16", done, total))
    halved = with_fp16(proto, kept)
    write_onnx(finished(halved.graph, view.opset, metadata_of_spec(model.spec, Precision.FP16)), out)
    apart, same = compared(model, out, photos[:_COMPARED], lambda done: progress("fp16", len(photos) + done, total))
    top = max(largest, key=lambda name: largest[name])
    notes = Fp16Notes(
        nodes=len(view.nodes),
        kept_fp32=kept,
        photos=len(photos),
        largest=largest[top],
        largest_at=top,
        compared=len(same),
        max_abs=float(apart.max()),
        mean_abs=float(apart.mean()),
        same_answer=float(same.mean()),
    )
    return OnnxModel(out, Precision.FP16, model.spec), notes


def expect_fp32(model: OnnxModel) -> None:
    """Raise BadInput for a file that is not FP32."""
    if model.precision is not Precision.FP32:
        raise BadInput(
            f"{model.path} is {model.precision.value} already; precisions are made from the FP32 file",
            hint="make it: trtpoets export NAME",
            code="TP3057",
        )


def kept_fp32(
    proto: Any, photos: Sequence[Photo], preprocess: Preprocess, told: Told
) -> tuple[dict[str, str], dict[str, float]]:
    """Nodes of a ModelProto that must not become FP16, and why; and the largest magnitude of each tensor.

    Every tensor's range is measured on the first 64 of `photos`. Q/DQ pairs are not looked at: their scales stay FP32.
    Raises as `spans` does.
    """
    view = GraphView(proto)
    nodes = [node for node in view.nodes if node.op_type not in QUANTISERS]
    names = [name for node in nodes for name in node.output if view.is_float(name)]
    seen = spans(proto, names, photos[:_SCANNED], preprocess, _BATCH, told)
    largest = {name: max(-low, high) for name, (low, high) in seen.items()}
    return _kept_fp32(view, nodes, largest), largest


def _kept_fp32(view: GraphView, nodes: Sequence[Any], largest: Mapping[str, float]) -> dict[str, str]:
    limit = FP16_LARGEST / FP16_MARGIN
    kept = {}
    for node in nodes:
        reach = max(
            (name for name in (*node.input, *node.output) if name in largest), key=largest.__getitem__, default=""
        )
        if node.op_type in _IN_FP32:
            kept[node.name] = f"{node.op_type} sums exponentials"
        elif lacks_fp16(node, view.opset):
            kept[node.name] = f"{node.op_type} has no FP16 form"
        elif reach and largest[reach] > limit:
            kept[node.name] = f"{reach} reaches {largest[reach]:.4g}, FP16 ends at {FP16_LARGEST:.0f}"
        else:
            why = next(filter(None, (_unfit_weights(view, name) for name in node.input)), "")
            if why:
                kept[node.name] = why
    return kept


def _unfit_weights(view: GraphView, name: str) -> str:
    """Why a constant does not fit FP16, or nothing."""
    if name not in view.constants or not view.is_float(name):
        return ""
    weights = view.array(name).astype(np.float64).ravel()
    magnitude = float(np.abs(weights).max(initial=0.0))
    if magnitude > FP16_LARGEST:
        return f"{name} holds {magnitude:.4g}, FP16 ends at {FP16_LARGEST:.0f}"
    size = float(np.linalg.norm(weights))
    error = float(np.linalg.norm(weights - weights.astype(np.float16).astype(np.float64)))
    if size and error / size > FP16_WEIGHT_ERROR:
        return (
            f"{name} holds values too small for FP16 (largest {magnitude:.2g}): rounding moves it by {error / size:.1%}"
        )
    return ""


def compared(
    model: OnnxModel,
    other: Path,
    photos: Sequence[Photo],
    told: Told = lambda done: None,
    *,
    as_written: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """How far the scores of two files lie apart (N, C), and whether the answer is the same (N,).

    `as_written` runs both node by node. Raises BadPhoto, BadArtefact.
    """
    sessions = [open_session(path, as_written=as_written) for path in (model.path, other)]
    apart, same, done = [], [], 0
    for batch in photo_batches(photos, model.spec.preprocess, _BATCH):
        first, second = (session.run(None, {INPUT_NAME: batch})[0] for session in sessions)
        apart.append(np.abs(first - second))
        same.append(first.argmax(axis=1) == second.argmax(axis=1))
        done += len(batch)
        told(done)
    return np.concatenate(apart), np.concatenate(same)
