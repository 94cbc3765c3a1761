"""Chooses the network for a folder of photos: the race of `--backbone auto`.

Latencies are known first: measured here for one photo with ONNX Runtime on the CPU, in INT8 if that is what will be
deployed, or estimated for the GPU of a board. Networks that are too slow take no part. Networks are then judged in
FP32, by heads that are cross-fitted on a part of the training and validation photos, which grows from round to round
(`race_heads`).
INT8 of the network that would be chosen is made and judged on the photos of the last round (`race_int8`); of another
one only if this changes the choice. A network whose INT8 `quantize` would not recommend for its speed does not win;
whether INT8 agrees with FP32 as `quantize` asks for is measured, and said. FP16 is judged by the answers of FP32, from
which it hardly differs.

Features are kept, so that an interrupted race continues, and training on the chosen network does not compute them
again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import from_json
from trtpoets.core.types import hash_of
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.judge.race import AUTO_BACKBONE, Race, RaceConfig
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.race_device import RaceDevice, device_of
from trtpoets.pipeline.race_rounds import Entrant, RaceWork
from trtpoets.pipeline.ray_workers import ChosenWorkers
from trtpoets.pipeline.recorded_commands import race_command, retrain_command
from trtpoets.pipeline.retrain import RetrainConfig, before_reading, read_dataset
from trtpoets.train.backbones import BACKBONES, backbone_named
from trtpoets.train.downloaded_weights import is_at_hand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.dataset import Dataset

_VERSION = 6
"""Increase it when the same photos and configuration may give another result."""


_log = logging.getLogger(__name__)


def race(
    photos: Path | str,
    name: str,
    config: RetrainConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
    workers: str = "",
) -> Race:
    """Find the network with the best accuracy for these photos, among those that are fast enough for `config.race`.

    The backbone and the weights of `config` are not used. Returns the content of engines/<name>/race.json; if it was
    made from the same photos and configuration, it is returned unchanged, unless `force` is set. A network whose
    weights cannot be loaded is named in the result. Raises BadInput for an unknown network or board, if no network is
    fast enough, and for too few photos. `workers` compute the bottlenecks: "ray" or "ray://HOST:PORT".
    """
    config = replace(config or RetrainConfig(), backbone=AUTO_BACKBONE)
    if config.weights is not None:
        raise BadInput(
            "with --backbone auto, weights need the name of their network",
            hint=f"give --candidate NAME={config.weights}",
            code="TP8090",
        )
    device = device_of(config.race)
    entrants = _entrants(config.race)
    workers_to_use = ChosenWorkers(workers, config.device)
    own = replace(config, device=workers_to_use.device)
    space = Workspace(Path(engines), name)
    with writing(space):
        if force:
            workers_to_use.require()
        dataset = read_dataset(photos, config, progress, before_reading(space, workers_to_use))
        key = _key(dataset, config, device, entrants)
        command = race_command(space, photos, config)
        details = None if force else open_card(space.race, key)
        if details is not None:
            return replace(from_json(Race, details, str(space.race)), command=command)
        start = time.perf_counter()
        with workers_to_use.connected(dataset.folder) as others:
            work = RaceWork(own, device, dataset, entrants, others, progress)
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
            int8=work.int8_of(decision.chosen),
        )
        seal_card(space.race, key=key, files=[], details=result)
        _log.info("race: %s", result.why)
        if result.int8 is not None and result.int8.doubt:
            _log.warning("%s", result.int8.doubt)
    return result


def with_winner(config: RetrainConfig, result: Race) -> RetrainConfig:
    """Return the configuration with the network that was chosen."""
    winner = result.winner
    return replace(config, backbone=winner.backbone, weights=Path(winner.weights) if winner.weights else None)


def _entrants(config: RaceConfig) -> list[Entrant]:
    """Return the networks that are named, or all at hand. Raises BadInput for an unknown one or one named twice."""
    if not config.candidates:
        return [Entrant(backbone.name) for backbone in BACKBONES.values() if is_at_hand(backbone)]
    entrants = []
    for text in config.candidates:
        name, separator, file = text.partition("=")
        if separator and not file:
            raise BadInput(f"--candidate {text} has no file after =", hint=f"give --candidate {name}", code="TP8092")
        entrants.append(Entrant(backbone_named(name).name, user_path(file).absolute() if file else None))
    twice = next((entrant for entrant in entrants if entrants.count(entrant) > 1), None)
    if twice is not None:
        raise BadInput(f"--candidate {twice.backbone} is given twice", hint="name each network once", code="TP8093")
    return entrants


def _key(dataset: Dataset, config: RetrainConfig, device: RaceDevice, entrants: Sequence[Entrant]) -> str:
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
