"""Holds the rounds of a race: loads the networks, judges them on more and more photos, and decides.

Near-copies are looked for among the photos of a round, by the features of one network.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trtpoets.convert.int8.calibration import CalibrationConfig, calibration_photos, default_photos
from trtpoets.core.errors import BadInput, ConversionFailed, TrtPoetsError
from trtpoets.core.files import temporary_folder
from trtpoets.core.formatting import interval, many, percent
from trtpoets.core.progress import about
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Precision, Split
from trtpoets.judge.clustered import share_interval
from trtpoets.judge.cross_fit import CrossFitConfig, Folds, folds_of_photos
from trtpoets.judge.race import (
    Contestant,
    NetworkAnswers,
    RaceDecision,
    RaceInt8,
    RaceRound,
    decide,
    frontier,
    photos_of_round,
    rounds_of,
    survivors,
)
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.extractors import frozen_base
from trtpoets.pipeline.head_training import indices_of_labels, rows_in
from trtpoets.pipeline.int8_advice import TARGET, little_gain
from trtpoets.pipeline.race_device import latencies_ms
from trtpoets.pipeline.race_heads import heads_of_folds
from trtpoets.pipeline.race_int8 import CALIBRATION_PHOTOS, RaceNetwork, int8_features, int8_for_timing
from trtpoets.pipeline.retrain import RetrainConfig, backbone_for
from trtpoets.train.backbones import DEFAULT_BACKBONE, backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.joint_heads import scores_by_fold
from trtpoets.train.near_copies.families import families_of
from trtpoets.train.near_copies.grouping import groups_of
from trtpoets.train.near_copies.thumbnails import ThumbnailCache
from trtpoets.train.split import independent_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.progress import Progress
    from trtpoets.core.types import Photo
    from trtpoets.pipeline.race_device import RaceDevice
    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.dataset import Dataset
    from trtpoets.train.head import Head
    from trtpoets.train.photo_table import PhotoTable
    from trtpoets.train.workers import Workers

_FOLDS = CrossFitConfig()
"""With 5 folds, heads have 60 % of the photos for training instead of 80 %. This favours networks that need few photos:
on all solar cells MobileNetV2 is 0.4 points below EfficientNet-Lite0 with 5 folds, 1.1 with 10 (means of three
divisions)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entrant:
    """A network that is named for the race, and its weights file if one is given."""

    backbone: str
    weights: Path | None = None

    def applied_to(self, config: RetrainConfig) -> RetrainConfig:
        """Return the configuration that trains this network."""
        return replace(config, backbone=self.backbone, weights=self.weights)


