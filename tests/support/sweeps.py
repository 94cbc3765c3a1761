"""A result of `sweep`."""

from __future__ import annotations

from trtpoets.core.fine_tuning import PairedResult
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.judge.sweep import CODELAB_RATES, SETTINGS, RateResult, Setting, SettingResult, Sweep
from trtpoets.judge.train_benchmark import RateCurves

BETTER = Setting(0.01, Optimizer.SGD, 0.0, 0.1)


def sweep_result(recommended: Setting | None = BETTER) -> Sweep:
    """A sweep in which gradient descent at 0.01 is the best setting, and Adam at 1.0 diverged in two folds."""
    results = tuple(
        SettingResult(
            setting,
            0.95 if setting == BETTER else 0.5 + number / 100,
            5 if setting == BETTER else 0,
            2 if (setting.learning_rate, setting.optimizer, setting.l2) == (1.0, Optimizer.ADAM, 0.0) else 0,
        )
        for number, setting in enumerate(SETTINGS)
    )
    rates = [
        RateResult(rate, RateCurves((50, 100), (0.7, 0.8), (0.6, 0.5))) if rate < 1 else RateResult(rate)
        for rate in CODELAB_RATES
    ]
    return Sweep(
        dataset="d" * 64,
        backbone="efficientnet_lite0",
        weights_id="w" * 64,
        config=HeadConfig(),
        folds=5,
        settings=results,
        gain=PairedResult(400, 390, 0.9, 0.95, 0.02, 0.08, 0.001),
        recommended=recommended,
        why="on 400 photos nothing was measured",
        rates=tuple(rates),
        seconds=40.0,
        next="trtpoets retrain photos --learning-rate 0.01 --name insects",
        command="trtpoets sweep photos --name insects",
    )
