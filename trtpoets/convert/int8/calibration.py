"""Calibration: measures the activation range of each tensor that becomes INT8, on photos of the training split.

The photos are spread over the labels. The same seed chooses the same photos in whatever order the folder lists them.
Synthetic data is never used.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import ActivationStatistics, activation_ranges, activation_statistics
from trtpoets.convert.int8.calibration_checks import (
    CalibrationChecks,
    refuse_changed_photos,
    refuse_unknown_operators,
    warn_of_missing_classes,
    zero_tiny_ranges,
)
from trtpoets.convert.int8.equalisation import pairs_of
from trtpoets.convert.int8.forms import TENSORRT, Arithmetic
from trtpoets.convert.int8.range_histograms import Histogram, histogram_from_counts
from trtpoets.convert.int8.thresholds import entropy_threshold, mse_threshold, percentile_threshold
from trtpoets.convert.precision import require_fp32
from trtpoets.core.errors import BadInput
from trtpoets.core.network_notes import Fidelity
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Int8Form, OnnxModel, Photo, Split, hash_of

_log = logging.getLogger(__name__)

SEARCHED = 8
"""The range search uses so many of the first photos of calibration; channel peaks are those of the others.

With 4 photos, the features of equalised MobileNetV2 on solar cells were 1.9 and 1.4 dB worse for two of four seeds;
with 16 they were not better. Those of EfficientNet-Lite0 do not differ.
"""

_PEAK_PHOTOS = 16
"""With fewer photos than this for the channel peaks, no tensor is equalised: the peaks would be unreliable."""


class Method(str, Enum):
    """The rule by which a tensor's range is chosen."""

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MSE = "mse"
    FEATURES = "features"
    EQUALISED = "equalised"
    AUTO = "auto"

    @property
    def base_methods(self) -> tuple[Method, ...]:
        """The methods that use only a tensor's own values: this method, or the four that the others start from."""
        base = (Method.MINMAX, Method.ENTROPY, Method.PERCENTILE, Method.MSE)
        return (self,) if self in base else base


@dataclass(frozen=True)
class CalibrationConfig:
    """Settings of calibration. `percentile` is the percentage of values inside the range, for that method only.

    `photos` None stands for `default_photos` of the training photos.

    No method is best for every network, so AUTO tries all, and `best_ranges` chooses between them.
    """

    photos: int | None = None
    method: Method = Method.AUTO
    percentile: float = 99.99
    seed: int = 0
    batch_size: int = 4

    def __post_init__(self) -> None:
        if (self.photos is not None and self.photos < 1) or self.batch_size < 1:
            raise BadInput(
                f"calibration needs at least 1 photo and a batch size of at least 1, not {self.photos} photos "
                f"and a batch size of {self.batch_size}",
                hint="use 32 to 256 photos in batches of 16",
                code="TP3012",
            )
        if not 50 < self.percentile <= 100:
            raise BadInput(
                f"the percentile must be above 50 and at most 100, not {self.percentile}",
                hint="use 99.99",
                code="TP3013",
            )


@dataclass(frozen=True)
class Equalised:
    """A tensor whose channels are multiplied by `factors`; `limit` is the largest magnitude INT8 represents then."""

    limit: float
    factors: tuple[float, ...]


