"""Accuracy of the runners as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import interval, percent, point_interval, points
from trtpoets.core.runner_id import baseline_among, baseline_text
from trtpoets.core.types import Skipped
from trtpoets.judge.gate import photos_in_groups

if TYPE_CHECKING:
    from trtpoets.judge.all_photos import AllPhotos
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
    photos = photos_in_groups(accuracies.test_photos, accuracies.test_groups, "test photo")
    baseline = baseline_text(baseline_among(accuracies.intervals))
    title = f"Accuracy on {photos}, and agreement with {baseline}"
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
        title = f"Change of accuracy relative to {baseline} in points; right answers lost and won"
        parts.append((title, ["runner", "change>", "95 %>", "lost>", "won>"], changes))
    return parts


def all_photos_parts(result: AllPhotos | None) -> list[Part]:
    """Return (title, columns, rows): FP32 and INT8 on all photos. Empty where nothing was measured on them."""
    if result is None or result.skipped:
        return []
    how = f"cross-fitted in {result.folds} folds" if result.folds else "classified by the shipped network"
    rows: list[tuple[Any, ...]] = [
        (
            "fp32.onnx",
            f"{result.photos:,}",
            percent(result.accuracy),
            interval(result.accuracy_low, result.accuracy_high),
            percent(None),
            interval(*_UNKNOWN),
        )
    ]
    changes: list[tuple[Any, ...]] = []
    for item in result.files:
        compared = item.comparison
        rows.append(
            (
                item.file,
                f"{item.photos:,}",
                percent(item.accuracy),
                interval(item.accuracy_low, item.accuracy_high),
                percent(item.agreement if item.photos else None),
                interval(item.agreement_low, item.agreement_high),
            )
        )
        if compared.accuracy_change is not None:
            changes.append(
                (
                    item.file,
                    percent(item.fp32_accuracy),
                    percent(item.accuracy),
                    points(compared.accuracy_change),
                    point_interval(compared.change_low, compared.change_high),
                    compared.only_reference,
                    compared.only_runner,
                )
            )
    columns = ["file", "photos>", "accuracy>", "95 %>", "agreement>", "95 %>"]
    parts: list[Part] = [(f"All photos, {how}: accuracy, and agreement with FP32", columns, rows)]
    if changes:
        title = "All photos: change of accuracy from FP32 in points; right answers lost and won"
        parts.append((title, ["file", "from>", "to>", "change>", "95 %>", "lost>", "won>"], changes))
    return parts


def not_compared_entries(result: AllPhotos | None) -> list[Skipped]:
    """Return which files were not compared with FP32 on all photos, and why; or why nothing was."""
    if result is None:
        return []
    if result.skipped:
        return [Skipped("the evaluation on all photos", result.skipped)]
    return [Skipped(f"comparing {item.file} on all photos", item.why) for item in result.not_compared]
