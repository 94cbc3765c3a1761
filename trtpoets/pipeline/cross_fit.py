"""Compares the files of a run with FP32 on all of its photos. No photo is scored by a head that was trained on it.

`judge.cross_fit` describes what the numbers estimate. One head for each fold is trained, with the settings of the run's
own head, on the bottlenecks that training has stored. Each file is run once for each photo, up to the input of its
last layer; these features are stored too. If the last layer of a file was refitted to its features (`int8_head`), each
head is refitted in the same way, on the photos of the refit outside of the head's fold.

The features of a backbone that was fine-tuned here depend on the labels of the training photos, so nothing is
cross-fitted: the advice uses the validation photos, the evaluation the test photos, and there is no learning curve.

Adopted and pretrained networks were not trained on the photos of the run. They score all photos; no head is trained.

`quantize` chooses the ranges, the layers in float, the last layer and the precision that it recommends with training
and validation photos only. For its advice, heads are trained and files are compared on these. Test photos are used only
in the evaluation, which chooses nothing. So the numbers of the test photos are those of a file that was chosen without
them, and the report, the gate and `recommend` count all photos.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.convert.graph.last_layer import LastLayer
from trtpoets.convert.int8.calibration import CalibrationConfig, Ranges, calibration_photos
from trtpoets.core.errors import ConversionFailed, MissingDependency
from trtpoets.core.files import sha256_of_file
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import one_blas_thread
from trtpoets.core.types import OnnxModel, Photo, Split, TfliteModel
from trtpoets.core.workspace import Workspace, card_of, open_details
from trtpoets.judge.all_photos import AllPhotos, NotCompared, PhotosToCount, ScoredFile, all_photos_from_scores
from trtpoets.judge.cross_fit import MIN_FOLDS, MIN_PHOTOS, CrossFitConfig, Folds, folds_of_photos
from trtpoets.pipeline.artefacts import dataset_in, has_dataset, training_in
from trtpoets.pipeline.card_details import TfliteInt8Details
from trtpoets.pipeline.extractors import features_of_model, scores_of_model
from trtpoets.pipeline.int8_head import FITTED
from trtpoets.pipeline.last_layers import last_layer_of_file
from trtpoets.pipeline.learning_curve import learning_curve_of
from trtpoets.train.distill import best_distilled_head, distilled_head
from trtpoets.train.head import Head, head_scores
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold
from trtpoets.train.near_copies.grouping import groups_of
from trtpoets.train.photo_table import SPLITS, PhotoTable

if TYPE_CHECKING:
    from trtpoets.core.training import HeadConfig, TrainingDetails
    from trtpoets.judge.learning_curve import LearningCurve
    from trtpoets.train.dataset import Dataset

ComparedFile = OnnxModel | TfliteModel

Features = Callable[[ComparedFile, Sequence[Photo], Progress], np.ndarray]
"""A function that returns the input of a file's last layer for each photo, float32 (N, D): see `features_of_model`."""

MAX_COMPARED = 4000
"""The largest number of photos on which a file is compared. They suffice to prove a difference of 0.5 points of
accuracy if 1.2 % of the answers change between right and wrong, and take about a minute on two cores."""

_USES = {Split.TRAIN: "training", Split.VALIDATION: "validation", Split.TEST: "test"}

_ALL = tuple(Split)

_FINE_TUNED = (
    "the backbone was fine-tuned on the labels of the training photos, so its features depend on them, and no head "
    "would be independent of the photos that it classifies; only photos outside training are compared"
)


