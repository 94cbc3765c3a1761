"""What tensors inside a network hold when it runs on real photos: extremes and histograms, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.thresholds import BINS
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, Photo, Preprocess

_FETCH_BYTES = 64 << 20
"""How much of the activations is taken out of ONNX Runtime at once."""

_DENSE = 32
"""Of feature maps larger than this a side, histograms count every other row and column: a quarter of the values
tells the shape of a distribution as well."""

Told = Callable[[int], None]
"""Called with the number of photos done."""

See = Callable[[np.ndarray, np.ndarray], None]
"""Called with each batch of photos, uint8 (n, H, W, 3), and their scores, float32 (n, C)."""


def spans(
    model: Any,
    tensors: Sequence[str],
    photos: Sequence[Photo],
    preprocess: Preprocess,
    batch_size: int,
    told: Told,
    see: See | None = None,
) -> dict[str, tuple[float, float]]:
    """The lowest and highest value of each tensor over all photos. The extremes are taken inside the graph.

    Raises BadPhoto, or ConversionFailed that names the first tensor that is not finite.
    """
    _refuse_broken_constants(model)
    lowest = np.full(len(tensors), np.inf)
    highest = np.full(len(tensors), -np.inf)
    session = open_session(_with_extremes(model, tensors).SerializeToString())
    for batch, extremes in _answers(session, photos, preprocess, batch_size, told):
        scores, *found = extremes
        pairs = np.array(found, dtype=np.float64).reshape(-1, 2)
        if not (np.isfinite(pairs).all() and np.isfinite(scores).all()):
            raise _broken(model, batch)
        if see is not None:
            see(batch, scores)
        lowest = np.minimum(lowest, pairs[:, 0])
        highest = np.maximum(highest, pairs[:, 1])
    return {name: (float(low), float(high)) for name, low, high in zip(tensors, lowest, highest, strict=True)}


def peaks(
    model: Any, tensors: Sequence[str], photos: Sequence[Photo], preprocess: Preprocess, batch_size: int, told: Told
) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel of tensors (N, C, H, W) over all photos: float32 (C,) a tensor."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    for number, tensor in enumerate(tensors):
        size, peak = f"Size.{number}", f"Peak.{number}"
        copy.graph.node.append(helper.make_node("Abs", [tensor], [size], name=size))
        copy.graph.node.append(helper.make_node("GlobalMaxPool", [size], [peak], name=peak))
        copy.graph.output.append(helper.make_tensor_value_info(peak, TensorProto.FLOAT, None))
    highest: list[np.ndarray] = []
    session = open_session(copy.SerializeToString())
    for _, (_, *maps) in _answers(session, photos, preprocess, batch_size, told):
        found = [each.max(axis=(0, 2, 3)) for each in maps]
        highest = [np.maximum(old, new) for old, new in zip(highest, found, strict=True)] if highest else found
    return dict(zip(tensors, highest, strict=True))


def histograms(
    model: Any, tops: Mapping[str, float], photos: Sequence[Photo], preprocess: Preprocess, batch_size: int, told: Told
) -> dict[str, np.ndarray]:
    """How often |x| falls in each of 2048 equal bins over 0..tops[tensor]: int64 (2048,) a tensor.

    Large feature maps are sampled.
    """
    view = GraphView(model)
    names = list(tops)
    floats = sum(int(np.prod([size or 1 for size in view.shape(name) or ()])) for name in names)
    at_once = max(1, min(batch_size, _FETCH_BYTES // max(1, 4 * floats)))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    session = open_session(with_outputs(model, names).SerializeToString())
    for _, (_, *arrays) in _answers(session, photos, preprocess, at_once, told):
        for name, array in zip(names, arrays, strict=True):
            dense = array.ndim == 4 and min(array.shape[2:]) > _DENSE
            values = array[:, :, ::2, ::2] if dense else array
            bins = (np.abs(values).ravel() * np.float32(BINS / tops[name])).astype(np.int32)
            # The highest value of all lies on the last edge; it belongs to the last bin.
            found = np.bincount(bins, minlength=BINS)
            counts[name] += found[:BINS]
            counts[name][-1] += found[BINS:].sum()
    return counts


def _answers(
    session: Any, photos: Sequence[Photo], preprocess: Preprocess, batch_size: int, told: Told
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    done = 0
    told(0)
    for batch in photo_batches(photos, preprocess, batch_size):
        yield batch, session.run(None, {INPUT_NAME: batch})
        done += len(batch)
        told(done)


def _with_extremes(model: Any, tensors: Sequence[str]) -> Any:
    """A copy of the model with the lowest and highest value of each tensor as further outputs."""
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
    """A copy of the model with these tensors as further outputs."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    for tensor in tensors:
        copy.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    return copy


def _refuse_broken_constants(model: Any) -> None:
    view = GraphView(model)
    for name in view.constants:
        if view.is_float(name) and not np.isfinite(view.array(name)).all():
            raise ConversionFailed(
                f"{name} holds values that are not finite: the network is damaged",
                hint="train and export it again",
                code="TP3010",
            )


def _broken(model: Any, batch: np.ndarray) -> ConversionFailed:
    """The error that names the first tensor of the graph that is not finite on these photos."""
    view = GraphView(model)
    names = [name for node in view.nodes for name in node.output if view.is_float(name)]
    inner = [name for name in names if name not in view.outputs]
    session = open_session(with_outputs(model, inner).SerializeToString())
    broken: set[str] = set()
    for photo in range(len(batch)):
        arrays = session.run(names, {INPUT_NAME: batch[photo : photo + 1]})
        broken |= {name for name, array in zip(names, arrays, strict=True) if not np.isfinite(array).all()}
    first = next((name for name in names if name in broken), "the network")
    return ConversionFailed(
        f"{first} is not finite on a calibration photo: the network is damaged",
        hint="train and export it again",
        code="TP3011",
    )
