"""Statistics of the tensors inside a network, measured on real photos: minima, maxima and histograms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import reduction_axes
from trtpoets.convert.graph.graph_view import MATMULS, GraphView, clip_bounds
from trtpoets.convert.int8.thresholds import BINS
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.fixed_batch import fixed_batch_of, whole_groups
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_model
from trtpoets.core.types import INPUT_NAME, Photo, Preprocess

_SAMPLE = 8192
"""Maps with more values per photo than this are sampled for histograms, at regular distances: on 256 photos a tensor
still has a million values or more."""

_FINE_BINS = 16 * BINS
"""Bins of a histogram whose range is a power of two: at least eight of them make one of `BINS` bins over the exact
range, so that it hardly matters that a bin's values count as equally distributed."""


_MOVES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
"""Operators whose output has all values of their input, and no others."""

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

    The minima and maxima are computed inside the graph, so that no activations are copied out of it. Those of ReLUs and
    other operators that map a range to a range follow from those of their input, if it is one of `tensors` too.
    Raises BadPhoto, or ConversionFailed that names the first tensor that is not finite.
    """
    _refuse_non_finite_constants(model)
    maps = _range_maps(GraphView(model), tensors)
    measured = [name for name in tensors if name not in maps]
    extremes = _Extremes(model, measured, on_batch)
    session = open_model(_with_extremes(model, measured))
    for batch, (scores, *outputs) in _run_batches(session, photos, preprocess, batch_size, progress):
        extremes.add(batch, scores, outputs)
    ranges = extremes.ranges
    for name, (source, low, high) in maps.items():
        ranges[name] = min(max(ranges[source][0], low), high), min(max(ranges[source][1], low), high)
    return {name: ranges[name] for name in tensors}


def _range_maps(view: GraphView, tensors: Sequence[str]) -> dict[str, tuple[str, float, float]]:
    """Return, in graph order, those of `tensors` that clip another of them, or only move its values.

    Each has the name of the other tensor and the bounds, which are infinite if nothing is clipped.
    """
    wanted, maps = set(tensors), {}
    for node in view.nodes:
        sources = view.activations(node)
        if len(sources) != 1 or sources[0] not in wanted or len(node.output) != 1 or node.output[0] not in wanted:
            continue
        low, high = -np.inf, np.inf
        if node.op_type == "Relu":
            low = 0.0
        elif node.op_type == "Clip":
            bounds = clip_bounds(view, node)
            if bounds is None:
                continue
            low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
        elif node.op_type not in _MOVES:
            continue
        maps[node.output[0]] = sources[0], low, high
    return maps


class _Extremes:
    """The lowest and highest value of each tensor over the batches so far, all of which are finite."""

    def __init__(self, model: Any, tensors: Sequence[str], on_batch: OnBatch | None) -> None:
        self._model, self._tensors, self._on_batch = model, tensors, on_batch
        self._lowest, self._highest = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)

    def add(self, batch: np.ndarray, scores: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        """Take in a batch of photos, its scores, and the outputs of `_with_extremes`.

        Raises ConversionFailed that names the first tensor that is not finite.
        """
        pairs = np.array([[low.min(), high.max()] for low, high in zip(outputs[::2], outputs[1::2], strict=True)])
        pairs = pairs.astype(np.float64).reshape(-1, 2)
        if not (np.isfinite(pairs).all() and np.isfinite(scores).all()):
            raise _not_finite_error(self._model, batch)
        if self._on_batch is not None:
            self._on_batch(batch, scores)
        self._lowest, self._highest = np.minimum(self._lowest, pairs[:, 0]), np.maximum(self._highest, pairs[:, 1])

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each tensor."""
        limits = zip(self._tensors, self._lowest, self._highest, strict=True)
        return {name: (float(low), float(high)) for name, low, high in limits}


@dataclass(frozen=True)
class ActivationStatistics:
    """Statistics of tensors over all photos, by name.

    `ranges` are the lowest and highest values. `counts`, float64 (2048,), is the number of sampled values of |x| in
    equal bins over 0..the largest magnitude, for tensors that are not all zero. `peaks`, float32 (C,), is the largest
    magnitude of each channel of (N, C, H, W).
    """

    ranges: Mapping[str, tuple[float, float]]
    counts: Mapping[str, np.ndarray]
    peaks: Mapping[str, np.ndarray]


def activation_statistics(
    model: Any,
    tensors: Sequence[str],
    photos: Sequence[Photo],
    preprocess: Preprocess,
    batch_size: int,
    progress: PhotosDone,
    on_batch: OnBatch | None = None,
    peaked: Sequence[str] = (),
    first_peak: int = 0,
) -> ActivationStatistics:
    """Return the statistics of `tensors` in one pass over the photos.

    `peaked` are those of them whose channels' peaks are measured, from photo `first_peak` on. The graph computes the
    extremes and a sample of large maps, so that few values are copied out of it.
    Raises BadPhoto, or ConversionFailed that names the first tensor that is not finite.
    """
    _refuse_non_finite_constants(model)
    copy = _with_extremes(model, tensors, peaked)
    _add_samples(copy, GraphView(model), tensors)
    numbers = {name: list(tensors).index(name) for name in peaked}
    extremes = _Extremes(model, tensors, on_batch)
    histograms = [GrowingHistogram() for _ in tensors]
    peaks: dict[str, np.ndarray] = {}
    session = open_model(copy)
    start = 0
    for batch, (scores, *outputs) in _run_batches(session, photos, preprocess, batch_size, progress):
        limits, samples = outputs[: 2 * len(tensors)], outputs[2 * len(tensors) :]
        extremes.add(batch, scores, limits)
        for histogram, values in zip(histograms, samples, strict=True):
            histogram.add(values)
        rows = slice(max(first_peak - start, 0), len(photos) - start)
        for name, number in numbers.items():
            low, high = limits[2 * number][rows], limits[2 * number + 1][rows]
            top = np.maximum(-low, high).max(axis=0, initial=0.0)
            peaks[name] = np.maximum(peaks[name], top) if name in peaks else top
        start += len(batch)
    ranges = extremes.ranges
    tops = [max(-low, high) for low, high in ranges.values()]
    counts = {
        name: histogram.over(top) for name, histogram, top in zip(tensors, histograms, tops, strict=True) if top > 0
    }
    return ActivationStatistics(ranges, counts, peaks)


