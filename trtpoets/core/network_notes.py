"""Measurements of a converted network, as dataclasses that conversion, cards and the report share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trtpoets.core.serialization import OPTIONAL


@dataclass(frozen=True)
class Parity:
    """The differences between the scores of two runners, over all photos and labels, and the photo with the largest.

    `worst` is None if the compared rows are not photos of a dataset. `same_answers` is the number of photos with the
    same best class, None in files of earlier versions.
    """

    photos: int
    max_abs: float
    mean_abs: float
    worst: Path | None
    same_answers: int | None = field(default=None, metadata=OPTIONAL)


class _RankedByDistance:
    """Base of comparisons with FP32 that are ranked by the distance of the scores."""

    agreement: float
    distance: float

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key; a larger key is closer to FP32.

        The distance comes first: every photo changes it, but only the few photos with another label change agreement.
        """
        return -self.distance, self.agreement


@dataclass(frozen=True)
class Closeness(_RankedByDistance):
    """How close the scores of an INT8 network are to those of FP32 on `photos` photos.

    `agreement` is the share 0..1 of photos with the same label, `distance` the mean distance 0..1 of the scores (half
    the sum of their differences), `scores_db` their SQNR in dB.
    """

    photos: int
    agreement: float
    distance: float
    scores_db: float


@dataclass(frozen=True)
class Fidelity(_RankedByDistance):
    """A comparison of the features and scores of two networks on the same `photos` photos.

    `features_db` and `scores_db` are the SQNR in dB; `agreement` and `distance` are defined as in `Closeness`.
    """

    photos: int
    features_db: float
    scores_db: float
    agreement: float
    distance: float


@dataclass(frozen=True)
class KeptLayer:
    """A layer kept in FP32, and the SQNR that this gains on the search photos.

    `share` (0..1 of the multiply-adds in INT8) and `fidelity` are those of the network with this layer and all layers
    chosen before it in FP32.
    """

    layer: str
    gain_db: float
    share: float
    fidelity: Fidelity

    @property
    def why(self) -> str:
        """The reason in one line."""
        return f"in FP32 it gains {self.gain_db:.1f} dB, to {self.fidelity.features_db:.1f} dB in total"


@dataclass(frozen=True)
class FrontierPoint:
    """A mix of INT8 and float layers that the search tried: `layers` are kept in float, `share` 0..1 remains in INT8.

    `time` is the estimated time of the layers with weights on a GPU, relative to FP16. `fidelity` compares with FP32.
    """

    layers: int
    share: float
    time: float
    fidelity: Fidelity


@dataclass(frozen=True)
class DistillNotes:
    """Whether the distilled INT8 network was kept, the reason, and measurements before and after distillation.

    `steps` and `photos` are those of the training; `steps` is 0 if no step brought the held-out photos closer to FP32.
    `features_db` and `agreement` (0..1) compare with FP32 on validation photos, before and after distillation.
    `features_db` is the mean of the photos' SQNR in dB; `change_low` and `change_high` are the 95 % interval of its
    change. `seconds` is the duration of the training.
    """

    kept: bool
    why: str
    steps: int = 0
    photos: int = 0
    validation_photos: int = 0
    features_db: tuple[float, float] | None = None
    change_low: float | None = None
    change_high: float | None = None
    agreement: tuple[float, float] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class WorstLayer:
    """An INT8 layer with a low SQNR `db`, in dB, and the histogram of the `tensor` that it reads.


    `limit` is the largest magnitude of the tensor that INT8 represents. `shares` are the shares of magnitudes in equal
    bins over 0..`top`.
    """

    layer: str
    db: float
    tensor: str
    limit: float
    top: float
    shares: tuple[float, ...]
