"""Learning rates of fine-tuning: warm-up, cosine decay, and lower rates for lower layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM_UP = 0.1
"""Share of the steps in which the rate grows from 0."""

EVALUATIONS = 12
"""How often the validation photos are evaluated after step 0, at equal distances."""


def number_of_steps(photos: int, batch_size: int, epochs: float, least: int) -> int:
    """Return the number of steps of `epochs` passes over `photos`, at least `least`."""
    return max(math.ceil(epochs * photos / batch_size), least)


def rate_at(step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step from 0 to `steps` - 1: linear growth, then half a cosine."""
    warm_up = max(round(WARM_UP * steps), 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


def layer_rates(total: int, unfrozen: int, lowest_share: float) -> np.ndarray:
    """Return the factor for each of the last `unfrozen` of `total` layers, lowest first: float64 (unfrozen,).

    The factors fall geometrically from 1 at the last layer to `lowest_share` at the first of all layers.
    """
    below = np.arange(unfrozen)[::-1] / max(total - 1, 1)
    return np.asarray(lowest_share**below)


def first_choosable(steps: Sequence[int], total: int) -> int:
    """Return the place in `steps` of the first step that may be shipped: in the last third, where the rate is low.

    Earlier results jump from step to step, so that the lowest of them would be chosen by chance.
    """
    return next((place for place, step in enumerate(steps) if 3 * step >= 2 * total), len(steps))


def evaluated_steps(steps: int) -> tuple[int, ...]:
    """Return the numbers of steps after which the validation photos are evaluated, 0 and `steps` included."""
    return tuple(sorted({round(part * steps / EVALUATIONS) for part in range(EVALUATIONS + 1)}))
