"""What was measured on a converted network: values that conversion, cards and the report share."""

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
    """A comparison of scores that has a rank."""

    agreement: float
    distance: float

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key; larger is closer. The distance comes first: all photos count in it, in agreement only a few."""
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
    """A comparison of two networks on the same photos. `agreement` is the share 0..1 of photos with the same top label.

    `features_db` and `scores_db` are the SQNR in dB; `distance` (0..1) is the total variation distance between the two
    rows of scores, averaged over the photos.
    """

    photos: int
    features_db: float
    scores_db: float
    agreement: float
    distance: float


@dataclass(frozen=True)
class KeptLayer:
    """A layer kept in FP32, its gain on the search photos, and the INT8 share and the fidelity of the network then."""

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
    """A mix that the search tried: `layers` are kept in float for accuracy, so that `share` 0..1 remains in INT8.

    `time` is the estimated time of the layers with weights on a GPU, relative to FP16. `fidelity` compares with FP32.
    """

    layers: int
    share: float
    time: float
    fidelity: Fidelity


@dataclass(frozen=True)
class DistillNotes:
    """Whether the distilled INT8 network was kept, why, and both networks compared with FP32 on validation photos.

    `steps` and `photos` are those of the training; 0 steps if none brought held-out photos closer to FP32.
    `features_db` and `agreement` (0..1) are before and after; the first is the mean of the photos' SQNR in dB, and
    `change_low` and `change_high` are the 95 % interval of its change. `seconds` is the time of the training.
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
    """An INT8 layer with low SQNR: its SQNR `db` in dB, and the histogram of the `tensor` that it reads.

    `limit` is the largest magnitude of the tensor that INT8 represents. `shares` are the shares of magnitudes in equal
    bins over 0..`top`.
    """

    layer: str
    db: float
    tensor: str
    limit: float
    top: float
    shares: tuple[float, ...]