@dataclass(frozen=True, eq=False)
class CrossFit:
    """FP32's scores for all photos (`reference`), and what the scores of other files under the same heads need.

    `heads` has one head for each fold, or none if the network itself scores all photos. `layer` is FP32's last layer,
    `features` are the inputs of it; both are None if the last layer is not known.
    """

    photos: PhotoTable
    counted: PhotosToCount
    config: CrossFitConfig
    dataset: Dataset
    layer: LastLayer | None
    features: np.ndarray | None
    heads: tuple[Head, ...]
    reference: np.ndarray
    features_of: Features

    def scored(self, model: ComparedFile, calibrated: Collection[str], progress: Progress = silent) -> ScoredFile:
        """Return the scores of a file under the same heads. `calibrated` are the sha256 of its calibration photos.

        A last layer that `last_layer_of_file` cannot read, such as one with integer weights, is used as in FP32. Raises
        what `features_of` raises: ConversionFailed if the features of the file
        cannot be found, MissingDependency if a TFLite file cannot be run.
        """
        own_layer = _last_layer(model)
        refitted = own_layer is not None and self.layer is not None and not _same(own_layer, self.layer)
        refit: frozenset[str] = frozenset()
        if self.heads:
            features = self.features_of(model, self.compared, progress)
            if refitted:
                scores, head = self._refitted_scores(features), "refitted to its base, for each fold"
            else:
                scores, head = self._scores_of_heads(self.heads, features), "that of FP32, for each fold"
        else:
            if own_layer is None or self.layer is None:
                scores = scores_of_model(model, self.compared, progress)
            else:
                features = self.features_of(model, self.compared, progress)
                scores = head_scores(Head(own_layer.weights, own_layer.bias), features)
            head = "its own"
            refit = frozenset(photo.sha256 for photo in self._refit_photos) if refitted else refit
        all_scores = np.full_like(self.reference, 1 / self.reference.shape[1])
        all_scores[self._compared_rows] = scores
        measured = np.zeros(len(self.photos), bool)
        measured[self._compared_rows] = True
        return ScoredFile(
            file=model.path.name,
            sha256=sha256_of_file(model.path) if isinstance(model, TfliteModel) else sha256_of_onnx(model.path),
            precision=model.precision,
            head=head,
            scores=all_scores,
            calibration=self._which(calibrated),
            measured=measured,
            refit=self._which(refit) if refit else None,
        )

    def _which(self, sha256s: Collection[str]) -> np.ndarray:
        """Return which photos have one of these sha256, bool (N,)."""
        members = frozenset(sha256s)
        return np.array([sha256 in members for sha256 in self.photos.sha256s], bool)

    def result(self, files: Sequence[ScoredFile]) -> AllPhotos:
        """Return the evaluation of FP32 and of these files."""
        return all_photos_from_scores(self.reference, files, self.counted, self.config, self.dataset.hash)

    @cached_property
    def _compared_rows(self) -> np.ndarray:
        """The rows of the photos on which files are compared: all, or the first MAX_COMPARED by sha256."""
        return np.sort(np.argsort(self.photos.digests, kind="stable")[:MAX_COMPARED])

    @property
    def compared(self) -> list[Photo]:
        """The photos on which files are compared."""
        return list(self.photos.at(self._compared_rows))

    @cached_property
    def _refit_photos(self) -> tuple[Photo, ...]:
        """The training photos with which `int8_head` refits a last layer."""
        available = len(self.dataset.in_split(Split.TRAIN))
        return calibration_photos(self.dataset.photos, CalibrationConfig(photos=min(FITTED, available)))

    def _scores_of_heads(self, heads: Sequence[Head], features: np.ndarray) -> np.ndarray:
        folds = self.counted.folds
        assert folds is not None
        return scores_by_fold(heads, features, folds.fold_of[self._compared_rows], self.reference.shape[1])

    def _refitted_scores(self, features: np.ndarray) -> np.ndarray:
        """Return the scores of heads that are refitted to these features, as `int8_head` does with the shipped one."""
        folds, fp32_features = self.counted.folds, self.features
        assert folds is not None and fp32_features is not None
        chosen = {photo.sha256 for photo in self._refit_photos}
        fits = np.array([photo.sha256 in chosen for photo in self.compared])
        fold_of = folds.fold_of[self._compared_rows]
        penalty: float | None = None
        heads = []
        for number, head in enumerate(self.heads):
            rows = np.flatnonzero(fits & (fold_of != number))
            with one_blas_thread():
                logits = fp32_features[self._compared_rows[rows]] @ head.weights + head.bias
            if penalty is None:  # chosen once, because each of them takes as long as a refit
                own, penalty = best_distilled_head(head, features[rows], logits)
            else:
                own = distilled_head(head, features[rows], logits, penalty)
            heads.append(own)
        return self._scores_of_heads(heads, features)


def all_photos_of(
    space: Workspace,
    fp32: OnnxModel | None,
    files: Sequence[ComparedFile],
    config: CrossFitConfig,
    progress: Progress = silent,
    features_of: Features = features_of_model,
) -> AllPhotos:
    """Return the evaluation of FP32 and `files` over all photos of a run, or one with only the reason, `skipped`.

    Raises BadPhoto, PhotoChanged and StorageFailed like `bottlenecks_from_photos`.
    """
    fitted = cross_fit(space, fp32, config, progress=progress, features_of=features_of)
    if not isinstance(fitted, CrossFit):
        return fitted
    scored, not_compared = [], []
    for model in files:
        try:
            scored.append(fitted.scored(model, calibrated_photos(space, fitted.dataset, model), progress))
        except (ConversionFailed, MissingDependency) as error:
            not_compared.append(NotCompared(model.path.name, error.message))
    result = replace(fitted.result(scored), not_compared=tuple(not_compared))
    training = training_in(space)
    if training is not None and training.distorted is not None and training.distorted.variants:
        note = "The heads of the folds are trained without distorted photos, unlike the shipped one."
        result = replace(result, notes=(*result.notes, note))
    return replace(result, learning_curve=_learning_curve(training, fitted, progress))