class GrowingHistogram:
    """Counts magnitudes in equal bins over 0 to a power of two, which is doubled when a larger value comes.

    The bins are then merged in pairs, so that one pass is enough although the range is not known before.
    """

    def __init__(self) -> None:
        self.top = 0.0
        self.counts = np.zeros(_FINE_BINS, np.float64)

    def add(self, values: np.ndarray) -> None:
        """Count float32 values of any shape."""
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0.0))
        if largest > self.top:
            self._grow(2.0 ** np.ceil(np.log2(largest)))
        if self.top:
            bins = np.minimum(self._scaled(magnitudes).astype(np.intp), _FINE_BINS - 1)
            self.counts += np.bincount(bins, minlength=_FINE_BINS)
        else:
            self.counts[0] += magnitudes.size

    def _scaled(self, magnitudes: np.ndarray) -> np.ndarray:
        """Return magnitudes, float32 (N,), in bins; they may be overwritten."""
        scale = _FINE_BINS / self.top
        if scale > np.finfo(np.float32).max:  # the top is a denormal number
            return magnitudes.astype(np.float64) * scale
        magnitudes *= np.float32(scale)
        return magnitudes

    def _grow(self, top: float) -> None:
        merged = min(round(top / self.top), _FINE_BINS) if self.top else _FINE_BINS
        counts = np.zeros_like(self.counts)
        counts[: _FINE_BINS // merged] = self.counts.reshape(-1, merged).sum(axis=1)
        self.top, self.counts = top, counts

    def over(self, top: float) -> np.ndarray:
        """Return the counts in 2048 equal bins over 0..top; a bin's values count as equally distributed within it."""
        below = np.concatenate([[0.0], np.cumsum(self.counts)])
        edges = np.linspace(0.0, self.top, _FINE_BINS + 1)
        inside = np.interp(np.linspace(0.0, top, BINS + 1), edges, below)
        inside[-1] = below[-1]  # no value is above the largest one
        return np.diff(inside)


def _add_samples(model: Any, view: GraphView, tensors: Sequence[str]) -> None:
    """Add a sample of each tensor to the outputs of a ModelProto, in their order: small tensors as they are."""
    from onnx import TensorProto, helper, numpy_helper

    for number, tensor in enumerate(tensors):
        axes, step = _sampling(view, tensor)
        name = tensor
        if step > 1:
            name = f"Sample.{number}"
            inputs = [tensor]
            parts = {"starts": step // 2, "ends": np.iinfo(np.int64).max, "axes": 0, "steps": step}
            for part, value in parts.items():
                values = axes if part == "axes" else [value] * len(axes)
                constant = numpy_helper.from_array(np.array(values, np.int64), f"{name}.{part}")
                model.graph.initializer.append(constant)
                inputs.append(constant.name)
            model.graph.node.append(helper.make_node("Slice", inputs, [name], name=name))
        elif tensor in view.outputs:
            name = f"Sample.{number}"
            model.graph.node.append(helper.make_node("Identity", [tensor], [name], name=name))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def _sampling(view: GraphView, tensor: str) -> tuple[list[int], int]:
    """Return along which axes a tensor is sampled, and the distance: all positions of small maps, 1.

    Every channel is sampled: channels are the last axis where a MatMul reads the tensor, and the second of other maps.
    """
    shape = view.shape_for_one_photo(tensor)
    if not shape or len(shape) not in (3, 4) or None in shape[1:]:
        return [], 1
    channels_last = len(shape) == 3 or any(reader.node.op_type in MATMULS for reader in view.readers.get(tensor, ()))
    axes = list(range(1, len(shape) - 1)) if channels_last else [2, 3]
    smallest = min(shape[axis] or 1 for axis in axes)
    values = int(np.prod(shape[1:], dtype=np.int64))  # type: ignore[arg-type]
    return axes, min(int(np.ceil((values / _SAMPLE) ** (1 / len(axes)))), smallest)


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


def _with_extremes(model: Any, tensors: Sequence[str], by_channel: Collection[str] = ()) -> Any:
    """Return a copy of the model with the lowest and highest value of each tensor as additional outputs.

    Those of `by_channel`, (N, C, H, W), get the values of each photo and channel instead: (N, C).
    """
    from onnx import TensorProto, helper, numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    axes, with_axes = reduction_axes(GraphView(model).opset, [2, 3], "Extremes.axes")
    if by_channel:
        copy.graph.initializer.extend(numpy_helper.from_array(np.array([2, 3], np.int64), name) for name in axes)
    for number, tensor in enumerate(tensors):
        for operator in ("ReduceMin", "ReduceMax"):
            name = f"{operator}.{number}"
            maps = tensor in by_channel
            inputs, attributes = ([tensor, *axes], with_axes) if maps else ([tensor], {})
            copy.graph.node.append(helper.make_node(operator, inputs, [name], name=name, keepdims=0, **attributes))
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None if maps else []))
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
