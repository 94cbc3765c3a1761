"""Ranges chosen by what they do to the features, tensor by tensor, instead of by the tensor's own values.

A few huge values deep in a network often change nothing in its features; a range that spans them wastes the steps of
all others. No rule on a histogram can know that. Nahshan et al., "Loss Aware Post-training Quantization" (2019) choose
steps by the loss of the whole network; here the features' signal to noise stands for it, as it needs no labels, and one
tensor is quantised at a time, so that what lies before it runs once. The same tells which tensors gain by scaling their
channels (equalise.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import peaks
from trtpoets.convert.int8.calibration import Equalised, Method, Ranges
from trtpoets.convert.int8.equalisation import factors_of, pairs_of
from trtpoets.convert.int8.fidelity import features_of, sqnr_db
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.convert.int8.qdq import LEVELS, scale_of
from trtpoets.convert.int8.segments import Live, Piece, Sessions, pieces_of
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Preprocess

PHOTOS = 8
"""So many photos give 8 times the features' number of errors to judge a threshold by."""

_PEAK_PHOTOS = 16
"""Channels' peaks on fewer other photos say too little of what is to come: then no channel is scaled."""

_STRIDE = 0.8
_STEPS = 4
"""From the best threshold known, narrower ones are tried, each 0.8 of the last, while the features gain."""

_LEAST_GAIN_DB = 0.2
"""What scaling a tensor's channels must bring: less may be chance, and each factor is a change to the network."""


@dataclass(frozen=True)
class _Choice:
    """The largest magnitude of a tensor to step, and the features' dB then."""

    limit: float
    db: float


def refined_ranges(
    model: OnnxModel, candidates: Sequence[Ranges], photos: Sequence[Photo], progress: Progress = silent
) -> tuple[Ranges, ...]:
    """Of each tensor's ranges in `candidates`, and narrower ones, that which harms the features least: FEATURES.

    And EQUALISED where some tensors gain by scaled channels: the same ranges, and those tensors' factors. Harm is
    measured on the first 8 of `photos`, the channels' peaks on the others. Raises BadPhoto.
    """
    proto = check_onnx(model.path)
    view = GraphView(proto)
    names = placement_from_onnx(proto).tensors
    ends = {view.producer[name].name for name in names}
    order = [node.name for node in view.nodes if node.name in ends]
    features = features_of(view)
    pieces = pieces_of(proto, order, (features,))
    factors = _factors(proto, view, names, photos[PHOTOS:], model.spec.preprocess)
    measure = _Measure(pieces, features, next(photo_batches(photos[:PHOTOS], model.spec.preprocess, PHOTOS)))
    tensors = dict(candidates[0].tensors)
    equalised = {}
    live: Live = {INPUT_NAME: measure.photos}
    for number, piece in enumerate(pieces[:-1]):
        measure.sessions.advance(piece, live)
        progress("ranges", number + 1, len(order))
        tops = {_magnitude(ranges.tensors[piece.tensor]) for ranges in candidates if piece.tensor in ranges.tensors}
        if piece.tensor not in names or min(tops) <= 0:
            continue
        plain = measure.best(number, live, sorted(tops))
        # The candidates hold cut ranges; the widest of them tells the sides.
        low, high = max((ranges.tensors[piece.tensor] for ranges in candidates), key=_magnitude)
        tensors[piece.tensor] = (max(low, -plain.limit), min(high, plain.limit))
        if piece.tensor in factors:
            top, scales = factors[piece.tensor]
            scaled = measure.best(number, live, [top], scales)
            if scaled.db >= plain.db + _LEAST_GAIN_DB:
                equalised[piece.tensor] = Equalised(scaled.limit, tuple(scales.tolist()))
    found = replace(candidates[0], method=Method.FEATURES, tensors=tensors)
    return (found, replace(found, method=Method.EQUALISED, equalised=equalised)) if equalised else (found,)


def _factors(
    proto: Any, view: GraphView, names: Sequence[str], photos: Sequence[Photo], preprocess: Preprocess
) -> dict[str, tuple[float, np.ndarray]]:
    """For each tensor whose channels can be scaled, the largest magnitude then, and by how much."""
    pairs = pairs_of(view, names)
    if len(photos) < _PEAK_PHOTOS or not pairs:
        return {}
    seen = peaks(proto, [pair.tensor for pair in pairs], photos, preprocess, 16, lambda done: None)
    found = {}
    for pair in pairs:
        scales = factors_of(view, pair, seen[pair.tensor])
        if scales is not None:
            found[pair.tensor] = float((seen[pair.tensor] * scales).max()), scales
    return found


class _Measure:
    """Signal to noise of the features when one tensor is quantised."""

    def __init__(self, pieces: Sequence[Piece], features: str, photos: np.ndarray) -> None:
        self.pieces = pieces
        self.features = features
        self.photos = photos
        self.sessions = Sessions()
        self.exact = self._finish(0, {INPUT_NAME: photos})

    def best(self, number: int, live: Live, tops: Sequence[float], factors: np.ndarray | None = None) -> _Choice:
        """The threshold for the tensor that piece `number` has just made, its channels scaled or not."""
        choices = [_Choice(top, self._db(number, live, top, factors)) for top in tops]
        best = max(choices, key=lambda choice: choice.db)
        for _ in range(_STEPS):
            narrower = best.limit * _STRIDE
            choice = _Choice(narrower, self._db(number, live, narrower, factors))
            if choice.db <= best.db:
                break
            best = choice
        return best

    def _db(self, number: int, live: Live, top: float, factors: np.ndarray | None) -> float:
        own = dict(live)
        tensor, step = self.pieces[number].tensor, np.float32(scale_of(top))
        steps = step if factors is None else (step / factors).reshape(1, -1, 1, 1)
        own[tensor] = np.clip(np.rint(own[tensor] / steps), -LEVELS, LEVELS) * steps
        return sqnr_db(self.exact, self._finish(number + 1, own))

    def _finish(self, number: int, live: Live) -> np.ndarray:
        for piece in self.pieces[number:]:
            self.sessions.advance(piece, live)
        return live[self.features]


def _magnitude(span: tuple[float, float]) -> float:
    return max(-span[0], span[1])
