"""Accuracy of the runners as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import interval, percent, point_interval, points
from trtpoets.judge.gate import photos_in_groups

if TYPE_CHECKING:
    from trtpoets.reporting.model import Accuracies
    from trtpoets.reporting.tables.inspection import Part

_UNKNOWN = (None, None)


def accuracy_parts(accuracies: Accuracies) -> list[Part]:
    """Return (title, columns, rows): accuracy and agreement of every runner, and its changes relative to TensorFlow."""
    rows: list[tuple[Any, ...]] = [
        (
            runner,
            percent(accuracies.accuracy.get(runner)),
            interval(*bounds.accuracy or _UNKNOWN),
            percent(accuracies.agreement.get(runner)),
            interval(*bounds.agreement or _UNKNOWN),
        )
        for runner, bounds in accuracies.intervals.items()
    ]
    photos = photos_in_groups(accuracies.test_photos, accuracies.test_groups, "held-out photo")
    title = f"Accuracy on {photos}, and agreement with TensorFlow"
    parts: list[Part] = [(title, ["runner", "accuracy>", "95 %>", "agreement>", "95 %>"], rows)]
    changes: list[tuple[Any, ...]] = [
        (
            runner,
            points(compared.accuracy_change),
            point_interval(compared.change_low, compared.change_high),
            compared.only_reference,
            compared.only_runner,
        )
        for runner, compared in accuracies.comparison.items()
        if compared.accuracy_change is not None
    ]
    if changes:
        title = "Change of accuracy relative to TensorFlow in points; right answers lost and won"
        parts.append((title, ["runner", "change>", "95 %>", "lost>", "won>"], changes))
    return parts
