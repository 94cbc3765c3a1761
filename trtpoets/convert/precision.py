"""Converts fp32.onnx to fp16.onnx; precision is a property of the ONNX file, not of the TensorRT build.

`int8/quantize_int8.py` writes int8.onnx.
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
from trtpoets.convert.int8.activation_stats import PhotosDone, activation_ranges
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
"""Safety factor: other photos may cause activations that are this many times as large as those measured."""

FP16_WEIGHT_ERROR = 2.0**-8
"""Weights stay FP32 if rounding them to FP16 causes a larger relative error, as very small values do."""

_IN_FP32 = ("Softmax",)
"""Operators that stay FP32: they sum exponentials, and FP32 costs nothing for so few values as the scores."""

_SCANNED = 32
_COMPARED = 16
_BATCH = 2


@dataclass(frozen=True)
class Fp16Notes:
    """How the FP16 conversion went. `kept_fp32` maps each node that stayed FP32 to the reason.

    `max_abs` and `mean_abs` are the differences of its scores from FP32's on `compared` photos; `same_answer` is the
    share of them with the same top label. `largest` is the largest activation on `photos` photos, in tensor
    `largest_at`.
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
    """Write the FP16 file of an FP32 one: photos stay uint8 and scores float32, the arithmetic becomes FP16.

    Every tensor's range is measured on the first 32 of `photos`. A node stays FP32 if its values come near the limit of
    FP16 or its weights do not fit. Raises BadInput without photos, BadPhoto, ConversionFailed, StorageFailed.
    """
    require_fp32(model)
    if not photos:
        raise BadInput(
            "there are no photos to measure the activation ranges for FP16",
            hint="add photos to the training split",
            code="TP3056",
        )
    proto = check_onnx(model.path)
    refuse_unknown_operators(model.path)
    view = GraphView(proto)
    photos = photos[:_SCANNED]
    total = len(photos) + min(len(photos), _COMPARED)
    kept, largest = kept_fp32(proto, photos, model.spec.preprocess, lambda done: progress("fp16", done, total))
    half = with_fp16(proto, kept)
    write_onnx(finished(half.graph, view.opset, metadata_of_spec(model.spec, Precision.FP16)), out)
    difference, same = compare_scores(
        model, out, photos[:_COMPARED], lambda done: progress("fp16", len(photos) + done, total)
    )
    top = max(largest, key=lambda name: largest[name])
    notes = Fp16Notes(
        nodes=len(view.nodes),
        kept_fp32=kept,
        photos=len(photos),
        largest=largest[top],
        largest_at=top,
        compared=len(same),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        same_answer=float(same.mean()),
    )
    return OnnxModel(out, Precision.FP16, model.spec), notes


def require_fp32(model: OnnxModel) -> None:
    """Raise BadInput if a file is not FP32."""
    if model.precision is not Precision.FP32:
        raise BadInput(
            f"{model.path} must be an FP32 file, but its precision is {model.precision.value}",
            hint="write the FP32 file: trtpoets export NAME",
            code="TP3057",
        )


def kept_fp32(
    proto: Any, photos: Sequence[Photo], preprocess: Preprocess, progress: PhotosDone, exact: Any | None = None
) -> tuple[dict[str, str], dict[str, float]]:
    """Return the nodes of a ModelProto that must not become FP16, with the reason; and each tensor's largest magnitude.

    Every tensor's range is measured on the first 32 of `photos`, in `exact` where it is given: the network without the
    Q/DQ pairs of `proto`, whose tensors have nearly the same ranges. Pairs are ignored: their scales stay FP32.
    Raises the same errors as `activation_ranges`.
    """
    view = GraphView(proto)
    nodes = [node for node in view.nodes if node.op_type not in QUANTISERS]
    names = [name for node in nodes for name in node.output if view.is_float(name)]
    ranges = activation_ranges(
        proto if exact is None else exact, names, photos[:_SCANNED], preprocess, _BATCH, progress
    )
    largest = {name: max(-low, high) for name, (low, high) in ranges.items()}
    return _kept_fp32(view, nodes, largest), largest