def _learning_curve(training: TrainingDetails | None, fitted: CrossFit, progress: Progress) -> LearningCurve | None:
    folds, truth = fitted.counted.folds, fitted.counted.truth
    if training is None or folds is None or fitted.features is None:
        return None
    right = fitted.reference.argmax(axis=1) == truth
    groups = np.asarray(fitted.counted.groups)
    labels = fitted.counted.labels
    return learning_curve_of(fitted.features, truth, groups, folds, right, labels, training.config, progress)


def cross_fit(
    space: Workspace,
    fp32: OnnxModel | None,
    config: CrossFitConfig,
    splits: Sequence[Split] = _ALL,
    progress: Progress = silent,
    features_of: Features = features_of_model,
) -> CrossFit | AllPhotos:
    """Train a head for each fold on the photos of `splits`; return these heads and FP32's scores under them.

    A network that was not trained here scores all photos itself. If cross-fitting is not possible, this function
    returns an AllPhotos with only the reason, `skipped`.
    """
    if not has_dataset(space):
        return AllPhotos(config, "", skipped="the run has no photos")
    dataset = dataset_in(space)
    photos = dataset.in_split(*splits)
    try:
        if fp32 is None:
            raise _NotPossible(f"fp32.onnx does not exist, or is not up to date; run: {space.command('export')}")
        truth = photos.label_indices(fp32.spec.labels)
        groups = np.array(groups_of(photos, dataset), dtype=np.int64)
        training = training_in(space)
        if training is not None and training.fine_tuned:
            raise _NotPossible(_FINE_TUNED)
        if training is not None and (truth < 0).any():
            raise _NotPossible("some photos have labels that the classifier does not have")
        folds = None if training is None else _folds(truth, groups, photos, config)
        uses = [_USES[SPLITS[number]] for number in photos.split_numbers.tolist()]
        counted = PhotosToCount(truth, groups, uses, fp32.spec.labels, folds)
        layer = _last_layer(fp32)
        features = None if layer is None else features_of(fp32, photos, progress)
        heads: tuple[Head, ...] = ()
        if layer is None or features is None:
            if folds is not None:
                raise _NotPossible("the last layer of fp32.onnx is not a dense layer before a softmax")
            reference = scores_of_model(fp32, photos, progress)
        elif folds is None or training is None:
            reference = head_scores(Head(layer.weights, layer.bias), features)
        else:
            heads = _heads(features, counted, folds, training.config, progress)
            reference = scores_by_fold(heads, features, folds.fold_of, len(counted.labels))
    except _NotPossible as reason:
        return AllPhotos(config, dataset.hash, skipped=str(reason))
    return CrossFit(photos, counted, config, dataset, layer, features, heads, reference, features_of)


class _NotPossible(Exception):
    """The reason why nothing can be cross-fitted."""


def _folds(truth: np.ndarray, groups: np.ndarray, photos: PhotoTable, config: CrossFitConfig) -> Folds:
    if len(photos) < MIN_PHOTOS:
        raise _NotPossible(f"{len(photos)} photos are too few for cross-fitting, which needs {MIN_PHOTOS}")
    folds = folds_of_photos(truth, groups, photos.sha256s, config)
    if folds is None:
        raise _NotPossible(f"no class has {MIN_FOLDS} independent groups of photos, which cross-fitting needs")
    return folds


def _heads(
    features: np.ndarray, counted: PhotosToCount, folds: Folds, config: HeadConfig, progress: Progress
) -> tuple[Head, ...]:
    parts = [folds.rows(number)[:2] for number in range(folds.count)]
    trained = heads_from_parts(features, counted.truth, parts, len(counted.labels), config, progress)
    heads = tuple(head for head in trained if head is not None)
    if len(heads) < len(trained):
        raise _NotPossible("the training of a cross-fitted head diverged; train with a smaller --learning-rate")
    return heads


def calibrated_photos(space: Workspace, dataset: Dataset, model: ComparedFile | None = None) -> frozenset[str]:
    """Return the sha256 of the photos that INT8 was calibrated with; all training photos if that is not known.

    They are those of the ONNX files; or, for a TFLite `model`, those of its card.
    """
    if isinstance(model, TfliteModel):
        details = open_details(card_of(model.path), TfliteInt8Details)
        if details is not None and details.calibrated:
            return frozenset(details.calibrated)
    elif (ranges := open_details(space.ranges, Ranges)) is not None:
        return frozenset(ranges.photos)
    return frozenset(dataset.in_split(Split.TRAIN).sha256s)


def _last_layer(model: ComparedFile) -> LastLayer | None:
    try:
        return last_layer_of_file(model)
    except ConversionFailed:
        return None


def _same(one: LastLayer, other: LastLayer) -> bool:
    return np.array_equal(one.weights, other.weights) and np.array_equal(one.bias, other.bias)
