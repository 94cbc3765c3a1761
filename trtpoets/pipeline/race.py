"""Chooses the network for a folder of photos: the race of `--backbone auto`.

Latencies are known first: measured here for one photo, in FP32 with ONNX Runtime on the CPU, or estimated for the GPU
of a board in the precision that will be deployed. Networks that are too slow take no part. In the early rounds networks
are judged in FP32, by heads that are cross-fitted on a part of the training and validation photos. INT8 of each of them
would take longer than all early rounds together. The finalists go through `retrain`, `export` and `quantize`, in runs
of their own below the run's folder, and are judged in the deployed precision on all training and validation photos
outside calibration. FP16 is judged by the answers of FP32, from which it hardly differs.

Near-copies are known in the last round only, because the bottlenecks of all photos are needed to find them. Features
and the finalists' runs are kept, so that an interrupted race continues.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput, TrtPoetsError
from trtpoets.core.own_files import remove_folder
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import from_json
from trtpoets.core.types import Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.judge.clustered import share_interval
from trtpoets.judge.cross_fit import CrossFitConfig, folds_of_photos
from trtpoets.judge.race import (
    AUTO_BACKBONE,
    FIRST_SHARE,
    Contestant,
    NetworkAnswers,
    Race,
    RaceConfig,
    RaceDecision,
    RaceRound,
    decide,
    frontier,
    photos_of_round,
    rounds_before_final,
    survivors,
)
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.extractors import extractor_from_network, onnx_in_cache
from trtpoets.pipeline.head_training import indices_of_labels
from trtpoets.pipeline.race_device import RaceDevice, device_of, latencies_ms
from trtpoets.pipeline.race_finalist import answers_of_finalist, too_few
from trtpoets.pipeline.recorded_commands import race_command, retrain_command
from trtpoets.pipeline.retrain import RetrainConfig, backbone_for, read_dataset
from trtpoets.train.backbones import BACKBONES, DEFAULT_BACKBONE, backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.downloaded_weights import is_at_hand
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold
from trtpoets.train.near_copies.grouping import groups_of
from trtpoets.train.networks import network_from_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.dataset import Dataset

_VERSION = 1
"""Increase it when the same photos and configuration may give another result."""

_EARLY_FOLDS = CrossFitConfig(folds=5)

_log = logging.getLogger(__name__)


def race(
    photos: Path | str,
    name: str,
    config: RetrainConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> Race:
    """Find the network with the best accuracy for these photos, among those that are fast enough for `config.race`.

    The backbone and the weights of `config` are not used. Returns the content of engines/<name>/race.json; if it was
    made from the same photos and configuration, it is returned unchanged, unless `force` is set. A network whose
    weights cannot be loaded is named in the result. Raises BadInput for an unknown network or board, if no network is
    fast enough, and for too few photos.
    """
    config = replace(config or RetrainConfig(), backbone=AUTO_BACKBONE)
    if config.weights is not None:
        raise BadInput(
            "with --backbone auto, weights need the name of their network",
            hint=f"--candidate NAME={config.weights}",
            code="TP8090",
        )
    device = device_of(config.race)
    entrants = _entrants(config.race)
    space = Workspace(Path(engines), name)
    with writing(space):
        dataset = read_dataset(photos, config, progress)
        key = _key(dataset, config, device, entrants)
        command = race_command(space, photos, config)
        details = None if force else open_card(space.race, key)
        if details is not None:
            return replace(from_json(Race, details, str(space.race)), command=command)
        start = time.perf_counter()
        work = _Work(photos, space, config, device, dataset, entrants, progress)
        decision = work.decided()
        result = Race(
            photos=dataset.hash_of_labels,
            config=config.race,
            precision=device.precision,
            device=device.name,
            estimated=device.gpu is not None,
            contestants=work.contestants(decision.chosen),
            chosen=decision.chosen,
            why=decision.why,
            seconds=time.perf_counter() - start,
            next=retrain_command(space, photos, entrants[decision.chosen].applied_to(config)),
            command=command,
            comparison=decision.comparison,
        )
        seal_card(space.race, key=key, files=[], details=result)
        remove_folder(space.race_runs)
        _log.info("race: %s", result.why)
    return result


def with_winner(config: RetrainConfig, result: Race) -> RetrainConfig:
    """Return the configuration with the network that was chosen."""
    winner = result.winner
    return replace(config, backbone=winner.backbone, weights=Path(winner.weights) if winner.weights else None)


@dataclass(frozen=True)
class _Entrant:
    """A network that is named for the race, and its weights file if one is given."""

    backbone: str
    weights: Path | None = None

    def applied_to(self, config: RetrainConfig) -> RetrainConfig:
        return replace(config, backbone=self.backbone, weights=self.weights)


def _entrants(config: RaceConfig) -> list[_Entrant]:
    """Return the networks that are named, or all at hand. Raises BadInput for an unknown one or one named twice."""
    if not config.candidates:
        return [_Entrant(backbone.name) for backbone in BACKBONES.values() if is_at_hand(backbone)]
    entrants = []
    for text in config.candidates:
        name, separator, file = text.partition("=")
        if separator and not file:
            raise BadInput(f"--candidate {text} has no file after =", hint=f"--candidate {name}", code="TP8092")
        entrants.append(_Entrant(backbone_named(name).name, user_path(file).absolute() if file else None))
    twice = next((entrant for entrant in entrants if entrants.count(entrant) > 1), None)
    if twice is not None:
        raise BadInput(f"--candidate {twice.backbone} is given twice", hint="name each network once", code="TP8093")
    return entrants


def _key(dataset: Dataset, config: RetrainConfig, device: RaceDevice, entrants: Sequence[_Entrant]) -> str:
    """Return the key of race.json. Weights files are identified by path, size and time: they may fail to load."""
    weights = [
        [entrant.backbone, None if entrant.weights is None else [str(entrant.weights), _stamp(entrant.weights)]]
        for entrant in entrants
    ]
    asked = [config.race.max_ms, device.name, device.gpu is not None, device.precision.value]
    return hash_of([_VERSION, dataset.hash, weights, asked, asdict(config.head), config.resize.value])


def _stamp(path: Path) -> list[int]:
    """Return size and time of a file; empty if it does not exist.

    Unlike `verified_files.stamp_of` it is kept with the run, and is the same for a copy of the file with its time: a
    race takes too long to repeat it because weights were moved.
    """
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


class _Work:
    """One race: what is known about each network by its number in `entrants`."""

    def __init__(
        self,
        photos: Path | str,
        space: Workspace,
        config: RetrainConfig,
        device: RaceDevice,
        dataset: Dataset,
        entrants: Sequence[_Entrant],
        progress: Progress,
    ) -> None:
        self._photos, self._space, self._config, self._device = photos, space, config, device
        self._dataset, self._entrants, self._progress = dataset, entrants, progress
        self._extractors: dict[int, Extractor] = {}
        self._latencies: dict[int, float] = {}
        self._rounds: dict[int, list[RaceRound]] = {number: [] for number in range(len(entrants))}
        self._outcomes: dict[int, str] = {}
        self._weights_ids: dict[int, str] = {}
        self._names = _distinct_names(entrants)

    def decided(self) -> RaceDecision:
        """Return the network that is chosen, after all rounds."""
        self._load()
        alive = self._fast_enough()
        for place, keep in enumerate(rounds_before_final(len(alive))):
            share = FIRST_SHARE * 2**place
            judged, groups = self._judged_early(alive, share, place)
            kept = survivors(judged, groups, keep, self._default(alive))
            for number in set(alive) - set(kept):
                self._outcomes[number] = f"out in round {place + 1}"
            alive = kept
        if len(alive) == 1:
            return RaceDecision(alive[0], None, f"{self._names[alive[0]]} is the only network {self._why_only()}")
        judged, groups = self._judged_in_final(alive)
        return decide(judged, groups, self._names, self._default(alive))

    def contestants(self, chosen: int) -> tuple[Contestant, ...]:
        """Return all networks with what is known about them."""
        exact = {number: (len(rounds), rounds[-1]) for number, rounds in self._rounds.items() if rounds}
        last = max((count for count, _ in exact.values()), default=0)
        finalists = [number for number, (count, _) in exact.items() if count == last]
        points = [(self._latencies[number], exact[number][1].accuracy) for number in finalists]
        best = {number for number, on in zip(finalists, frontier(points), strict=True) if on}
        return tuple(
            Contestant(
                backbone=entrant.backbone,
                pixels=backbone_named(entrant.backbone).preprocess.height,
                outcome="chosen" if number == chosen else self._outcomes.get(number, "second"),
                weights_id=self._weights_ids.get(number, ""),
                weights=None if entrant.weights is None else str(entrant.weights),
                latency_ms=self._latencies.get(number),
                rounds=tuple(self._rounds[number]),
                on_frontier=number in best,
            )
            for number, entrant in enumerate(self._entrants)
        )

    def _default(self, alive: Sequence[int]) -> int | None:
        """Return the number of the default network, with its own weights; None if it is not among `alive`."""
        return next((number for number in alive if self._entrants[number] == _Entrant(DEFAULT_BACKBONE)), None)

    def _why_only(self) -> str:
        if len(self._entrants) == 1:
            return "at hand, so nothing was compared"
        return "that can be used and is fast enough"

    def _load(self) -> None:
        """Load each network, and find its latency. One that fails is out; if all do, the last error is raised."""
        files = {}
        failure: TrtPoetsError | None = None
        for number, entrant in enumerate(self._entrants):
            self._progress("loading networks", number, len(self._entrants))
            try:
                network = network_from_backbone(
                    backbone_for(self._dataset, entrant.applied_to(self._config)), entrant.weights
                )
                files[number] = onnx_in_cache(network)
                self._extractors[number] = extractor_from_network(network, self._config.device)
                self._weights_ids[number] = network.weights_id
            except TrtPoetsError as error:
                failure = error
                self._outcomes[number] = f"failed: {error.message}"
                _log.warning("%s takes no part in the race: %s", self._names[number], error.message)
        self._progress("loading networks", len(self._entrants), len(self._entrants))
        if not files:
            assert failure is not None
            raise failure
        self._latencies = latencies_ms(files, self._device, self._progress)

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
                hint=f"--max-ms {_rounded_up(latency)}",
                code="TP8094",
            )
        return alive

    def _judged_early(
        self, alive: Sequence[int], share: float, place: int
    ) -> tuple[dict[int, NetworkAnswers], np.ndarray]:
        """Return the networks judged in FP32 on a share of the photos, and the groups of the photos that count."""
        dataset, config = self._dataset, self._config.head
        allowed = np.array([row for row, photo in enumerate(dataset.photos) if photo.split is not Split.TEST], np.int64)
        truth_of_all, groups_of_all = indices_of_labels(dataset), np.array(groups_of(dataset.photos, dataset))
        rows = allowed[photos_of_round(truth_of_all[allowed], groups_of_all[allowed], share, config.seed)]
        photos = [dataset.photos[row] for row in rows.tolist()]
        truth, groups = truth_of_all[rows], groups_of_all[rows]
        folds = folds_of_photos(truth, groups, [photo.sha256 for photo in photos], _EARLY_FOLDS)
        if folds is None:
            raise too_few(f"{len(photos):,} photos are too few for cross-fitting")
        counted = folds.fold_of >= 0
        parts = [folds.rows(fold)[:2] for fold in range(folds.count)]
        judged = {}
        for number in alive:
            features = bottlenecks_from_photos(
                photos, self._extractors[number], bottleneck_folder(), progress=self._progress
            )
            name = f"round {place + 1}: {self._names[number]}"
            heads = heads_from_parts(
                np.asarray(features), truth, parts, len(dataset.labels), config, self._progress, name
            )
            trained = [head for head in heads if head is not None]
            if len(trained) < len(heads):
                raise BadInput(
                    "the training of a head diverged", hint="race with a smaller --learning-rate", code="TP8095"
                )
            scores = scores_by_fold(trained, np.asarray(features), folds.fold_of, len(dataset.labels))
            right = (scores.argmax(axis=1) == truth)[counted]
            judged[number] = self._noted(number, right, groups[counted], Precision.FP32)
        return judged, groups[counted]

    def _judged_in_final(self, alive: Sequence[int]) -> tuple[dict[int, NetworkAnswers], np.ndarray]:
        """Return the networks judged in the deployed precision, on the photos that all of them can be judged on."""
        answers = {}
        for number in alive:
            run = Workspace(self._space.race_runs, self._names[number].replace("=", "-"))
            config = self._entrants[number].applied_to(self._config)
            answers[number] = answers_of_finalist(self._photos, run, config, self._device.precision, self._progress)
        first = answers[alive[0]]
        common = [sha256 for sha256 in first if all(sha256 in own for own in answers.values())]
        groups = np.array([first[sha256][1] for sha256 in common])
        judged = {}
        for number, own in answers.items():
            right = np.array([own[sha256][0] for sha256 in common], bool)
            judged[number] = self._noted(number, right, groups, self._device.precision)
        return judged, groups

    def _noted(self, number: int, right: np.ndarray, groups: np.ndarray, precision: Precision) -> NetworkAnswers:
        if not len(right):
            raise too_few("no photos are left outside calibration")
        low, high = share_interval(right, groups)
        self._rounds[number].append(RaceRound(len(right), precision, float(right.mean()), low, high))
        return NetworkAnswers(right, self._latencies[number])


def _distinct_names(entrants: Sequence[_Entrant]) -> list[str]:
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
