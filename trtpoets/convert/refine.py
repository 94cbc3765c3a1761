"""Ranges chosen by what they do to the features, tensor by tensor, instead of by the tensor's own values.

A few huge values deep in a network often change nothing in its features; a range that spans them wastes the steps of
all others. No rule on a histogram can know that. Nahshan et al., "Loss Aware Post-training Quantization" (2019) choose
steps by the loss of the whole network; here the features' signal to noise stands for it, as it needs no labels, and one
tensor is quantised at a time, so that what lies before it runs once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trtpoets.convert.calibration import Method, Ranges
from trtpoets.convert.fidelity import features_of, sqnr_db
from trtpoets.convert.graph import GraphView
from trtpoets.convert.pieces import Live, Piece, Sessions, pieces_of
from trtpoets.convert.placement import placement_from_onnx
from trtpoets.convert.qdq import LEVELS, scale_of
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.spec import INPUT_NAME, OnnxModel, Photo

PHOTOS = 8
"""So many photos give 8 times the features' number of errors to judge a threshold by."""

_STRIDE = 0.8
_STEPS = 4
"""From the best threshold known, narrower ones are tried, each 0.8 of the last, while the features gain."""


def refined_ranges(
    model: OnnxModel, candidates: Sequence[Ranges], photos: Sequence[Photo], progress: Progress = silent
) -> Ranges:
    """Of each tensor's ranges in `candidates`, and narrower ones, the one that harms the features least.

    Measured on the first 8 of `photos`. Raises BadPhoto.
    """
    proto = check_onnx(model.path)
    view = GraphView(proto)
    names = placement_from_onnx(proto).tensors
    ends = {view.producer[name].name for name in names}
    order = [node.name for node in view.nodes if node.name in ends]
    features = features_of(view)
    paths = [photo.path for photo in photos[:PHOTOS]]
    pieces = pieces_of(proto, order, (features,))
    measure = _Measure(pieces, features, next(photo_batches(paths, model.spec.preprocess, len(paths))))
    tensors = dict(candidates[0].tensors)
    live: Live = {INPUT_NAME: measure.photos}
    for number, piece in enumerate(pieces[:-1]):
        measure.sessions.advance(piece, live)
        progress("ranges", number + 1, len(order))
        tops = {_magnitude(ranges.tensors[piece.tensor]) for ranges in candidates if piece.tensor in ranges.tensors}
        if piece.tensor in names and min(tops) > 0:
            limit = measure.best(number, live, sorted(tops))
            # The candidates hold cut ranges; the widest of them tells the sides.
            low, high = max((ranges.tensors[piece.tensor] for ranges in candidates), key=_magnitude)
            tensors[piece.tensor] = (max(low, -limit), min(high, limit))
    first = candidates[0]
    return Ranges(Method.FEATURES, tensors, first.photos, first.per_class, first.onnx_sha256)


class _Measure:
    """Signal to noise of the features when one tensor is quantised."""

    def __init__(self, pieces: Sequence[Piece], features: str, photos: np.ndarray) -> None:
        self.pieces = pieces
        self.features = features
        self.photos = photos
        self.sessions = Sessions()
        self.exact = self._finish(0, {INPUT_NAME: photos})

    def best(self, number: int, live: Live, tops: Sequence[float]) -> float:
        """The threshold for the tensor that piece `number` has just made."""
        found = {top: self._db(number, live, top) for top in tops}
        best = max(tops, key=found.__getitem__)
        for _ in range(_STEPS):
            narrower = best * _STRIDE
            found[narrower] = self._db(number, live, narrower)
            if found[narrower] <= found[best]:
                break
            best = narrower
        return best

    def _db(self, number: int, live: Live, top: float) -> float:
        own = dict(live)
        tensor, step = self.pieces[number].tensor, np.float32(scale_of(top))
        own[tensor] = np.clip(np.rint(own[tensor] / step), -LEVELS, LEVELS) * step
        return sqnr_db(self.exact, self._finish(number + 1, own))

    def _finish(self, number: int, live: Live) -> np.ndarray:
        for piece in self.pieces[number:]:
            self.sessions.advance(piece, live)
        return live[self.features]


def _magnitude(span: tuple[float, float]) -> float:
    return max(-span[0], span[1])