def _kept_fp32(view: GraphView, nodes: Sequence[Any], largest: Mapping[str, float]) -> dict[str, str]:
    limit = FP16_LARGEST / FP16_MARGIN
    kept = {}
    variances = _variances(view)
    for node in nodes:
        widest = max(
            (name for name in (*node.input, *node.output) if name in largest), key=largest.__getitem__, default=""
        )
        if node.op_type in _IN_FP32 and not _weighs_values(view, node):
            kept[node.name] = f"{node.op_type} sums exponentials"
        elif node.name in variances:
            kept[node.name] = "it computes a variance: squares lose precision and soon exceed the range of FP16"
        elif lacks_fp16(node, view.opset):
            kept[node.name] = f"{node.op_type} has no FP16 version"
        elif widest and largest[widest] > limit:
            kept[node.name] = f"{widest} reaches {largest[widest]:.4g}, and the limit of FP16 is {FP16_LARGEST:.0f}"
        else:
            reason = next(filter(None, (_unfit_weights(view, name) for name in node.input)), "")
            if reason:
                kept[node.name] = reason
    return kept


def _weighs_values(view: GraphView, softmax: Any) -> bool:
    """Return whether a Softmax computes the weights of attention, which a MatMul reads: FP16 suffices for them."""
    readers = view.readers.get(softmax.output[0], [])
    return bool(readers) and all(reader.node.op_type == "MatMul" for reader in readers)


def _variances(view: GraphView) -> set[str]:
    """Return the nodes that compute variances, as in a LayerNorm: square, mean, plus epsilon, square root."""
    names = set()
    for root in view.nodes:
        chain = [root]
        for operators in (("Add",), ("ReduceMean", "GlobalAveragePool"), ("Pow", "Mul")):
            sources = view.activations(chain[-1])
            node = view.producer.get(sources[0]) if sources else None
            if root.op_type != "Sqrt" or node is None or node.op_type not in operators:
                break
            chain.append(node)
        else:
            names |= {node.name for node in chain}
    return names


def _unfit_weights(view: GraphView, name: str) -> str:
    """Return why a constant does not fit FP16; empty if it does."""
    if name not in view.constants or not view.is_float(name):
        return ""
    weights = view.array(name).astype(np.float64).ravel()
    magnitude = float(np.abs(weights).max(initial=0.0))
    if magnitude > FP16_LARGEST:
        return f"{name} contains {magnitude:.4g}, and the limit of FP16 is {FP16_LARGEST:.0f}"
    size = float(np.linalg.norm(weights))
    error = float(np.linalg.norm(weights - weights.astype(np.float16).astype(np.float64)))
    if size and error / size > FP16_WEIGHT_ERROR:
        return (
            f"{name} contains values too small for FP16 (largest {magnitude:.2g}): rounding changes it by "
            f"{error / size:.1%}"
        )
    return ""


def compare_scores(
    model: OnnxModel,
    other: Path,
    photos: Sequence[Photo],
    progress: PhotosDone = lambda done: None,
    *,
    as_written: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the absolute differences of two files' scores (N, C), and whether the top labels are the same (N,).

    `as_written` disables graph optimisation. Raises BadPhoto, BadArtefact.
    """
    sessions = [open_session(path, as_written=as_written, spins=False) for path in (model.path, other)]
    differences, same, done = [], [], 0
    for batch in photo_batches(photos, model.spec.preprocess, _BATCH):
        first, second = (session.run(None, {INPUT_NAME: batch})[0] for session in sessions)
        differences.append(np.abs(first - second))
        same.append(first.argmax(axis=1) == second.argmax(axis=1))
        done += len(batch)
        progress(done)
    return np.concatenate(differences), np.concatenate(same)
