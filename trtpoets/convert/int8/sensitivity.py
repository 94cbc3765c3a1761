"""Sensitivity analysis: finds the layers whose errors in INT8 are largest, and keeps as few as possible in FP32.

A layer's sensitivity is the gain in SQNR of the features, averaged over the photos, when that layer alone returns to
FP32. Estimates run the network in segments, layer by layer, in float. For the measurements of the best candidates the
whole network runs in integers (integer_reference.py), which takes less time than its segments from the candidate on.

The search first keeps USUAL_SHARE of the multiply-adds in INT8. If the network misses the target of accuracy_target.py
then, the search continues down to MIN_SHARE, and divides each gain by the time that the layer costs in FP16
(layer_costs.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.int8.bias_correction import split_like, with_shifted_biases
from trtpoets.convert.int8.fidelity import sqnr_db
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.layer_costs import LayerCosts
from trtpoets.convert.int8.segments import LiveTensors, Segment, SegmentRunner
from trtpoets.core.network_notes import Fidelity, KeptLayer
from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import INPUT_NAME

_AT_ONCE = 2
"""Number of layers that are tried at the same time: one thread builds a version, in Python, while another runs one in
ONNX Runtime, which releases the GIL."""

_FEW_PHOTOS = 4
"""Number of photos for an estimate, which only has to exclude layers whose gain is much too small."""

_MARGIN = 4
"""A layer is not measured if its expected gain is less than the least gain divided by this factor."""

_MEASURED = 4
"""Of so many layers, those with the highest expected worth, the best is taken although another may be expected to be
worth more: expectations are less precise than measurements."""

_LARGEST_SHARE = 0.999
"""The largest expected share of one layer in the noise of all layers."""

_CHANCE = 0.05
"""Agreement is too low only if a network at the target gives so many different labels at most this often."""

_LAYER_COST = 0.01
"""Cost of keeping a layer in FP32 in addition to its own work, as a share of all work: it splits a chain in INT8."""

_MIN_TIME = 0.005
"""Least time that a layer in FP32 costs, as a share of the time of FP16: estimates are not more precise."""

USUAL_SHARE = 0.95
"""The share of the multiply-adds that stays INT8 while the accuracy target is met."""

MIN_SHARE = 0.8
"""The share of the multiply-adds at which the search ends: with less in INT8, FP16 is recommended in any case."""


@dataclass(frozen=True)
class SearchLimits:
    """Targets and limits of the search. Shares and agreement are 0..1. Gains below `least_gain_db` are ignored.

    At least `least_share` of the multiply-adds stays in INT8. None stands for USUAL_SHARE, or for MIN_SHARE if the
    accuracy target is missed otherwise.
    """

    target_db: float
    target_agreement: float
    least_share: float | None
    most_layers: int | None
    least_gain_db: float = 0.15

    def met(self, fidelity: Fidelity) -> bool:
        """Return whether a network reaches both targets; an agreement below its target must not be due to chance."""
        if fidelity.features_db < self.target_db:
            return False
        different, allowed = round((1 - fidelity.agreement) * fidelity.photos), 1 - self.target_agreement
        fewer = (
            math.comb(fidelity.photos, k) * allowed**k * self.target_agreement ** (fidelity.photos - k)
            for k in range(different)
        )
        return 1 - sum(fewer) > _CHANCE


class SensitivitySearch:
    """Searches for the layers to keep in FP32, on the `search_photos` of the evaluator.

    `shifts` are the bias corrections of the INT8 layers; they hardly depend on which other layers are INT8.
    """

    def __init__(self, evaluator: Int8Evaluator, builder: Int8GraphBuilder, shifts: Mapping[str, np.ndarray]) -> None:
        self.evaluator = evaluator
        self.builder = builder
        self.reference = evaluator.reference
        self.photos = evaluator.search_photos
        self.shifts = shifts
        self.runner = SegmentRunner()
        self._expected: dict[str, float] = {}
        self._base: tuple[Mapping[str, str], float] | None = None  # layers in FP32, and the SQNR with them
        self._few = min(
            math.ceil(_FEW_PHOTOS / (builder.view.batch or 1)) * (builder.view.batch or 1), len(self.photos)
        )
        self.costs = LayerCosts(builder.view)

    def kept_layers(
        self,
        start: Fidelity,
        limits: SearchLimits,
        evaluate: Callable[[Mapping[str, str]], Fidelity],
        is_target_met: Callable[[], bool],
        progress: Progress = silent,
    ) -> Iterator[KeptLayer]:
        """Yield layers to keep in FP32, the best first, until the targets or limits are reached.

        `evaluate` returns the fidelity of the corrected network with the given layers in FP32; `is_target_met` returns
        whether the network that was evaluated last, at first that of `start`, meets the accuracy target.
        """
        keep: dict[str, str] = {}
        latest = [start]
        share = USUAL_SHARE if limits.least_share is None else limits.least_share
        for layer, gain in self._steps(keep, share, limits, lambda: limits.met(latest[-1]), self._worth, progress):
            latest.append(evaluate(keep))
            yield KeptLayer(layer, gain, self._share(keep), latest[-1])
        if limits.least_share is None:
            for layer, gain in self._steps(keep, MIN_SHARE, limits, is_target_met, self._worth_by_time, progress):
                yield KeptLayer(layer, gain, self._share(keep), evaluate(keep))

    def _steps(
        self,
        keep: dict[str, str],
        least_share: float,
        limits: SearchLimits,
        is_done: Callable[[], bool],
        worth_beside: Callable[[Mapping[str, str]], Callable[[str, float], float]],
        progress: Progress,
    ) -> Iterator[tuple[str, float]]:
        """Add layers to `keep` one by one, and yield each with its gain in dB, until `is_done` or a limit is reached.

        `worth_beside(keep)` returns the function that divides the gain of a layer by its cost in addition to `keep`.
        """
        possible = self._share({})
        # If less than `least_share` can be INT8 at all, the same proportion of that must remain.
        lowest = least_share * (1.0 if possible >= least_share else possible)
        start, searched = self._share(keep), False
        while (limits.most_layers is None or len(keep) < limits.most_layers) and not is_done():
            # Of the share that may leave INT8; the search ends earlier if the target is met.
            searched = True
            used = (start - self._share(keep)) / max(start - lowest, 1e-9)
            progress("layers in FP32", min(int(used * PARTS), PARTS - 1), PARTS)
            best = self._best(keep, self._affordable(keep, lowest), limits.least_gain_db, worth_beside(keep), progress)
            if best is None:
                break
            layer, gain = best
            self._expect_after(layer, gain)
            keep[layer] = f"in FP32 it gains {gain:.1f} dB"
            yield layer, gain
        if searched:
            progress("layers in FP32", PARTS, PARTS)

    def _best(
        self,
        keep: Mapping[str, str],
        candidates: Sequence[str],
        least_gain_db: float,
        worth: Callable[[str, float], float],
        progress: Progress,
    ) -> tuple[str, float] | None:
        """Return the most worthwhile candidate and its gain; None if none gains enough.

        Candidates are measured on all photos in the order of their expected worth, two at a time, until one of them
        gains enough and is worth more than the next is expected to be. Candidates without an expected gain are
        estimated first.
        """
        unknown = [name for name in candidates if name not in self._expected]
        self._expected.update(self._estimates(keep, unknown, progress) if unknown else {})
        likely = [name for name in candidates if self._expected[name] >= least_gain_db / _MARGIN]
        likely.sort(key=lambda name: worth(name, self._expected[name]), reverse=True)
        expected = {name: worth(name, self._expected[name]) for name in likely}
        enough: dict[str, float] = {}
        for start in range(0, len(likely), _AT_ONCE):
            gains = self._gains(keep, likely[start : start + _AT_ONCE])
            self._expected.update(gains)
            enough.update((name, worth(name, gain)) for name, gain in gains.items() if gain >= least_gain_db)
            following = start + _AT_ONCE
            if enough and (
                following >= min(_MEASURED, len(likely)) or max(enough.values()) >= expected[likely[following]]
            ):
                break
        if not enough:
            return None
        layer = max(enough, key=enough.__getitem__)
        return layer, self._expected[layer]

    def _expect_after(self, layer: str, gain_db: float) -> None:
        """Update the expected gains of the other layers after `layer` has returned to FP32 with this gain.

        The errors of layers are treated as independent noise, whose powers add up: the less noise is left, the larger
        is the share of each other layer in it.
        """
        left = 10 ** (-gain_db / 10)
        del self._expected[layer]
        for name, gain in self._expected.items():
            share = min((1 - 10 ** (-gain / 10)) / left, _LARGEST_SHARE)
            self._expected[name] = -10 * math.log10(1 - share)

    def _worth(self, keep: Mapping[str, str]) -> Callable[[str, float], float]:
        """Return the function that divides the gain of a layer in FP32 by its multiply-adds."""
        total = max(self.builder.total, 1)
        return lambda layer, gain_db: gain_db / (_LAYER_COST + self.builder.work[layer] / total)

    def _worth_by_time(self, keep: Mapping[str, str]) -> Callable[[str, float], float]:
        """Return the function that divides the gain of a layer in FP32 by its time beside the layers of `keep`."""
        without = self.relative_time(keep)

        def worth(layer: str, gain_db: float) -> float:
            return gain_db / max(self.relative_time({**keep, layer: "tried"}) - without, _MIN_TIME)

        return worth

    def relative_time(self, keep: Mapping[str, str]) -> float:
        """Return the estimated time with the layers of `keep` in FP16, relative to the whole network in FP16."""
        return self.costs.relative(self.builder.placement(keep))

    def _share(self, keep: Mapping[str, str]) -> float:
        return self.builder.share(self.builder.placement(keep))

    def _affordable(self, keep: Mapping[str, str], least_share: float) -> list[str]:
        """Return the layers that can still return to FP32, in graph order."""
        placement = self.builder.placement(keep)
        share = self.builder.share(placement)
        if len(placement.weights) < 2:
            return []
        return [
            weight.node
            for weight in placement.weights
            if share - self.builder.work[weight.node] / max(self.builder.total, 1) >= least_share
        ]

    def _estimates(self, keep: Mapping[str, str], candidates: Collection[str], progress: Progress) -> dict[str, float]:
        """Return estimates of what `_gains` measures, in a tenth of the time: with few photos, and no new networks.

        The segment that ends with the candidate runs in FP32 on the outputs of the INT8 segments before it.
        """
        segments = self._segments(keep)
        exact = split_like(self.builder.build_clipped(self.builder.placement(keep), unlimited=True), self.reference)
        live: LiveTensors = {INPUT_NAME: self.photos[: self._few]}
        features_db: dict[str, float] = {}
        for number, segment in enumerate(segments):
            if segment.end in candidates:
                tensors = dict(live)
                self.runner.advance(exact[number], tensors)
                for later in segments[number + 1 :]:
                    self.runner.advance(later, tensors)
                features_db[segment.end] = self._db(tensors[self.reference.feature_name])
                progress("sensitivity", len(features_db), len(candidates))
            self.runner.advance(segment, live)
        base = self._db(live[self.reference.feature_name])
        return {name: db - base for name, db in features_db.items()}

    def _gains(self, keep: Mapping[str, str], candidates: Collection[str]) -> dict[str, float]:
        """Return the gain in dB of each candidate when it is in FP32 in addition to the layers of `keep`."""
        versions = [{**keep, name: "tried"} for name in candidates]
        if self._base is None or self._base[0] != keep:
            self._base = dict(keep), self._db_of_version(keep)
        features_db = map_ahead(self._db_of_version, versions, _AT_ONCE, _AT_ONCE)
        return {name: db - self._base[1] for name, db in zip(candidates, features_db, strict=True)}

    def _db_of_version(self, keep: Mapping[str, str]) -> float:
        """Return the SQNR of the features of the INT8 network with the layers of `keep` in FP32."""
        return self._db(self.evaluator.search_features(self._version(keep)))

    def _segments(self, keep: Mapping[str, str]) -> list[Segment]:
        """Return the segments of the INT8 network with the layers of `keep` in FP32."""
        return split_like(self._version(keep), self.reference)

    def _version(self, keep: Mapping[str, str]) -> Any:
        """Return the INT8 network, a ModelProto, with the layers of `keep` in FP32."""
        model, placement = self.builder.build(keep)
        quantised = {weight.node for weight in placement.weights}
        return with_shifted_biases(model, {name: self.shifts[name] for name in quantised if name in self.shifts})

    def _db(self, features: np.ndarray) -> float:
        """Return the mean SQNR of the photos in dB. That of all errors together would depend on the worst ones."""
        exact = self.reference.features[: len(features)]
        return float(np.mean([sqnr_db(before, after) for before, after in zip(exact, features, strict=True)]))