class RaceWork:
    """One race: what is known about each network by its number in `entrants`."""

    def __init__(
        self,
        config: RetrainConfig,
        device: RaceDevice,
        dataset: Dataset,
        entrants: Sequence[Entrant],
        workers: Workers | None,
        progress: Progress,
    ) -> None:
        self._config, self._device, self._dataset, self._entrants = config, device, dataset, entrants
        self._workers, self._progress = workers, progress
        self._networks: dict[int, RaceNetwork] = {}
        self._extractors: dict[int, Extractor] = {}
        self._latencies: dict[int, float] = {}
        self._rounds: dict[int, list[RaceRound]] = {number: [] for number in range(len(entrants))}
        self._outcomes: dict[int, str] = {}
        self._last: dict[int, NetworkAnswers] = {}
        self._int8: dict[int, RaceInt8] = {}
        self._names = _distinct_names(entrants)

    def decided(self) -> RaceDecision:
        """Return the network that is chosen, after all rounds."""
        self._load()
        alive = self._fast_enough()
        if len(alive) == 1:
            return RaceDecision(alive[0], None, f"{self._names[alive[0]]} is the only network {self._why_only()}")
        sizes = rounds_of(self._allowed.truth)
        for place, count in enumerate(sizes, 1):
            judged = self._judged(alive, count, place)
            is_last = place == len(sizes) or judged.is_all
            if not is_last:
                added = sizes[place] - len(judged.photos)
                alive = survivors(judged.answers_on(judged.counted), judged.groups[judged.counted], added)
                is_last = len(alive) == 1
            out = [number for number in judged.answers if is_last or number not in alive]
            self._outcomes |= dict.fromkeys(out, f"out in round {place}")
            if is_last:
                break
        return self._decided_in_precision(judged)

    def contestants(self, chosen: int) -> tuple[Contestant, ...]:
        """Return all networks with what is known about them."""
        points = [(answers.latency_ms, answers.accuracy) for answers in self._last.values()]
        best = {number for number, on in zip(self._last, frontier(points), strict=True) if on}
        return tuple(
            Contestant(
                backbone=entrant.backbone,
                pixels=backbone_named(entrant.backbone).preprocess.height,
                outcome="chosen" if number == chosen else self._outcomes.get(number, ""),
                weights_id=self._networks[number].weights_id if number in self._networks else "",
                weights=None if entrant.weights is None else str(entrant.weights),
                latency_ms=self._latencies.get(number),
                rounds=tuple(self._rounds[number]),
                on_frontier=number in best,
            )
            for number, entrant in enumerate(self._entrants)
        )

    def int8_of(self, chosen: int) -> RaceInt8 | None:
        """Return how the INT8 of a network compares with its FP32; None if it was not made."""
        return self._int8.get(chosen)

    def _default(self) -> int | None:
        """Return the number of the default network, with its own weights; None if it takes no part."""
        return next(
            (number for number, entrant in enumerate(self._entrants) if entrant == Entrant(DEFAULT_BACKBONE)), None
        )

    def _why_only(self) -> str:
        if len(self._entrants) == 1:
            return "at hand, so nothing was compared"
        return "that can be used and is fast enough"

    def _load(self) -> None:
        """Load each network, and find its latency. One that fails is out; if all do, the last error is raised."""
        files = {}
        failure: TrtPoetsError | None = None
        with temporary_folder() as folder:
            for number, entrant in enumerate(self._entrants):
                self._progress("loading networks", number, len(self._entrants))
                try:
                    self._networks[number] = self._loaded(number, entrant)
                    files[number] = self._timed_file(number, folder / f"{number}.onnx")
                except TrtPoetsError as error:
                    failure = error
                    self._outcomes[number] = f"failed: {error.message}"
                    _log.warning("%s takes no part in the race: %s", self._names[number], error.message)
            self._progress("loading networks", len(self._entrants), len(self._entrants))
            if not files:
                assert failure is not None
                raise failure
            self._latencies = latencies_ms(files, self._device, self._progress)

    def _loaded(self, number: int, entrant: Entrant) -> RaceNetwork:
        backbone = backbone_for(self._dataset, entrant.applied_to(self._config))
        base = frozen_base(backbone, entrant.weights, self._config.device)
        self._extractors[number] = base.extractor
        return RaceNetwork(backbone, base.onnx, base.weights_id, self._dataset.labels)

    def _timed_file(self, number: int, out: Path) -> Path:
        """Return the file whose time counts: FP32, or INT8 where that is what this CPU will compute."""
        network = self._networks[number]
        if self._device.gpu is not None or self._device.precision is not Precision.INT8:
            return network.base
        return int8_for_timing(network, self._dataset.photos, out)

    def _fast_enough(self) -> list[int]:
        limit = self._config.race.max_ms
        alive = [number for number, latency in self._latencies.items() if limit is None or latency <= limit]
        for number in set(self._latencies) - set(alive):
            self._outcomes[number] = "too slow"
        if not alive:
            fastest_one = min(self._latencies, key=lambda number: self._latencies[number])
            latency = self._latencies[fastest_one]
            raise BadInput(
                f"no network takes at most {limit:g} ms on {self._device.name}; the fastest is "
                f"{self._names[fastest_one]} with {latency:.3g} ms",
                hint=f"give --max-ms {_rounded_up(latency)}",
                code="TP8094",
            )
        return alive

    @cached_property
    def _allowed(self) -> _Allowed:
        """The photos that may be used for a choice."""
        dataset = self._dataset
        rows = rows_in(dataset, Split.TRAIN, Split.VALIDATION)
        groups = np.array(groups_of(dataset.photos, dataset))
        return _Allowed(dataset.photos.at(rows), indices_of_labels(dataset)[rows], groups[rows])

    def _judged(self, alive: Sequence[int], count: int, place: int) -> _Round:
        """Return the networks judged in FP32 on `count` photos."""
        allowed = self._allowed
        rows = photos_of_round(allowed.truth, allowed.groups, count, self._config.head.seed)
        photos, truth = allowed.photos.at(rows), allowed.truth[rows]
        features = {number: self._features(number, photos) for number in alive}
        groups = self._groups(photos, alive[0], features[alive[0]])
        folds = folds_of_photos(truth, groups, photos.sha256s, _FOLDS)
        if folds is None:
            raise too_few(f"{len(photos):,} photos are too few for cross-fitting")
        judged = _Round(photos, truth, groups, folds, is_all=len(rows) == len(allowed.photos))
        for done, number in enumerate(alive):
            self._progress(f"round {place}: heads", done, len(alive))
            heads = heads_of_folds(features[number], truth, folds, len(self._dataset.labels), self._config.head)
            judged.heads[number] = heads
            judged.note_answers(number, features[number], self._latencies[number])
            self._note(number, judged, judged.counted, Precision.FP32)
        self._progress(f"round {place}: heads", len(alive), len(alive))
        return judged

    def _features(self, number: int, photos: Sequence[Photo]) -> np.ndarray:
        extractor, cache = self._extractors[number], bottleneck_folder()
        thumbnails = ThumbnailCache(cache, extractor.preprocess)
        features = bottlenecks_from_photos(
            photos,
            extractor,
            cache,
            progress=about(self._names[number], self._progress),
            pixel_rows=thumbnails,
            workers=self._workers,
        )
        return np.asarray(features)

    def _groups(self, photos: PhotoTable, number: int, features: np.ndarray) -> np.ndarray:
        """Return the independent group of each photo, int64 (N,). A network's features show near-copies."""
        thumbnails = ThumbnailCache(bottleneck_folder(), self._extractors[number].preprocess)
        families = families_of(features, thumbnails.of(photos, self._progress), photos.names, self._progress)
        sha256s = photos.sha256s
        named = [[sha256s[row] for row in family] for family in families]
        return np.array(independent_groups(photos.files, named), np.int64)

    def _note(self, number: int, judged: _Round, counted: np.ndarray, precision: Precision) -> None:
        """Note the accuracy of a network on the `counted` photos of a round, bool (N,)."""
        if not counted.any():
            raise too_few("no photos are left outside calibration")
        answers = judged.answers[number].only(counted)
        low, high = share_interval(answers.right, judged.groups[counted])
        photos = len(answers.right)
        self._rounds[number].append(RaceRound(photos, precision, answers.accuracy, low, high, answers.rating))

    def _decided_in_precision(self, judged: _Round) -> RaceDecision:
        """Return the network that is chosen in the deployed precision, of those in the last round.

        INT8 loses accuracy. So a network that is chosen with the accuracy of its INT8, while the others have that of
        their FP32, would also be chosen if all were quantised.
        """
        counted, quantised = judged.counted, set[int]()
        while True:
            self._last = judged.answers_on(counted)
            decision = decide(self._last, judged.groups[counted], self._names, self._default())
            chosen = decision.chosen
            if self._device.precision is not Precision.INT8 or chosen in quantised:
                return decision
            try:
                counted = counted & ~self._judge_in_int8(chosen, judged)
            except ConversionFailed as error:
                self._outcomes[chosen] = f"failed: {error.message}"
                _log.warning("%s does not win: %s", self._names[chosen], error.message)
                del judged.answers[chosen]
                if not judged.answers:
                    raise
            else:
                quantised.add(chosen)
                self._note(chosen, judged, counted, Precision.INT8)

    def _judge_in_int8(self, number: int, judged: _Round) -> np.ndarray:
        """Replace the answers of a network by those in INT8. Returns which photos it was calibrated with, bool (N,).

        Raises ConversionFailed if there is no INT8, or one that is hardly faster while other networks are left.
        """
        training = self._dataset.in_split(Split.TRAIN)
        wanted = min(CALIBRATION_PHOTOS, default_photos(len(training), len(self._dataset.labels)))
        unknown = training.at(np.flatnonzero(~np.isin(training.digests, judged.photos.digests)))
        calibration = calibration_photos(unknown if len(unknown) >= wanted else training, CalibrationConfig(wanted))
        heads = judged.heads[number]
        with temporary_folder() as folder:
            fp32 = self._networks[number].classifier(heads[0], folder / "fp32.onnx")
            int8 = int8_features(
                fp32,
                calibration,
                self._dataset.in_split(Split.VALIDATION),
                judged.photos,
                folder / "int8.onnx",
                for_cpu=self._device.gpu is None,
                progress=about(self._names[number], self._progress),
            )
        why_slow = little_gain(int8.share, int8.time)
        if why_slow and len(judged.answers) > 1:
            raise ConversionFailed(
                f"quantize would not recommend INT8: {why_slow}",
                hint="race with --precision fp16, or name the network with --backbone",
                code="TP8099",
            )
        used = {photo.sha256 for photo in calibration}
        calibrated = np.array([sha256 in used for sha256 in judged.photos.sha256s], bool)
        before, fp32_labels = judged.answers[number], judged.labels[number]
        judged.note_answers(number, int8.features, self._latencies[number])
        compared = judged.counted & ~calibrated
        if compared.any():
            agreed = fp32_labels[compared] == judged.labels[number][compared]
            drop = before.only(compared).accuracy - judged.answers[number].only(compared).accuracy
            low, high = share_interval(agreed, judged.groups[compared])
            check = RaceInt8(len(agreed), float(agreed.mean()), low, high, drop, int8.share)
            instead = Precision.FP32 if self._device.gpu is None else Precision.FP16
            self._int8[number] = replace(check, doubt=_doubt(self._names[number], check, why_slow, instead))
        return calibrated


