"""How a head is trained and how the training went: values that training, training.json and the report share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import DistortedTraining, FineTuning
from trtpoets.core.serialization import OPTIONAL


class Optimizer(str, Enum):
    """Optimisation algorithm: gradient descent with momentum 0.9, or Adam (Kingma & Ba, 2015)."""

    SGD = "sgd"
    ADAM = "adam"


@dataclass(frozen=True)
class HeadConfig:
    """Settings of the head's training.

    `l2` is the factor of the penalty: l2 x the sum of the squared weights, which act on standardised features. With
    `class_weights`, all classes have the same weight, whatever their number of photos. `early_stop` ends the training
    after so many steps without an improvement on the validation photos, which are evaluated every `eval_interval`
    steps.

    The defaults were measured on five flowers (1,200 photos) and four types of solar cell (2,223), with
    EfficientNet-Lite0 and MobileNetV2 and five splits each. Learning rates from 0.0001 to 0.001 and both optimizers
    give equal accuracy (88.3 to 88.7 %); a penalty of 0.01 reduces the cross-entropy by 2 %; label smoothing of 0.1
    costs 0.4 points. On the solar cells, whose classes differ in size, class weights improve the mean recall by 1 to 2
    points and cost up to 0.8 points of accuracy, so they are off by default.
    """

    steps: int = 4000
    batch_size: int = 100
    learning_rate: float = 0.0003
    optimizer: Optimizer = Optimizer.ADAM
    l2: float = 0.01
    label_smoothing: float = 0.0
    class_weights: bool = False
    seed: int = 0
    early_stop: int | None = None
    eval_interval: int = 50

    def __post_init__(self) -> None:
        """Raise BadInput for invalid values."""
        for name in ("steps", "batch_size", "eval_interval", "early_stop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} must be at least 1, not {value}", hint="omit it for the default", code="TP2063")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise BadInput(
                f"the learning rate must be above 0, not {self.learning_rate}",
                hint="give for example --learning-rate 0.001",
                code="TP2064",
            )
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise BadInput(
                f"the L2 penalty must be at least 0, not {self.l2}", hint="give for example --l2 0.0001", code="TP2065"
            )
        if not 0 <= self.label_smoothing < 1:
            raise BadInput(
                f"label smoothing must be at least 0 and below 1, not {self.label_smoothing}",
                hint="use for example 0.1",
                code="TP2066",
            )


@dataclass(frozen=True)
class Training:
    """The course of a training: the curves have one entry for each of `steps`. The head is that of `best_step`.

    Cross-entropy is in nats per photo, without penalty, smoothing or class weights. The training curves are measured on
    the same 2,000 training photos, or fewer.
    """

    config: HeadConfig
    best_step: int
    seconds: float
    steps: tuple[int, ...]
    train_accuracy: tuple[float, ...]
    train_cross_entropy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    validation_cross_entropy: tuple[float, ...]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on test photos with its 95 % interval, copies counted as groups; None where there are none."""

    test_photos: int
    test_groups: int
    test_accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CopiesDetails:
    """How many families of near-copies there are, and what the accuracy would be, or is, without keeping them together.

    What does not apply is None, and left out of training.json.
    """

    families: int | None = field(default=None, metadata=OPTIONAL)
    families_photos: int | None = field(default=None, metadata=OPTIONAL)
    together: Accuracy | None = field(default=None, metadata=OPTIONAL)
    families_across_splits: int | None = field(default=None, metadata=OPTIONAL)
    without_copies: Accuracy | None = field(default=None, metadata=OPTIONAL)
    as_it_stands: Accuracy | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class _OnTestPhotos(Training):
    """A training, and its accuracy on the test photos."""

    test_accuracy: float | None = None
    test_photos: int = 0
    test_groups: int | None = field(default=None, metadata=OPTIONAL)
    test_accuracy_low: float | None = None
    test_accuracy_high: float | None = None


@dataclass(frozen=True)
class TrainingDetails(CopiesDetails, _OnTestPhotos):
    """Of training.json: the training, the accuracy on the test photos, what near-copies make of it.

    The curves are those of the head on the frozen backbone. `fine_tuning` is None where nothing was unfrozen; where it
    was kept, the accuracy on the test photos is that of the fine-tuned network. `distorted` is None without distortions
    of the head's training photos.
    """

    fine_tuning: FineTuning | None = field(default=None, metadata=OPTIONAL)
    distorted: DistortedTraining | None = field(default=None, metadata=OPTIONAL)
    command: str | None = field(default=None, metadata=OPTIONAL)

    @property
    def fine_tuned(self) -> bool:
        """Whether the backbone that is shipped was trained on the photos."""
        return self.fine_tuning is not None and self.fine_tuning.kept
