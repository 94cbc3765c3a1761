"""Computes the bottlenecks of a folder of photos, or of one shard of it, before a classifier is trained."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.formatting import many
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import FULL_WHITE, Photo, Split
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.extractors import extractor_from_backbone
from trtpoets.pipeline.ray_workers import ChosenWorkers
from trtpoets.pipeline.recorded_commands import bottlenecks_command
from trtpoets.pipeline.retrain import RetrainConfig, backbone_of, read_dataset
from trtpoets.pipeline.shards import (
    Shard,
    ShardState,
    finished,
    require_complete,
    shard_states,
    started,
)
from trtpoets.train.bottlenecks import bottleneck_cache, bottlenecks_from_photos
from trtpoets.train.dataset import dataset_from_files
from trtpoets.train.folders.layout_detection import labelled_files
from trtpoets.train.folders.photo_files import checked_files
from trtpoets.train.folders.readings import ReadingCache, identity_of
from trtpoets.train.near_copies.thumbnails import ThumbnailCache
from trtpoets.train.split import check_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.folders.layout import LabelledFiles
    from trtpoets.train.folders.photo_files import CheckedFile


@dataclass(frozen=True)
class ComputedBottlenecks:
    """The result of `bottlenecks`: of how many photos there are features now, and how many of them were computed.

    `left_out` is the number of files that are no usable photos. `shard` is None if there is only one.
    """

    backbone: str
    shard: Shard | None
    photos: int
    computed: int
    left_out: int
    seconds: float
    folder: Path


def bottlenecks(
    photos: Path | str,
    config: RetrainConfig | None = None,
    *,
    shard: Shard | None = None,
    progress: Progress = silent,
    workers: str = "",
) -> ComputedBottlenecks:
    """Read the photos of a folder, or of one shard of it, and store their bottlenecks in the cache.

    `retrain` and `run` with the same backbone use what is stored. Of `config`, the backbone, its weights, the resize
    rule, the device and how photos are labelled are used. Photos that are stored already are neither read nor computed
    again. `workers` are those of `retrain`. Raises BadInput for shards that do not fit to each other, StorageFailed.
    """
    config = config or RetrainConfig()
    workers_to_use = ChosenWorkers(workers, config.device)
    config = replace(config, device=workers_to_use.device)
    start = time.perf_counter()
    folder = Path(os.path.abspath(user_path(photos)))  # noqa: PTH100 - links stay as the user wrote them
    check_config(config.dataset)
    labelled = labelled_files(folder, config.dataset)
    files = labelled.files
    names = [os.path.relpath(file.path, folder) for file in files]
    own = [file for file, name in zip(files, names, strict=True) if shard is None or shard.has(name)]
    checked = checked_files(
        own, progress, ReadingCache(bottleneck_folder()), before_reading=lambda _: workers_to_use.require()
    )
    extractor = _extractor(config, _white(folder, labelled, checked, config, shard))
    record = started(folder, names, extractor, config.backbone, shard) if shard is not None else None
    usable = [
        Photo(file.path, file.label, Split.TRAIN, file.sha256, file.levels) for file in checked if not file.reason
    ]
    stored = bottleneck_cache(extractor, bottleneck_folder()).has([photo.sha256 for photo in usable])
    thumbnails = ThumbnailCache(bottleneck_folder(), extractor.preprocess)
    with nullcontext() if stored.all() else workers_to_use.connected(folder) as others:
        bottlenecks_from_photos(
            usable, extractor, bottleneck_folder(), progress=progress, pixel_rows=thumbnails, workers=others
        )
    if record is not None:
        finished(record)
    return ComputedBottlenecks(
        backbone=config.backbone,
        shard=shard,
        photos=len(usable),
        computed=int((~stored).sum()),
        left_out=len(own) - len(usable),
        seconds=time.perf_counter() - start,
        folder=bottleneck_folder(),
    )


def check_shards(
    photos: Path | str, config: RetrainConfig | None = None, count: int = 0, progress: Progress = silent
) -> tuple[ShardState, ...]:
    """Return the state of each shard of a folder; `count` 0 is the number of shards that were started last.

    Raises MissingArtefact, which names the incomplete shards, and BadInput if no shards were started.
    """
    config = config or RetrainConfig()
    dataset = read_dataset(photos, config, progress)
    extractor = _extractor(config, dataset.white)
    states = shard_states(dataset, extractor, bottleneck_cache(extractor, bottleneck_folder()), count)
    if not states:
        raise BadInput(
            f"no shards of {dataset.folder} were started with this cache, {bottleneck_folder().parent}",
            hint="set TRTPOETS_CACHE to the folder that all machines share, as the shards do",
            code="TP8315",
        )
    require_complete(states, bottlenecks_command(photos, config))
    return states


def _extractor(config: RetrainConfig, white: int) -> Extractor:
    backbone = backbone_of(config)
    backbone = replace(backbone, preprocess=replace(backbone.preprocess, white=white))
    extractor, _ = extractor_from_backbone(backbone, config.weights, config.device)
    return extractor


def _white(
    folder: Path,
    labelled: LabelledFiles,
    checked: Sequence[CheckedFile],
    config: RetrainConfig,
    shard: Shard | None,
) -> int:
    """Return the 16-bit value that becomes 255. For 16-bit photos it depends on all training photos.

    Raises BadInput if these are not read yet, by the shards that they belong to.
    """
    if shard is None:
        return dataset_from_files(folder, labelled.layout, checked, config.dataset).white
    wide = sum(file.levels > 0 for file in checked)
    readings = ReadingCache(bottleneck_folder())
    known = readings.of([identity_of(file.path) for file in labelled.files])
    if all(known):
        all_checked = checked_files(labelled.files, readings=readings)
        return dataset_from_files(folder, labelled.layout, all_checked, config.dataset).white
    if wide or any(reading.levels for reading in known if reading):
        raise BadInput(
            f"there are photos with 16 bits, whose features depend on the largest value of all training photos, but "
            f"{many(sum(reading is None for reading in known), 'photo')} of other shards are not read yet",
            hint="start this shard again when all others have been started once; what it has read is kept",
            code="TP8316",
        )
    return FULL_WHITE
