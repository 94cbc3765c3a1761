"""Distortions of training photos, and fine-tuning of a backbone: settings and results, which several folders share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import OPTIONAL

AUTO = "auto"
ALL = "all"

MAX_PERCENT = 90
MAX_DEGREES = 180


@dataclass(frozen=True)
class Distortions:
    """Random changes of training photos; all are off by default.

    `flip_left_right` mirrors half of the photos. `random_crop` is the margin, in percent of the side, by which a photo
    is enlarged before a box of the network's size is cut out at a random place. `random_scale` enlarges it further by
    up to so many percent. `random_brightness` multiplies the pixels by up to so many percent more or less.
    `random_rotation` turns the photo by up to so many degrees to either side.
    """

    flip_left_right: bool = False
    random_crop: float = 0.0
    random_scale: float = 0.0
    random_brightness: float = 0.0
    random_rotation: float = 0.0

    def __post_init__(self) -> None:
        """Raise BadInput for values outside 0 to 90 percent, or 0 to 180 degrees."""
        for name in ("random_crop", "random_scale", "random_brightness", "random_rotation"):
            value = getattr(self, name)
            most, unit = (MAX_DEGREES, "degrees") if name == "random_rotation" else (MAX_PERCENT, "percent")
            if not (math.isfinite(value) and 0 <= value <= most):
                raise BadInput(
                    f"--{name.replace('_', '-')} must be from 0 to {most} {unit}, not {value:g}",
                    hint=f"give for example --{name.replace('_', '-')} 10",
                    code="TP1120",
                )

    @property
    def any(self) -> bool:
        """Whether any of them is on."""
        return self != Distortions()

    def __str__(self) -> str:
        """Like "flip, crop 10 %"; "none" if all are off."""
        parts = ["flip"] if self.flip_left_right else []
        for name, unit in (("crop", "%"), ("scale", "%"), ("brightness", "%"), ("rotation", "degrees")):
            value = getattr(self, f"random_{name}")
            parts += [f"{name} {value:g} {unit}"] if value else []
        return ", ".join(parts) or "none"


FINE_TUNING_DISTORTIONS = Distortions(flip_left_right=True, random_scale=15, random_brightness=10)
"""The distortions of fine-tuning, unless others are given.

`random_crop` is not among them: it enlarges every photo of the training, so that the network learns sizes and edges
that the photos to classify do not have.
"""


def states_layers(unfreeze: str) -> bool:
    """Return whether a value of `--unfreeze` states the layers: a number from 1, or `all`."""
    return unfreeze == ALL or (unfreeze.isdecimal() and int(unfreeze) > 0)


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of fine-tuning, which trains the last layers of the backbone together with the head.

    `unfreeze` is the number of layers, `all`, or `auto`: the number is then chosen by short trials. The training takes
    `epochs` passes over the training photos, but at least `least_steps` steps. `learning_rate` is about the share of
    their size by which the outputs of the head or of the last layer may change in a step; it falls geometrically to
    `lowest_share` of that at the first layer of the network.
    """

    unfreeze: str = AUTO
    epochs: float = 8
    learning_rate: float = 0.01
    lowest_share: float = 0.1
    batch_size: int = 32
    label_smoothing: float = 0.1
    least_steps: int = 120
    distortions: Distortions = FINE_TUNING_DISTORTIONS
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise BadInput for invalid values."""
        if self.unfreeze != AUTO and not states_layers(self.unfreeze):
            none = "without --unfreeze all layers of the backbone stay frozen"
            raise BadInput(
                f"--unfreeze must be a number of layers from 1, all or auto, not {self.unfreeze!r}",
                hint=f"give for example --unfreeze 20; {none}",
                code="TP1121",
            )
        for option, value in (("--fine-tuning-epochs", self.epochs), ("--fine-tuning-rate", self.learning_rate)):
            if not (math.isfinite(value) and value > 0):
                raise BadInput(
                    f"{option} must be above 0, not {value:g}",
                    hint="omit it for the default",
                    code="TP1122",
                )


@dataclass(frozen=True)
class PairedResult:
    """Two classifiers on the same photos: shares of right answers, 0..1, and the change with its 95 % interval.

    `p_value` is that of the hypothesis that both are equally good. Photos of one group count as a cluster.
    """

    photos: int
    groups: int
    before: float
    after: float
    low: float
    high: float
    p_value: float

    @property
    def improves(self) -> bool:
        """Whether the second is better by more than chance (5 %)."""
        return self.proves(0.05)

    def proves(self, level: float) -> bool:
        """Return whether the second is better, with a p-value below `level`."""
        return self.after > self.before and self.p_value < level


@dataclass(frozen=True)
class DepthTrial:
    """A short trial of `auto`: layers that were unfrozen, and cross-entropy (nats) on photos held out from training."""

    layers: int
    cross_entropy: float
    seconds: float


@dataclass(frozen=True)
class FineTuning:
    """The course and the result of fine-tuning. `kept` says whether the fine-tuned network is shipped, `why` why.

    `layers` of the `total` layers of the backbone were trained. The curves have one entry for each of `steps`; step 0
    is the frozen network. Validation values are those of undistorted photos, training values those of the distorted
    batches since the last entry. `validation` and `test` compare with the frozen network; for `validation` each half of
    the photos is classified at the step that is best on the other half. `photos_per_s` is the speed of the training.
    """

    config: FineTuneConfig
    layers: int
    total: int
    kept: bool
    why: str
    best_step: int
    seconds: float
    photos_per_s: float
    steps: tuple[int, ...]
    train_accuracy: tuple[float, ...]
    train_cross_entropy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    validation_cross_entropy: tuple[float, ...]
    validation: PairedResult
    test: PairedResult | None = None
    trials: tuple[DepthTrial, ...] = ()
    mixed_precision: bool = False


@dataclass(frozen=True)
class DistortionTrial:
    """Distortions that were tried for the frozen network's head, and the result compared with none."""

    distortions: Distortions
    result: PairedResult


@dataclass(frozen=True)
class DistortedTraining:
    """How distorted photos took part in the training of a head.

    `variants` of each training photo were added, distorted by `distortions`; 0 if none were kept. `trials` are those of
    `--auto-distortions`, `why` is the reason for the choice.
    """

    distortions: Distortions
    variants: int
    trials: tuple[DistortionTrial, ...] = ()
    why: str | None = field(default=None, metadata=OPTIONAL)
