"""Which layers cost INT8 most, and the fewest of them to leave in float.

A layer's damage is what the features lose by it: what they gain, in the mean of photos, when it alone goes back to
float. The network runs in pieces: what lies before the layer is not run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from trtpoets.convert.int8.bias_correction import Reference, pieces_like, with_biases
from trtpoets.convert.int8.fidelity import Fidelity, sqnr_db
from trtpoets.convert.int8.int8_graph import Int8Maker
from trtpoets.convert.int8.segments import Live, Piece, Sessions
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import INPUT_NAME

_MEASURED_AGAIN = 8
"""After a layer went to float, the others' damage is another: so many of the worst are measured again."""

_CHANCE = 0.05
"""A photo or two more that are answered otherwise are no reason to give up INT8: that often it is chance."""

_LAYER_COST = 0.01
"""A layer in float breaks a chain of INT8 layers, which costs time too: taken to be as dear as 1 % of the work."""


@dataclass(frozen=True)
class Limits:
    """When the search ends. Shares and agreement are 0..1; a layer that brings less than `least_gain_db` is left."""

    target_db: float
    target_agreement: float
    least_share: float
    most_layers: int | None
    least_gain_db: float = 0.15

    def met(self, fidelity: Fidelity) -> bool:
        """Whether a network is good enough. Agreement is too low where chance does not make it so 1 time in 20."""
        if fidelity.features_db < self.target_db:
            return False
        wrong, allowed = round((1 - fidelity.agreement) * fidelity.photos), 1 - self.target_agreement
        fewer = (
            math.comb(fidelity.photos, k) * allowed**k * self.target_agreement ** (fidelity.photos - k)
            for k in range(wrong)
        )
        return 1 - sum(fewer) > _CHANCE


@dataclass(frozen=True)
class Step:
    """A layer that went back to float, what it brought on the photos of the search, and how all stood after it."""

    layer: str
    gain_db: float
    share: float
    fidelity: Fidelity

    @property
    def why(self) -> str:
        """One line for people."""
        return f"in float it brings {self.gain_db:.1f} dB: {self.fidelity.features_db:.1f} dB with it"


class Search:
    """The search over one network. `photos`, uint8 (N, H, W, 3), are those that `reference` saw.

    `shifts` corrects the biases of INT8 layers; they hardly change with what else is INT8.
    """

    def __init__(
        self, maker: Int8Maker, reference: Reference, photos: np.ndarray, shifts: Mapping[str, np.ndarray]
    ) -> None:
        self.maker = maker
        self.reference = reference
        self.photos = photos
        self.shifts = shifts
        self.sessions = Sessions()

    def steps(
        self,
        start: Fidelity,
        limits: Limits,
        judge: Callable[[Mapping[str, str]], Fidelity],
        progress: Progress = silent,
    ) -> Iterator[Step]:
        """Take layers back to float, the worst first, until the limits are met or nothing more can be done.

        `judge` says how good the corrected network is with those layers in float.
        """
        keep: dict[str, str] = {}
        fidelity, among = start, None
        while not limits.met(fidelity) and (limits.most_layers is None or len(keep) < limits.most_layers):
            candidates = self._affordable(keep, limits.least_share)
            if among is not None:
                candidates = [name for name in among if name in candidates][:_MEASURED_AGAIN]
            gains = self._gains(keep, candidates, progress)
            known = {name: self._worth(name, gain) for name, gain in gains.items()}
            worth = {name: known[name] for name, gain in gains.items() if gain >= limits.least_gain_db}
            if not worth and among is not None:
                # The worst of before are not the worst any more: look at all again before giving up.
                among = None
                continue
            if not worth:
                return
            layer = max(worth, key=worth.__getitem__)
            if among is not None:
                known = {**dict.fromkeys(among, -np.inf), **known}
            among = [name for name in sorted(known, key=known.__getitem__, reverse=True) if name != layer]
            keep[layer] = f"in float it brings {gains[layer]:.1f} dB"
            fidelity = judge(keep)
            yield Step(layer, gains[layer], self._share(keep), fidelity)

    def _worth(self, layer: str, gain_db: float) -> float:
        """What a layer in float brings for what it costs."""
        return gain_db / (_LAYER_COST + self.maker.work[layer] / max(self.maker.total, 1))

    def _share(self, keep: Mapping[str, str]) -> float:
        return self.maker.share(self.maker.make(keep)[1])

    def _affordable(self, keep: Mapping[str, str], least_share: float) -> list[str]:
        """Layers that can still go to float, in the order of the graph."""
        placement = self.maker.make(keep)[1]
        share = self.maker.share(placement)
        if len(placement.weights) < 2:
            return []
        return [
            weight.node
            for weight in placement.weights
            if share - self.maker.work[weight.node] / max(self.maker.total, 1) >= least_share
        ]

    def _gains(self, keep: Mapping[str, str], candidates: Collection[str], progress: Progress) -> dict[str, float]:
        """How many dB more than with `keep` in float the features have with each candidate in float too."""
        pieces = self._version(keep)
        live: Live = {INPUT_NAME: self.photos}
        found: dict[str, float] = {}
        for number, piece in enumerate(pieces):
            if piece.end in candidates:
                found[piece.end] = self._without(pieces, number, live, keep)
                progress("sensitivity", len(found), len(candidates))
            self.sessions.advance(piece, live)
        base = self._db(live)
        return {name: db - base for name, db in found.items()}

    def _without(self, pieces: list[Piece], number: int, live: Live, keep: Mapping[str, str]) -> float:
        """The features' dB with the layer of piece `number` in float, going on from `live` before that piece."""
        version = self._version({**keep, pieces[number].end: "tried"})
        first = next(i for i, piece in enumerate(version) if piece.plan != pieces[i].plan)
        # Where Concats join branches, a layer in float changes what lies before it: then from the photos on.
        start, own = (number, dict(live)) if first >= number else (0, {INPUT_NAME: self.photos})
        for known, piece in zip(pieces[start:], version[start:], strict=True):
            # The same piece again has its session at hand.
            self.sessions.advance(known if piece.plan == known.plan else piece, own)
        return self._db(own)

    def _version(self, keep: Mapping[str, str]) -> list[Piece]:
        """The INT8 network with some layers in float, in pieces."""
        model, placement = self.maker.make(keep)
        quantised = {weight.node for weight in placement.weights}
        shifts = {name: shift for name, shift in self.shifts.items() if name in quantised}
        return pieces_like(with_biases(model, shifts), self.reference)

    def _db(self, live: Live) -> float:
        """The mean over photos of each one's dB. All photos' noise in one sum would be that of the worst few."""
        found = live[self.reference.feature_name]
        return float(
            np.mean([sqnr_db(exact, other) for exact, other in zip(self.reference.features, found, strict=True)])
        )
