"""The result of `sweep`: settings of the head's training, compared on photos that chose neither the step nor a setting.

Photos are in folds of whole groups (`cross_fit`). Head k of a setting is trained on all folds but two, chooses its step
on fold k + 1, and answers fold k. With 32 settings the best one on fold k is partly best by chance. So the setting is
chosen on fold k + 1 too, and its answers on fold k are compared with those of the default setting: the gain of the
choice, for photos that took no part in it. Only if the interval of this gain is above 0 a setting is recommended.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Sequence

import numpy as np

from trtpoets.core.fine_tuning import PairedResult
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.judge.paired import paired_result
from trtpoets.judge.train_benchmark import RateCurves

FOLDS = 5

CODELAB_RATES = (0.005, 0.01, 1.0)
"""The learning rates that the codelab compares, with plain gradient descent."""


@dataclass(frozen=True)
class Setting:
    """What a sweep varies; the fields are those of HeadConfig."""

    learning_rate: float = HeadConfig.learning_rate
    optimizer: Optimizer = HeadConfig.optimizer
    l2: float = HeadConfig.l2
    label_smoothing: float = HeadConfig.label_smoothing

    def applied_to(self, config: HeadConfig) -> HeadConfig:
        """Return `config` with this setting."""
        return replace(config, **vars(self))

    def __str__(self) -> str:
        return (
            f"{self.optimizer.value} at {self.learning_rate:g}, penalty {self.l2:g}, smoothing {self.label_smoothing:g}"
        )


DEFAULT = Setting()

SETTINGS: tuple[Setting, ...] = tuple(
    Setting(rate, optimizer, l2, smoothing)
    for rate, optimizer, l2, smoothing in product(
        (DEFAULT.learning_rate, *CODELAB_RATES), Optimizer, (DEFAULT.l2, 0.0), (DEFAULT.label_smoothing, 0.1)
    )
)
"""The settings that are tried: four learning rates, both optimizers, two penalties, two label smoothings."""


@dataclass(frozen=True)
class SettingResult:
    """Cross-fitted accuracy of a setting, 0..1, and how often it was chosen as the best on a fold.

    `diverged` is the number of folds in which the training diverged; their photos count as wrong answers.
    """

    setting: Setting
    accuracy: float
    chosen: int
    diverged: int = 0


@dataclass(frozen=True)
class RateResult:
    """A training with a learning rate of the codelab on the run's own split; `curves` is None if it diverged."""

    learning_rate: float
    curves: RateCurves | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class SettingsComparison:
    """The settings, and the gain of choosing one of them over the default setting.

    `best` is the setting with the highest accuracy on the photos that choose, `gain` the nested comparison of the
    default setting (before) with the choice (after).
    """

    settings: tuple[SettingResult, ...]
    best: Setting
    gain: PairedResult

    @property
    def recommended(self) -> Setting | None:
        """The setting to use instead of the default; None if nothing proves to be better."""
        return self.best if self.gain.low > 0 and self.best != DEFAULT else None


@dataclass(frozen=True)
class Sweep:
    """The content of sweep.json. `dataset` is the hash of the photos, `why` what was found, as a sentence.

    `recommended` is None if the default setting is as good as can be told. `next` is the command that trains with the
    recommended setting, or with the default. Test photos take no part.
    """

    dataset: str
    backbone: str
    weights_id: str
    config: HeadConfig
    folds: int
    settings: tuple[SettingResult, ...]
    gain: PairedResult
    recommended: Setting | None
    why: str
    rates: tuple[RateResult, ...]
    seconds: float
    next: str
    command: str
    schema_version: int = 1


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What the heads of all settings did in a fold.

    `rows` are the photos that were answered, int (n,), `right` the right answers, bool (S, n). `accuracy` and
    `cross_entropy`, float (S,), are those on the `choosing` photos; a training that diverged has 0 and infinity.
    """

    rows: np.ndarray
    right: np.ndarray
    accuracy: np.ndarray
    cross_entropy: np.ndarray
    choosing: int

    @property
    def best(self) -> int:
        """The index of the setting that is chosen: the highest accuracy, and the lowest cross-entropy among equals."""
        return _best(self.accuracy, self.cross_entropy)


def compared(settings: Sequence[Setting], folds: Sequence[FoldResult], groups: np.ndarray) -> SettingsComparison:
    """Return the comparison of settings, of which DEFAULT is one. `groups`, int (N,), are the groups of all photos."""
    default = list(settings).index(DEFAULT)
    rows = np.concatenate([fold.rows for fold in folds])
    right = np.concatenate([fold.right for fold in folds], axis=1)
    nested = np.concatenate([fold.right[fold.best] for fold in folds])
    chosen = [fold.best for fold in folds]
    diverged = np.sum([np.isinf(fold.cross_entropy) for fold in folds], axis=0)
    weights = np.array([fold.choosing for fold in folds], np.float64) / sum(fold.choosing for fold in folds)
    accuracy = weights @ np.stack([fold.accuracy for fold in folds])
    with np.errstate(invalid="ignore"):
        cross_entropy = weights @ np.stack([fold.cross_entropy for fold in folds])
    results = tuple(
        SettingResult(setting, float(right[number].mean()), chosen.count(number), int(diverged[number]))
        for number, setting in enumerate(settings)
    )
    best = settings[_best(accuracy, cross_entropy)]
    return SettingsComparison(results, best, paired_result(right[default], nested, groups[rows]))


def _best(accuracy: np.ndarray, cross_entropy: np.ndarray) -> int:
    return int(np.lexsort((cross_entropy, -accuracy))[0])
