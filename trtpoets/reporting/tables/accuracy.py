"""What a report says of accuracy, as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import interval, percent, point_interval, points
from trtpoets.judge.gate import photos_in_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtpoets.reporting.tables.inspection import Part


def accuracy_parts(report: Mapping[str, Any]) -> list[Part]:
    """(title, columns, rows): accuracy and agreement of every runner, and what each changes beside TensorFlow."""
    unknown = (None, None)
    rows: list[tuple[Any, ...]] = [
        (
            runner,
            percent(report["accuracy"].get(runner)),
            interval(*bounds.get("accuracy", unknown)),
            percent(report["agreement"].get(runner)),
            interval(*bounds.get("agreement", unknown)),
        )
        for runner, bounds in report["intervals"].items()
    ]
    photos = photos_in_groups(report["test_photos"], report["test_groups"], "held-out photo")
    title = f"Accuracy on {photos}, and agreement with TensorFlow"
    parts: list[Part] = [(title, ["runner", "accuracy>", "95 %>", "agreement>", "95 %>"], rows)]
    changes: list[tuple[Any, ...]] = [
        (
            runner,
            points(compared["accuracy_change"]),
            point_interval(compared["change_low"], compared["change_high"]),
            compared["only_reference"],
            compared["only_runner"],
        )
        for runner, compared in report["comparison"].items()
        if compared["accuracy_change"] is not None
    ]
    if changes:
        title = "Change of accuracy beside TensorFlow in points; right answers lost and won"
        parts.append((title, ["runner", "change>", "95 %>", "lost>", "won>"], changes))
    return parts
