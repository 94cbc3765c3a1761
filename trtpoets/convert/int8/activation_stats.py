"""Statistics of the tensors inside a network, measured on real photos: minima, maxima and histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import MATMULS, GraphView
from trtpoets.convert.int8.thresholds import BINS
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.fixed_batch import fixed_batch_of, whole_groups
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_model
from trtpoets.core.types import INPUT_NAME, Photo, Preprocess

_FETCH_BYTES = 64 << 20
"""Limit in bytes on the activations that one ONNX Runtime call returns."""

_DENSE = 32
"""In feature maps with more rows and columns than this, histograms count every second row and column. A quarter of the
values describes the distribution well enough."""

PhotosDone = Callable[[int], None]
"""Progress callback: called with the number of photos that are done."""

OnBatch = Callable[[np.ndarray, np.ndarray], None]
"""Called with each batch of photos, uint8 (n, H, W, 3), and their scores, float32 (n, C)."""


def activation_ranges(
    model: Any,
    tensors: Sequence[str],
    photos: Sequence[Photo],
    preprocess: Preprocess,
    batch_size: int,
    progress: PhotosDone,
    on_batch: OnBatch | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest value of each tensor over all photos.

    The minima and maxima are computed inside the graph, so that no activations are copied out of it.
    Raises BadPhoto, or ConversionFailed that names the first tensor that is not finite.
    """
    _refuse_non_finite_constants(model)
    lowest = np.full(len(tensors), np.inf)
    highest = np.full(len(tensors), -np.inf)
    session = open_model(_with_extremes(model, tensors))
    for batch, outputs in _run_batches(session, photos, preprocess, batch_size, progress):
        scores, *extremes = outputs
        pairs = np.array(extremes, dtype=np.float64).reshape(-1, 2)
        if not (np.isfinite(pairs).all() and np.isfinite(scores).all()):
            raise _not_finite_error(model, batch)
        if on_batch is not None:
            on_batch(batch, scores)
        lowest = np.minimum(lowest, pairs[:, 0])
        highest = np.maximum(highest, pairs[:, 1])
    return {name: (float(low), float(high)) for name, low, high in zip(tensors, lowest, highest, strict=True)}