@dataclass(frozen=True)
class Ranges:
    """The range (lowest, highest) of each tensor of an FP32 file, and the photos that it was measured on.

    `equalised` holds the tensors that gain from cross-layer equalisation (equalisation.py).

    `photos` are the sha256 of the photo files, `per_class` their number by label, `onnx_sha256` is that of the FP32
    file. `histograms`, by tensor, are for reports only; MINMAX does not measure any. `trials` is the
    fidelity of the network with the ranges of each method, if the method was chosen by measuring.
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
"""Fields of Ranges that are for reports only, and not part of the hash."""


MIN_PHOTOS, MAX_PHOTOS = 32, 128
"""The limits of the default number of calibration photos. With 256 INT8 comes no closer to FP32, and takes longer."""

_PART = 4
"""By default one of so many training photos is for calibration: only the others can show what INT8 costs."""


def default_photos(training: int, labels: int) -> int:
    """Return the default number of calibration photos: a quarter of the training photos, from 32 to 128.

    It is at least one for each label, up to 128.
    """
    return min(MAX_PHOTOS, max(MIN_PHOTOS, labels, training // _PART))


def with_number(config: CalibrationConfig, photos: Sequence[Photo]) -> CalibrationConfig:
    """Return a configuration with the number of photos for a dataset with these photos; a given number is kept."""
    if config.photos is not None:
        return config
    training = {photo.sha256: photo.label for photo in photos if photo.split is Split.TRAIN}
    return replace(config, photos=default_photos(len(training), len(set(training.values()))))


def calibration_photos(photos: Sequence[Photo], config: CalibrationConfig) -> tuple[Photo, ...]:
    """Choose the calibration photos from all photos of a dataset, distributed over the labels like the dataset.

    Only the training split is used; identical photos count once; each label with photos gets at least one while there
    are enough. Raises BadInput if there is none, or if a photo is in the test split too. Warns if there are fewer than
    `config.photos`, or fewer than labels.
    """
    pool: dict[str, dict[str, int]] = {}  # indices: a million photos would need much memory
    for index, photo in enumerate(photos):
        if photo.split is Split.TRAIN:
            pool.setdefault(photo.label, {}).setdefault(photo.sha256, index)
    available = sum(map(len, pool.values()))
    wanted = with_number(config, photos).photos or MAX_PHOTOS
    if not available:
        raise BadInput(
            f"none of the {len(photos)} photos is in the training split, so INT8 can't be calibrated",
            hint="add photos to the folder, or use FP16: trtpoets quantize NAME --precision fp16",
            code="TP3015",
        )
    if available < wanted:
        _log.warning(
            "calibrating with all %d training photos instead of %d: ranges may be too narrow; add at least %d photos",
            available,
            wanted,
            wanted - available,
        )
    counts = {label: len(by_hash) for label, by_hash in pool.items()}
    quota = _quotas(counts, min(wanted, available))
    warn_of_missing_classes(quota, counts)
    chosen = [
        photos[pool[label][sha256]]
        for label in sorted(pool)
        for sha256 in sorted(pool[label], key=lambda sha256: _random_key(config.seed, sha256))[: quota[label]]
    ]
    _refuse_test_photos(chosen, photos)
    # In random order, so that all batches contain similar labels.
    return tuple(sorted(chosen, key=lambda photo: _random_key(config.seed, photo.sha256)))


@dataclass(frozen=True)
class MeasuredRanges:
    """What one pass over the calibration photos gives: Ranges by each base method, and the channels' peaks.

    `channel_peaks`, float32 (C,), are the largest magnitudes in the tensors that can be equalised, on the photos after
    the first `SEARCHED`; empty where those are too few.
    """

    by_method: tuple[Ranges, ...]
    channel_peaks: Mapping[str, np.ndarray]


def calibration_from_photos(
    model: OnnxModel,
    photos: Sequence[Photo],
    config: CalibrationConfig,
    progress: Progress = silent,
    arithmetic: Arithmetic = TENSORRT,
    also: Sequence[str] = (),
) -> MeasuredRanges:
    """Run an FP32 ONNX file on calibration photos and choose the range of each tensor that becomes INT8.

    All methods use the same pass over the photos. `also` are tensors that become INT8 in another form: they get their
    lowest and highest values. Memory is limited to one batch. Raises BadPhoto, BadInput without photos or if they
    changed or are all one colour, BadArtefact if the file cannot be quantised, ConversionFailed if a tensor is not
    finite on a photo.
    """
    require_fp32(model)
    if not photos:
        raise BadInput(
            "there are no photos for INT8 calibration",
            hint="use FP16: trtpoets quantize NAME --precision fp16",
            code="TP3016",
        )
    refuse_changed_photos(photos)
    proto = arithmetic.prepared_from_onnx(check_onnx(model.path))
    view = GraphView(proto)
    placement = arithmetic.place(view, {}, ())
    refuse_unknown_operators(model.path)
    methods = config.method.base_methods
    checks = CalibrationChecks(model.spec.labels)
    names = tuple(dict.fromkeys((*placement.tensors, *also)))
    inputs = (proto, names, photos, model.spec.preprocess, config.batch_size)

    def photos_done(done: int) -> None:
        progress("calibration", done, len(photos))

    if methods == (Method.MINMAX,):
        statistics = ActivationStatistics(activation_ranges(*inputs, photos_done, checks.observe), {}, {})
    else:
        peaked = [pair.tensor for pair in pairs_of(view, arithmetic.searched(placement))]
        enough = len(photos) - SEARCHED >= _PEAK_PHOTOS
        statistics = activation_statistics(*inputs, photos_done, checks.observe, peaked if enough else (), SEARCHED)
    per_class = dict(sorted(Counter(photo.label for photo in photos).items()))
    # The same photos are measured for each form: warnings are those of the first.
    level = logging.WARNING if arithmetic.form is Int8Form.TENSORRT else logging.DEBUG
    checks.finish(len(per_class), level)
    spans = zero_tiny_ranges(statistics.ranges, len(photos), level)
    live = {name: max(-low, high) for name, (low, high) in spans.items() if (low, high) != (0.0, 0.0)}
    live = {name: live[name] for name in placement.tensors if name in live}
    counts = {name: statistics.counts[name] for name in live if name in statistics.counts}
    kept = {name: histogram_from_counts(counts[name], live[name]) for name in counts}
    sha256 = sha256_of_onnx(model.path)
    hashes = tuple(photo.sha256 for photo in photos)
    by_method = []
    for method in methods:
        limits = {
            name: _limit(method, counts[name], top, config, arithmetic.activations.magnitudes(*spans[name]))
            for name, top in live.items()
            if counts
        }
        tensors = {
            name: (max(low, -limits[name]), min(high, limits[name])) if name in limits else (low, high)
            for name, (low, high) in spans.items()
        }
        by_method.append(Ranges(method, tensors, hashes, per_class, sha256, histograms=kept))
    return MeasuredRanges(tuple(by_method), statistics.peaks)


def _limit(method: Method, counts: np.ndarray, top: float, config: CalibrationConfig, levels: int) -> float:
    """Return where a method clips a tensor, from the histogram of its magnitudes 0..top and how many INT8 has."""
    if method is Method.ENTROPY:
        return entropy_threshold(counts, top, levels)
    if method is Method.PERCENTILE:
        return percentile_threshold(counts, top, config.percentile)
    return mse_threshold(counts, top, levels) if method is Method.MSE else top


def _random_key(seed: int, sha256: str) -> str:
    """Return a pseudo-random sort key that depends only on the seed and the photo."""
    return hashlib.sha256(f"{seed}:{sha256}".encode()).hexdigest()


def _quotas(counts: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Divide `wanted` over the labels in proportion (largest remainders), at least one each while there are enough."""
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
    """Raise BadInput if a calibration photo is also in the test split."""
    test = {photo.sha256: photo for photo in photos if photo.split is Split.TEST}
    for photo in chosen:
        if photo.sha256 in test:
            raise BadInput(
                f"the calibration photo {photo.path} is identical to {test[photo.sha256].path} in the test split: "
                "accuracy would be measured on a photo that INT8 was calibrated with",
                hint="read the photos again: trtpoets retrain PHOTOS --name NAME --force",
                code="TP3017",
            )
