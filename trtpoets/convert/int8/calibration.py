"""Training photos -> the range of each tensor that shall become INT8.

The photos come from the training split only, are spread over the labels, and are the same ones for the same seed
however the folder is sorted. Nothing is calibrated with made-up data.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction

import numpy as np

from trtpoets.convert.int8.activation_stats import histograms, spans
from trtpoets.convert.int8.calibration_checks import (
    Witness,
    refuse_changed_photos,
    refuse_unknown_operators,
    silenced,
    warn_of_lacking_classes,
)
from trtpoets.convert.int8.fidelity import Fidelity
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.convert.int8.range_histograms import Histogram, histogram_from_counts
from trtpoets.convert.int8.thresholds import entropy_threshold, mse_threshold, percentile_threshold
from trtpoets.convert.precision import expect_fp32
from trtpoets.core.errors import BadInput
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import to_json
from trtpoets.core.types import OnnxModel, Photo, Split, hash_of

_log = logging.getLogger(__name__)


class Method(str, Enum):
    """How a tensor's range is chosen from what was seen."""

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MSE = "mse"
    FEATURES = "features"
    EQUALISED = "equalised"
    AUTO = "auto"

    @property
    def by_values(self) -> tuple[Method, ...]:
        """The methods it begins with, that look at a tensor's values alone; those that do more, with all of them."""
        values = (Method.MINMAX, Method.ENTROPY, Method.PERCENTILE, Method.MSE)
        return (self,) if self in values else values


@dataclass(frozen=True)
class CalibrationConfig:
    """How ranges are measured. `percentile` is the share in % of values inside the range, for that method only.

    No method is best for every network, so AUTO measures all, and `int8.best_ranges` keeps the one that serves best.
    """

    photos: int = 256
    method: Method = Method.AUTO
    percentile: float = 99.99
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.photos < 1 or self.batch_size < 1:
            raise BadInput(
                f"calibration with {self.photos} photos in batches of {self.batch_size}",
                hint="give at least 1 of each; 256 photos are usual",
                code="TP3012",
            )
        if not 50 < self.percentile <= 100:
            raise BadInput(
                f"the percentile {self.percentile} is not above 50 and at most 100",
                hint="99.99 is usual",
                code="TP3013",
            )


@dataclass(frozen=True)
class Equalised:
    """A tensor whose channels are scaled by `factors`, one each, and the largest magnitude to step then."""

    limit: float
    factors: tuple[float, ...]


@dataclass(frozen=True)
class Ranges:
    """What each tensor of an FP32 file spans, lowest and highest, and what that was measured on.

    INT8 does better by some tensors with scaled channels: those are in `equalised` too (equalise.py).

    `photos` are sha256 of the photo files, `per_class` their number by label, `onnx_sha256` the file that was observed.
    `histograms` are for people to see, by tensor; MINMAX needs none and measures none. `trials` are, where the method
    was chosen by measuring, the fidelity of the network that each method gives.
    """

    method: Method
    tensors: Mapping[str, tuple[float, float]]
    photos: tuple[str, ...]
    per_class: Mapping[str, int]
    onnx_sha256: str
    equalised: Mapping[str, Equalised] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    trials: Mapping[str, Fidelity] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """sha256 of everything but histograms and trials: the identity of a calibration."""
        identity = to_json(self)
        return hash_of({name: value for name, value in identity.items() if name not in _NO_IDENTITY})


_NO_IDENTITY = ("histograms", "trials")
"""Fields of Ranges that are kept for people to see."""


def calibration_photos(photos: Sequence[Photo], config: CalibrationConfig) -> tuple[Photo, ...]:
    """Choose from all photos of a dataset those that ranges are measured on, spread over the labels as they occur.

    Only the training split is drawn from; equal photos count once; each label that has a photo gets at least one while
    there are enough. Raises BadInput when there is none, or when a photo is also in the test split. Warns when there
    are fewer than asked for, or than labels.
    """
    pool: dict[str, dict[str, Photo]] = {}
    for photo in photos:
        if photo.split is Split.TRAIN:
            pool.setdefault(photo.label, {}).setdefault(photo.sha256, photo)
    available = sum(map(len, pool.values()))
    if not available:
        raise BadInput(
            f"none of {len(photos)} photos is in the training split: there is nothing to calibrate INT8 with",
            hint="add photos to the folder, or build fp16: it needs no calibration",
            code="TP3015",
        )
    if available < config.photos:
        _log.warning(
            "calibrating with %d photos, all there are for training, instead of %d: ranges may be too narrow; "
            "%d more photos would do",
            available,
            config.photos,
            config.photos - available,
        )
    counts = {label: len(found) for label, found in pool.items()}
    share = _shares(counts, min(config.photos, available))
    warn_of_lacking_classes(share, counts)
    chosen = [
        photo
        for label in sorted(pool)
        for photo in sorted(pool[label].values(), key=lambda photo: _draw(config.seed, photo.sha256))[: share[label]]
    ]
    _refuse_test_photos(chosen, photos)
    # Mixed, so that the batches are alike.
    return tuple(sorted(chosen, key=lambda photo: _draw(config.seed, photo.sha256)))


