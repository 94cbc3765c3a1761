"""The result of `bench --train`: training speed by device, and validation accuracy by learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import ALL, states_layers
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Skipped
from trtpoets.judge.bench.conditions import Conditions


@dataclass(frozen=True)
class TrainBenchConfig:
    """Options of `bench --train`.

    The head is trained once for each of `learning_rates`, with the other options of the classifier. The bottlenecks of
    `photos` photos are computed `rounds` times on each device, alternately, so that a machine that becomes slower
    affects all devices equally. In the same way `steps` steps of fine-tuning are taken `rounds` times, which train the
    last layers of the backbone: `unfreeze` is their number, or "all".
    """

    learning_rates: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.01)
    photos: int = 256
    rounds: int = 3
    unfreeze: str = ALL
    steps: int = 4

    def __post_init__(self) -> None:
        if not self.learning_rates or len(set(self.learning_rates)) != len(self.learning_rates):
            raise BadInput(
                f"at least one learning rate is needed, each only once, not {list(self.learning_rates)}",
                hint="give different ones, such as --learning-rate 0.001 --learning-rate 0.01",
                code="TP5101",
            )
        wrong = [rate for rate in self.learning_rates if not 0 < rate < math.inf]
        if wrong:
            raise BadInput(
                f"a learning rate must be finite and above 0, not {wrong[0]:g}",
                hint="give for example --learning-rate 0.001",
                code="TP5102",
            )
        if min(self.photos, self.rounds, self.steps) < 1:
            raise BadInput(
                f"photos, rounds and steps must be at least 1, not {self.photos}, {self.rounds} and {self.steps}",
                hint="give larger numbers, such as photos=256, rounds=3 and steps=4",
                code="TP5103",
            )
        if not states_layers(self.unfreeze):
            raise BadInput(
                f"the layers to measure must be a number from 1 or all, not {self.unfreeze!r}",
                hint="omit --unfreeze to measure the training of all layers",
                code="TP5104",
            )


@dataclass(frozen=True)
class BottleneckRate:
    """Bottlenecks per second on one device, including decoding, and the library `by` which they were computed.

    `photos_per_s` is the median of the rounds, `low` the slowest and `high` the fastest round.
    """

    device: str
    by: str
    photos: int
    photos_per_s: float
    low: float
    high: float


@dataclass(frozen=True)
class FineTuningRate:
    """Speed of fine-tuning the last `layers` of the `total` layers of the backbone on one device.

    `steps_per_s` is the median of the rounds, `low` the slowest and `high` the fastest: steps of `batch_size` photos,
    which are read, decoded and distorted meanwhile, as in `retrain --unfreeze`. `step_seconds` is the median of single
    steps with the photos in memory. `training_seconds` are those of `training_steps`, the default number of passes over
    the training photos, without the evaluations.
    """

    device: str
    layers: int
    total: int
    batch_size: int
    steps_per_s: float
    low: float
    high: float
    step_seconds: float
    training_steps: int
    training_seconds: float
    mixed_precision: bool = False


@dataclass(frozen=True)
class RateCurves:
    """Accuracy (0..1) and cross-entropy (nats) on the validation photos, one value for each of `steps`."""

    steps: tuple[int, ...]
    validation_accuracy: tuple[float, ...]
    validation_cross_entropy: tuple[float, ...]


@dataclass(frozen=True)
class HeadResult:
    """One training of the head.

    Accuracy (0..1) and cross-entropy (nats) are those of the validation photos at the best step. If the training
    diverged, `failed` is the reason, and the fields after it are None.
    """

    device: str
    learning_rate: float
    optimizer: str
    failed: str | None = field(default=None, metadata=OPTIONAL)
    seconds: float | None = field(default=None, metadata=OPTIONAL)
    best_step: int | None = field(default=None, metadata=OPTIONAL)
    validation_accuracy: float | None = field(default=None, metadata=OPTIONAL)
    validation_cross_entropy: float | None = field(default=None, metadata=OPTIONAL)
    curves: RateCurves | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class TrainBenchmark:
    """The content of train-benchmark.json: bottlenecks and fine-tuning by device, heads by learning rate and device.

    The test photos are not used.
    """

    config: TrainBenchConfig = field(default_factory=TrainBenchConfig)
    bottlenecks: tuple[BottleneckRate, ...] = ()
    heads: tuple[HeadResult, ...] = ()
    fine_tuning: tuple[FineTuningRate, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    command: str = ""
    schema_version: int = 1