class _Allowed(NamedTuple):
    """Photos with the index of each one's label and its independent group, int64 (N,)."""

    photos: PhotoTable
    truth: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True, eq=False)
class _Round:
    """The photos of a round with labels, groups and folds, int64 (N,), and the heads and answers of networks.

    `labels` are the indices of the answered labels, int64 (N,). `is_all`: there are no more photos.
    """

    photos: PhotoTable
    truth: np.ndarray
    groups: np.ndarray
    folds: Folds
    is_all: bool
    heads: dict[int, list[Head]] = field(default_factory=dict)
    answers: dict[int, NetworkAnswers] = field(default_factory=dict)
    labels: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def counted(self) -> np.ndarray:
        """The photos that are classified by a head that was trained without them, bool (N,)."""
        return self.folds.fold_of >= 0

    def answers_on(self, rows: np.ndarray) -> dict[int, NetworkAnswers]:
        """Return the answers of each network on some of the photos, bool (N,)."""
        return {number: answers.only(rows) for number, answers in self.answers.items()}

    def note_answers(self, number: int, features: np.ndarray, latency_ms: float) -> None:
        """Keep what the heads of a network answer for features, float32 (N, D): each photo by the head of its fold."""
        heads = self.heads[number]
        scores = scores_by_fold(heads, features, self.folds.fold_of, heads[0].weights.shape[1])
        probabilities = scores[np.arange(len(scores)), self.truth]
        self.labels[number] = scores.argmax(axis=1)
        self.answers[number] = NetworkAnswers(self.labels[number] == self.truth, probabilities, latency_ms)