def ranges_from_photos(
    model: OnnxModel, photos: Sequence[Photo], config: CalibrationConfig, progress: Progress = silent
) -> tuple[Ranges, ...]:
    """Run an FP32 ONNX file on calibration photos and choose the range of each tensor that shall become INT8.

    One Ranges for each method that `config.method` begins with, all from the same two passes over the photos. Memory is
    bounded by the batch. Raises BadPhoto, BadInput without photos or when they changed, or all are one colour,
    BadArtefact when the file can't be quantised, ConversionFailed when a tensor is not finite on a photo.
    """
    expect_fp32(model)
    if not photos:
        raise BadInput(
            "there are no photos to calibrate INT8 with", hint="trtpoets quantize NAME --precision fp16", code="TP3016"
        )
    refuse_changed_photos(photos)
    proto = check_onnx(model.path)
    placement = placement_from_onnx(proto)
    refuse_unknown_operators(model.path)
    methods = config.method.by_values
    passes = 1 if methods == (Method.MINMAX,) else 2

    def told(done: int) -> None:
        progress("calibration", done, passes * len(photos))

    witness = Witness(model.spec.labels)
    extremes = spans(proto, placement.tensors, photos, model.spec.preprocess, config.batch_size, told, witness.see)
    per_class = dict(sorted(Counter(photo.label for photo in photos).items()))
    witness.conclude(len(per_class))
    seen = silenced(extremes, len(photos))
    live = {name: max(-low, high) for name, (low, high) in seen.items() if low != 0.0 or high != 0.0}
    counts: dict[str, np.ndarray] = {}
    if passes == 2:
        counts = histograms(
            proto, live, photos, model.spec.preprocess, config.batch_size, lambda done: told(len(photos) + done)
        )
    kept = {name: histogram_from_counts(counts[name], live[name]) for name in counts}
    sha256 = sha256_of_onnx(model.path)
    hashes = tuple(photo.sha256 for photo in photos)
    found = []
    for method in methods:
        limits = {name: _limit(method, counts[name], top, config) for name, top in live.items()} if counts else {}
        tensors = {
            name: (max(low, -limits[name]), min(high, limits[name])) if name in limits else (low, high)
            for name, (low, high) in seen.items()
        }
        found.append(Ranges(method, tensors, hashes, per_class, sha256, histograms=kept))
    return tuple(found)


def _limit(method: Method, counts: np.ndarray, top: float, config: CalibrationConfig) -> float:
    """Where a method cuts a tensor whose magnitudes 0..top are counted."""
    if method is Method.ENTROPY:
        return entropy_threshold(counts, top)
    if method is Method.PERCENTILE:
        return percentile_threshold(counts, top, config.percentile)
    return mse_threshold(counts, top) if method is Method.MSE else top


def _draw(seed: int, sha256: str) -> str:
    """A photo's lot: the same for the same seed, whatever other photos there are."""
    return hashlib.sha256(f"{seed}:{sha256}".encode()).hexdigest()


def _shares(counts: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Divide `wanted` over the labels as they occur (largest remainders), at least one each while there are enough."""
    total = sum(counts.values())
    exact = {label: Fraction(count * wanted, total) for label, count in counts.items()}
    share = {label: int(value) for label, value in exact.items()}
    order = sorted(counts, key=lambda label: (share[label] > 0, share[label] - exact[label], label))
    for label in order[: wanted - sum(share.values())]:
        share[label] += 1
    for label in sorted(label for label in share if not share[label]):
        richest = max(sorted(share), key=lambda other: share[other])
        if share[richest] > 1:
            share[richest] -= 1
            share[label] = 1
    return share


def _refuse_test_photos(chosen: Sequence[Photo], photos: Sequence[Photo]) -> None:
    test = {photo.sha256: photo for photo in photos if photo.split is Split.TEST}
    for photo in chosen:
        if photo.sha256 in test:
            raise BadInput(
                f"{photo.path} is for calibration, and {test[photo.sha256].path} in the test split is the same photo: "
                "accuracy would be measured on what INT8 was tuned to",
                hint="read the photos again: trtpoets retrain PHOTOS --name NAME --force",
                code="TP3017",
            )
