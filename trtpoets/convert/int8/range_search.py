"""Range search: chooses each tensor's range by its effect on the network's features, not by the tensor's own values.

A few huge values deep in a network often have no effect on its features, but a range that covers them coarsens the
scale for all other values. A rule that sees only the histogram cannot know that. Nahshan et al., "Loss Aware
Post-training Quantization" (2019) choose scales by the loss of the whole network. Here the SQNR of the features takes
the place of the loss, because it needs no labels, and one tensor is quantised at a time, so that the layers before it
run once. The same measurement shows which tensors gain from cross-layer equalisation (equalisation.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.calibration import SEARCHED, Equalised, MeasuredRanges, Method, Ranges
from trtpoets.convert.int8.equalisation import factors_of, pairs_of
from trtpoets.convert.int8.fidelity import features_of, sqnr_from_powers
from trtpoets.convert.int8.forms import TENSORRT, Arithmetic
from trtpoets.convert.int8.grid import Grid, Quantiser
from trtpoets.convert.int8.segments import (
    LiveTensors,
    Segment,
    SegmentRunner,
    joined,
    run_segment,
    session_of,
    split_model,
)
from trtpoets.core.fixed_batch import whole_groups
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo

_NARROWING = 0.8
_TRIALS = 4
"""Up to four narrower thresholds are tried, each 0.8 of the one before, as long as the SQNR improves."""

_WORSE = 2
"""After this many wider thresholds that are no better, still wider ones are not tried."""

_DISTINCT = 1.03
"""A threshold that is wider than another by less than this factor is not tried: its scale differs by 0.3 dB at most."""

_MIN_GAIN_DB = 0.2
"""Least gain for which a tensor is equalised: a smaller gain may be due to chance."""

_AT_ONCE = 2
"""So many photos run at a time: their activations stay in the caches of a processor, so that a photo takes a quarter
less time than among 8; and a threshold is given up as soon as the noise of the first ones exceeds what all may have."""


@dataclass(frozen=True)
class _Choice:
    """The largest magnitude of a tensor that INT8 represents, and the SQNR of the features with it."""

    limit: float
    db: float


def search_ranges(
    model: OnnxModel,
    calibration: MeasuredRanges,
    photos: Sequence[Photo],
    progress: Progress = silent,
    arithmetic: Arithmetic = TENSORRT,
    only: Collection[str] | None = None,
) -> tuple[Ranges, ...]:
    """Choose each tensor's range, from those of `calibration` and narrower ones, by the SQNR of the features.

    Returns Ranges by Method.FEATURES and, if some tensors gain from equalisation, the same ranges with their channel
    factors as Method.EQUALISED. SQNR is measured on the first `SEARCHED` of `photos`, those of the calibration. With
    `only`, the other tensors keep the ranges of the first candidate. Raises BadPhoto.
    """
    candidates = calibration.by_method
    proto = arithmetic.prepared_from_onnx(check_onnx(model.path))
    view = GraphView(proto)
    names = [name for name in arithmetic.searched(arithmetic.place(view, {}, ())) if only is None or name in only]
    ends = {view.producer[name].name for name in names}
    order = [node.name for node in view.nodes if node.name in ends]
    features = features_of(view)
    segments = split_model(proto, order, (features,))
    factors = _factors(view, names, calibration.channel_peaks)
    searched = whole_groups(next(photo_batches(photos[:SEARCHED], model.spec.preprocess, SEARCHED)), view.batch or 0)
    search = _Search(segments, features, searched, arithmetic.activations)
    tensors = dict(candidates[0].tensors)
    equalised = {}
    live: LiveTensors = {INPUT_NAME: search.photos}
    for number, segment in enumerate(segments[:-1]):
        search.runner.advance(segment, live)
        progress("ranges", number + 1, len(order))
        for tensor in segment.nodes[-1].output:  # several of a Split
            tops = {_magnitude(ranges.tensors[tensor]) for ranges in candidates if tensor in ranges.tensors}
            if tensor not in names or min(tops) <= 0:
                continue
            # The candidates hold clipped ranges; the widest of them has the real minimum and maximum.
            low, high = max((ranges.tensors[tensor] for ranges in candidates), key=_magnitude)
            plain = search.best(number, live, tensor, (low, high), sorted(tops))
            tensors[tensor] = (max(low, -plain.limit), min(high, plain.limit))
            if tensor in factors:
                top, channel_factors = factors[tensor]
                both_sides = (0.0 if low >= 0 else -np.inf, np.inf)
                scaled = search.best(number, live, tensor, both_sides, [top], channel_factors)
                if scaled.db >= plain.db + _MIN_GAIN_DB:
                    equalised[tensor] = Equalised(scaled.limit, tuple(channel_factors.tolist()))
    by_features = replace(candidates[0], method=Method.FEATURES, tensors=tensors)
    if not equalised:
        return (by_features,)
    return by_features, replace(by_features, method=Method.EQUALISED, equalised=equalised)


def _factors(
    view: GraphView, names: Sequence[str], peaks: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, np.ndarray]]:
    """Return, for each tensor that can be equalised, its largest magnitude after equalisation and the factors (C,)."""
    factors = {}
    for pair in pairs_of(view, names):
        channel_factors = factors_of(view, pair, peaks[pair.tensor]) if pair.tensor in peaks else None
        if channel_factors is not None:
            factors[pair.tensor] = float((peaks[pair.tensor] * channel_factors).max()), channel_factors
    return factors


@dataclass(frozen=True)
class _Rest:
    """All segments from `number` on as one segment, and its session."""

    number: int
    segment: Segment
    session: Any


class _Search:
    """Measures the SQNR of the features when a single tensor is quantised."""

    def __init__(self, segments: Sequence[Segment], features: str, photos: np.ndarray, grid: Grid) -> None:
        self.grid = grid
        self.segments = segments
        self.features = features
        self.photos = photos
        self.runner = SegmentRunner()
        self._rest: _Rest | None = None
        self.exact = self._finish(0, {INPUT_NAME: photos})
        self._signal = float(np.mean(np.square(self.exact, dtype=np.float64)))
        self._order = np.arange(len(photos))

    def best(
        self,
        number: int,
        live: LiveTensors,
        tensor: str,
        span: tuple[float, float],
        tops: Sequence[float],
        factors: np.ndarray | None = None,
    ) -> _Choice:
        """Return the best threshold for a tensor after segment `number`; `factors` scale its channels.

        A threshold limits the range `span` on both sides. The search starts at the narrowest of `tops` and goes to the
        wider ones, until two in a row are no better. If the second of them is no better, narrower thresholds are tried
        first, as long as the SQNR improves, and are preferred.
        """

        def choice_at(top: float, known: _Choice | None = None) -> _Choice:
            quantiser = self.grid.quantiser(max(span[0], -top), min(span[1], top))
            return _Choice(top, self._db(number, live, tensor, quantiser, factors, known.db if known else -np.inf))

        steps = _distinct(tops)
        start = choice_at(steps[0])
        wider = choice_at(steps[1], start) if len(steps) > 1 else start
        best = max(start, wider, key=lambda choice: choice.db)
        if best is start:
            for power in range(1, _TRIALS + 1):
                choice = choice_at(steps[0] * _NARROWING**power, best)
                if choice.db <= best.db:
                    break
                best = choice
            if best is not start:
                return best
        worse = int(best is start)
        for top in steps[2:]:
            if worse == _WORSE:
                break
            choice = choice_at(top, best)
            if choice.db > best.db:
                best, worse = choice, 0
            else:
                worse += 1
        return best

    def _db(
        self,
        number: int,
        live: LiveTensors,
        tensor: str,
        quantiser: Quantiser,
        factors: np.ndarray | None,
        least_db: float,
    ) -> float:
        """Return the SQNR of the features; or a number below `least_db` as soon as it is known to be below that.

        Photos that had much noise in the run before come first, because they have most of it in the next one too.
        """
        tensors = {**live, tensor: quantiser.nearest(live[tensor], factors)}
        names = (self.features,) if self.features in tensors else self._rest_from(number + 1).inputs
        noise = np.zeros(len(self.exact))
        for rows in self._groups({name: tensors[name] for name in names}):
            features = self._finish(number + 1, {name: tensors[name][rows] for name in names})
            with np.errstate(invalid="ignore", over="ignore"):  # a damaged network may give infinities
                errors = np.square(np.subtract(features, self.exact[rows], dtype=np.float64))
            noise[rows] = errors.reshape(len(errors), -1).mean(axis=1)
            if (db := sqnr_from_powers(self._signal, float(noise.mean()))) < least_db:
                return db
        self._order = np.argsort(-noise, kind="stable")
        return db

    def _groups(self, inputs: LiveTensors) -> list[np.ndarray] | list[slice]:
        """Return the indices of the photos that run together, where these tensors are the inputs.

        All photos run at once, by a slice of everything, where the first axis of a tensor is not that of the photos.
        """
        if not all(self._is_by_photo(name, array) for name, array in inputs.items()):
            return [slice(None)]
        return [self._order[start : start + _AT_ONCE] for start in range(0, len(self._order), _AT_ONCE)]

    def _is_by_photo(self, name: str, array: np.ndarray) -> bool:
        """Return whether the first axis of a tensor is that of the photos."""
        view = self.segments[0].view
        return view.batch is None and view.shape_for_one_photo(name) == (1, *array.shape[1:])

    def _finish(self, number: int, live: LiveTensors) -> np.ndarray:
        """Run the segments from `number` on, in one session; return the features."""
        if self.features in live:
            return live[self.features]
        rest = self._rest_from(number)
        assert self._rest is not None
        return run_segment(self._rest.session, rest, {name: live[name] for name in rest.inputs})[0]

    def _rest_from(self, number: int) -> Segment:
        """Return the segments from `number` on as one. All thresholds of a tensor share the session of it."""
        if self._rest is None or self._rest.number != number:
            self._rest = None  # closes the session before the next one is opened
            segment = joined(self.segments[number:], self.features)
            self._rest = _Rest(number, segment, session_of(segment))
        return self._rest.segment


def _distinct(tops: Sequence[float]) -> list[float]:
    """Return thresholds in ascending order without those that are hardly wider than the one before."""
    steps: list[float] = []
    for top in sorted(tops):
        if not steps or top > steps[-1] * _DISTINCT:
            steps.append(top)
    return steps


def _magnitude(span: tuple[float, float]) -> float:
    return max(-span[0], span[1])
