"""Tries settings of the head's training side by side, and recommends one if it is better by more than chance."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.files import atomic_folder
from trtpoets.core.formatting import many, percent, point_interval, points
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import from_json
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.core.types import Split, hash_of
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.judge.cross_fit import MIN_PHOTOS, CrossFitConfig, Folds, affordable_folds, folds_of_photos
from trtpoets.judge.sweep import (
    CODELAB_RATES,
    DEFAULT,
    FOLDS,
    SETTINGS,
    FoldResult,
    RateResult,
    SettingsComparison,
    Sweep,
    compared,
)
from trtpoets.judge.train_benchmark import RateCurves
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.extractors import extractor_from_backbone
from trtpoets.pipeline.head_training import indices_of_labels, rows_in
from trtpoets.pipeline.ray_workers import ChosenWorkers
from trtpoets.pipeline.recorded_commands import retrain_command, sweep_command
from trtpoets.pipeline.retrain import RetrainConfig, before_reading, dataset_with_features, photos_and_backbone
from trtpoets.train.head import Diverged, head_scores, heads_from_bottlenecks
from trtpoets.train.joint_heads import PATIENCE
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.dataset import Dataset

_VERSION = 1
"""Increase it when the same photos and configuration may give another result."""

_log = logging.getLogger(__name__)


def sweep(
    photos: Path | str,
    name: str,
    config: RetrainConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
    workers: str = "",
) -> Sweep:
    """Compare 32 settings of the head's training on the training and validation photos, and recommend one or none.

    Learning rate, optimizer, penalty and label smoothing of `config` are replaced by those of the settings. Returns the
    content of engines/<name>/sweep.json; if it was made from the same photos and configuration, it is returned without
    training, unless `force` is set. Event files of three learning rates are written for TensorBoard. Raises BadInput
    for too few photos, and for a configuration with fine-tuning or distortions. `workers` compute the bottlenecks, as
    for `retrain`; the heads are trained in this process, in one loop for all settings.
    """
    config = config or RetrainConfig()
    if config.fine_tuning or config.distortions.any or config.try_distortions:
        raise BadInput(
            "a sweep compares heads on a frozen backbone without distortions",
            hint="sweep without these options, and use them with retrain",
            code="TP8070",
        )
    config = replace(config, head=DEFAULT.applied_to(config.head))
    workers_to_use = ChosenWorkers(workers, config.device)
    space = Workspace(Path(engines), name)
    with writing(space):
        if force:
            workers_to_use.require()
        before = before_reading(space, workers_to_use)
        read, backbone, weights = photos_and_backbone(photos, config, progress, before)
        command = sweep_command(space, photos, config)
        settings = [asdict(setting) for setting in SETTINGS]
        key = hash_of(
            [_VERSION, read.hash, backbone.name, weights, backbone.preprocess.hash, asdict(config.head), settings]
        )
        details = None if force else open_card(space.sweep, key)
        if details is not None:
            return replace(from_json(Sweep, details, str(space.sweep)), command=command)
        start = time.perf_counter()
        workers_to_use.require()
        extractor, weights = extractor_from_backbone(backbone, config.weights, workers_to_use.device)
        with workers_to_use.connected(read.folder) as others:
            dataset, features = dataset_with_features(read, extractor, progress, others)
        folds, comparison = _compared(dataset, features, config.head, progress)
        chosen = comparison.recommended
        best = replace(config, head=(chosen or DEFAULT).applied_to(config.head))
        with atomic_folder(space.logs / datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S_sweep")) as logs:
            rates = _codelab_rates(dataset, features, config.head, logs, progress)
        result = Sweep(
            dataset=dataset.hash,
            backbone=backbone.name,
            weights_id=weights,
            config=config.head,
            folds=folds,
            settings=comparison.settings,
            gain=comparison.gain,
            recommended=chosen,
            why=_why(comparison),
            rates=rates,
            seconds=time.perf_counter() - start,
            next=retrain_command(space, photos, best),
            command=command,
        )
        seal_card(space.sweep, key=key, files=[], details=result)
        _log.info("sweep: %s", result.why)
    return result


def _compared(
    dataset: Dataset, features: np.ndarray, config: HeadConfig, progress: Progress
) -> tuple[int, SettingsComparison]:
    """Return the number of folds, and the comparison of the settings on training and validation photos."""
    rows = rows_in(dataset, Split.TRAIN, Split.VALIDATION)
    photos = dataset.photos.at(rows)
    truth, groups = indices_of_labels(dataset)[rows], np.asarray(groups_of(photos, dataset))
    folds = _folds(dataset, truth, groups, photos.sha256s)
    own, classes = features[rows], len(dataset.labels)
    short = replace(config, early_stop=config.early_stop or PATIENCE)
    results = []
    for fold in range(folds.count):

        def shown(_: str, done: int, total: int, fold: int = fold) -> None:
            progress(f"{len(SETTINGS)} heads", fold * total + done, folds.count * total)

        results.append(fold_result(own, truth, folds, fold, classes, short, shown))
    return folds.count, compared(SETTINGS, results, groups)


def _folds(dataset: Dataset, truth: np.ndarray, groups: np.ndarray, sha256: Sequence[str]) -> Folds:
    """Return the folds of the photos. Raises BadInput for too few photos, or too few of a class."""
    count = affordable_folds(FOLDS, len(dataset.labels))
    for number, label in enumerate(dataset.labels):
        independent = len(np.unique(groups[truth == number]))
        if independent < count:
            raise BadInput(
                f"class {label!r} has {many(independent, 'independent photo')} for training and validation, but a "
                f"sweep needs at least {count}: one for each fold",
                hint="add photos to that class; copies of a photo count as one",
                code="TP8071",
            )
    folds = folds_of_photos(truth, groups, sha256, CrossFitConfig(count))
    if folds is None:
        raise BadInput(
            f"{many(len(truth), 'photo')} for training and validation are too few for a sweep, which needs "
            f"{MIN_PHOTOS}",
            hint="add photos",
            code="TP8072",
        )
    return folds


def fold_result(
    features: np.ndarray,
    truth: np.ndarray,
    folds: Folds,
    fold: int,
    classes: int,
    config: HeadConfig,
    progress: Progress = silent,
) -> FoldResult:
    """Train a head of each setting, let fold + 1 choose its step, and answer the photos of the fold."""
    trained, chooses, answered = folds.rows(fold)
    heads = heads_from_bottlenecks(
        *(features[trained], truth[trained], features[chooses], truth[chooses], classes),
        [setting.applied_to(config) for setting in SETTINGS],
        progress=progress,
    )
    right = np.zeros((len(heads), len(answered)), bool)
    accuracy, cross_entropy = np.zeros(len(heads)), np.full(len(heads), np.inf)
    asked = features[answered]
    for number, result in enumerate(heads):
        if not isinstance(result, Diverged):
            head, training = result
            best = training.steps.index(training.best_step)
            accuracy[number] = training.validation_accuracy[best]
            cross_entropy[number] = training.validation_cross_entropy[best]
            right[number] = head_scores(head, asked).argmax(axis=1) == truth[answered]
    return FoldResult(answered, right, accuracy, cross_entropy, len(chooses))


def _codelab_rates(
    dataset: Dataset, features: np.ndarray, config: HeadConfig, logs: Path, progress: Progress
) -> tuple[RateResult, ...]:
    """Train with the learning rates of the codelab, by gradient descent, on the run's own split."""
    labels = indices_of_labels(dataset)
    train, validation = (rows_in(dataset, split) for split in (Split.TRAIN, Split.VALIDATION))
    configs = [replace(config, learning_rate=rate, optimizer=Optimizer.SGD) for rate in CODELAB_RATES]
    heads = heads_from_bottlenecks(
        *(features[train], labels[train], features[validation], labels[validation], len(dataset.labels)),
        configs,
        [logs] * len(configs),
        progress,
    )
    return tuple(
        RateResult(rate)
        if isinstance(result, Diverged)
        else RateResult(
            rate, RateCurves(result[1].steps, result[1].validation_accuracy, result[1].validation_cross_entropy)
        )
        for rate, result in zip(CODELAB_RATES, heads, strict=True)
    )


def _why(comparison: SettingsComparison) -> str:
    """Return what was found, as a sentence without its full stop."""
    gain = comparison.gain
    measured = (
        f"on {many(gain.photos, 'photo')} that took no part in the choice, choosing among {len(comparison.settings)} "
        f"settings is right on {percent(gain.after)} and the default on {percent(gain.before)} "
        f"({points(gain.after - gain.before)} points, {point_interval(gain.low, gain.high)})"
    )
    if comparison.recommended is not None:
        return f"{measured}, so this setting is recommended: {comparison.recommended}"
    if gain.low > 0:
        return f"{measured}, but over all folds the default setting is the best"
    if gain.high < 0:
        return f"{measured}, which is worse by more than chance, so the default setting is recommended"
    return f"{measured}, so the default setting is as good as can be told"