def channel_peaks(
    model: Any,
    tensors: Sequence[str],
    photos: Sequence[Photo],
    preprocess: Preprocess,
    batch_size: int,
    progress: PhotosDone,
) -> dict[str, np.ndarray]:
    """Return the largest magnitude of each channel of (N, C, H, W) tensors over all photos: float32 (C,) per tensor."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    for number, tensor in enumerate(tensors):
        size, peak = f"Size.{number}", f"Peak.{number}"
        copy.graph.node.append(helper.make_node("Abs", [tensor], [size], name=size))
        copy.graph.node.append(helper.make_node("GlobalMaxPool", [size], [peak], name=peak))
        copy.graph.output.append(helper.make_tensor_value_info(peak, TensorProto.FLOAT, None))
    highest: list[np.ndarray] = []
    session = open_model(copy)
    for _, (_, *maps) in _run_batches(session, photos, preprocess, batch_size, progress):
        batch_peaks = [array.max(axis=(0, 2, 3)) for array in maps]
        if highest:
            batch_peaks = [np.maximum(old, new) for old, new in zip(highest, batch_peaks, strict=True)]
        highest = batch_peaks
    return dict(zip(tensors, highest, strict=True))


def activation_histograms(
    model: Any,
    tops: Mapping[str, float],
    photos: Sequence[Photo],
    preprocess: Preprocess,
    batch_size: int,
    progress: PhotosDone,
) -> dict[str, np.ndarray]:
    """Count the values of |x| in 2048 equal bins over 0..tops[tensor]: int64 (2048,) per tensor.

    Large feature maps are sampled.
    """
    view = GraphView(model)
    names = list(tops)
    values_per_photo = sum(int(np.prod([size or 1 for size in view.shape(name) or ()])) for name in names)
    at_once = max(1, min(batch_size, _FETCH_BYTES // max(1, 4 * values_per_photo)))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    last = {name for name in names if any(reader.node.op_type in MATMULS for reader in view.readers.get(name, ()))}
    session = open_model(with_outputs(model, names))
    for _, (_, *arrays) in _run_batches(session, photos, preprocess, at_once, progress):
        for name, array in zip(names, arrays, strict=True):
            values = _sampled(array, channels_last=name in last)
            scaled = np.abs(values).ravel()
            scaled *= np.float32(BINS / tops[name])
            bins = scaled.astype(np.intp)  # the type that bincount would convert it to
            # The highest value lies on the upper edge of the last bin and is counted in that bin.
            batch_counts = np.bincount(bins, minlength=BINS)
            counts[name] += batch_counts[:BINS]
            counts[name][-1] += batch_counts[BINS:].sum()
    return counts


def _sampled(array: np.ndarray, channels_last: bool) -> np.ndarray:
    """Return every second row and column of large feature maps, (N, C, H, W) or (N, H, W, C); other arrays as is."""
    if array.ndim != 4:
        return array
    if channels_last:
        return array[:, ::2, ::2] if min(array.shape[1:3]) > _DENSE else array
    return array[:, :, ::2, ::2] if min(array.shape[2:]) > _DENSE else array


def _run_batches(
    session: Any, photos: Sequence[Photo], preprocess: Preprocess, batch_size: int, progress: PhotosDone
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Run a session on all photos, and yield each batch, uint8 (n, H, W, 3), with the outputs of the session.

    A network with a fixed batch runs on batches of that size; if the last one is smaller, photos are repeated in it.
    """
    fixed = fixed_batch_of(session)
    done = 0
    progress(0)
    for decoded in photo_batches(photos, preprocess, fixed or batch_size):
        batch = whole_groups(decoded, fixed)
        yield batch, session.run(None, {INPUT_NAME: batch})
        done += len(decoded)
        progress(done)


def _with_extremes(model: Any, tensors: Sequence[str]) -> Any:
    """Return a copy of the model with the lowest and highest value of each tensor as additional outputs."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    for number, tensor in enumerate(tensors):
        for operator in ("ReduceMin", "ReduceMax"):
            name = f"{operator}.{number}"
            copy.graph.node.append(helper.make_node(operator, [tensor], [name], name=name, keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    return copy


def with_outputs(model: Any, tensors: Sequence[str]) -> Any:
    """Return a copy of the model with these tensors as additional outputs."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    for tensor in tensors:
        copy.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    return copy


def _refuse_non_finite_constants(model: Any) -> None:
    """Raise ConversionFailed when a constant holds NaN or infinity."""
    view = GraphView(model)
    for name in view.constants:
        if view.is_float(name) and not np.isfinite(view.array(name)).all():
            raise ConversionFailed(
                f"the constant {name} holds values that are not finite: the network is damaged",
                hint="train and export the network again",
                code="TP3010",
            )


def _not_finite_error(model: Any, batch: np.ndarray) -> ConversionFailed:
    """Return the error that names the first tensor of the graph that is not finite for these photos."""
    view = GraphView(model)
    names = [name for node in view.nodes for name in node.output if view.is_float(name)]
    inner = [name for name in names if name not in view.outputs]
    session = open_model(with_outputs(model, inner))
    broken: set[str] = set()
    for photo in range(len(batch)):
        one = whole_groups(batch[photo : photo + 1], fixed_batch_of(session))
        arrays = session.run(names, {INPUT_NAME: one})
        broken |= {name for name, array in zip(names, arrays, strict=True) if not np.isfinite(array).all()}
    first = next((name for name in names if name in broken), "the network")
    return ConversionFailed(
        f"{first} is not finite for a calibration photo: the network is damaged",
        hint="train and export the network again",
        code="TP3011",
    )