def _doubt(name: str, int8: RaceInt8, why_slow: str, instead: Precision) -> str:
    """Return why `quantize` may recommend the precision `instead` of INT8 for a network; "" if nothing speaks for it.

    `why_slow` is the reason why INT8 is hardly faster. The limits are those of `quantize`.
    """
    if why_slow:
        return f"quantize will recommend {instead.value.upper()} for {name}: {why_slow}"
    assert TARGET.max_drop is not None and TARGET.min_agreement is not None
    found = f"INT8 of {name} agrees with FP32 on {percent(int8.agreement)} of {many(int8.photos, 'photo')}"
    asked = f"{TARGET.min_agreement:g} % that quantize asks for"
    other = f"keep layers in float, which takes longer, or recommend {instead.value.upper()}"
    if 100 * int8.agreement < TARGET.min_agreement:
        return f"{found}, less than the {asked}: it may {other}"
    if 100 * int8.drop > TARGET.max_drop:
        loses = f"loses {100 * int8.drop:.1f} points of accuracy there"
        return f"INT8 of {name} {loses}, more than the {TARGET.max_drop:g} that quantize allows: it may {other}"
    if 100 * int8.low < TARGET.min_agreement:
        shown = f"{found} ({interval(int8.low, int8.high)}), which does not show the {asked}"
        return f"{shown}: unless its photos show it, it will recommend {instead.value.upper()}"
    return ""


def too_few(why: str) -> BadInput:
    """Return the error for photos on which networks cannot be compared; `why` is the reason."""
    return BadInput(
        f"a race cannot compare networks on these photos: {why}",
        hint=f"add photos, or train without a race: {command('retrain', 'PHOTOS', '--name', 'NAME')}",
        code="TP8096",
    )


def _distinct_names(entrants: Sequence[Entrant]) -> list[str]:
    """Return a name for each network: its own, with the name of its weights file where several have the same."""
    plain = [entrant.backbone for entrant in entrants]
    return [
        entrant.backbone
        if plain.count(entrant.backbone) == 1 or entrant.weights is None
        else f"{entrant.backbone}={entrant.weights.stem}"
        for entrant in entrants
    ]


def _rounded_up(latency: float) -> str:
    """Return a number of milliseconds that is a little larger, with two significant digits."""
    digits = 10.0 ** (np.floor(np.log10(latency)) - 1)
    return f"{np.ceil(latency / digits + 0.01) * digits:.4g}"
