"""What benchmark.json says of one way to run a precision, for settings and for how many machines a load needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.bundles.bundle_inputs import Parts

_BATCHED = ("", "single-stream", "offline")
"""The scenarios whose rows are batches, one after the other."""


def rows_of(parts: Parts, runner: RunnerId) -> list[Mapping[str, Any]]:
    """The valid measurements of a runner, one for each batch size; none where nothing was measured."""
    if parts.measured is None or parts.measured["config"].get("scenario", "") not in _BATCHED:
        return []
    return [row for row in parts.measured["measurements"] if row["runner"] == runner.name and row["valid"]]


def best_row(parts: Parts, runner: RunnerId) -> Mapping[str, Any] | None:
    """The measurement of a runner with the most photos/s; None where there is none."""
    return max(rows_of(parts, runner), key=lambda row: row["photos_per_s"], default=None)


def best_rate(parts: Parts, runner: RunnerId) -> float | None:
    """The photos/s to plan with: the offline scenario's, where that had several batches under way; else the best row's.

    A server with two instances of an engine copies one batch while it computes another, as that scenario does.
    """
    row = best_row(parts, runner)
    outcomes = (parts.measured or {}).get("outcomes", ())
    streamed = [
        float(each["value"])
        for each in outcomes
        if each["runner"] == runner.name and each["scenario"] == "offline" and each["valid"]
        if each.get("under_way", 1) > 1
    ]
    return None if row is None else max([float(row["photos_per_s"]), *streamed])


def good_precisions(parts: Parts) -> tuple[Precision, ...]:
    """The precisions that may be shipped: those that were advised against come after FP32 in the order."""
    order = parts.order
    return order[: order.index(Precision.FP32) + 1] if Precision.FP32 in order else order


def fastest_precision(parts: Parts, way: str, otherwise: Sequence[Precision]) -> tuple[Precision, str]:
    """The precision with the most photos/s through ONNX Runtime in one of its ways, "" for the CPU, and why.

    Where nothing was measured, the first of `otherwise` that may be shipped.
    """
    good = good_precisions(parts)
    found = [(row, each) for each in good if (row := best_row(parts, RunnerId(Library.ONNXRUNTIME, each, way)))]
    if found:
        row, precision = max(found, key=lambda pair: float(pair[0]["photos_per_s"]))
        return precision, f"measured: {row['photos_per_s']:.0f} photos/s at batch {row['batch']}, {where(parts)}"
    first = next((each for each in otherwise if each in good), good[0])
    return first, "not measured: " + ("nothing was benched" if parts.measured is None else "not by this provider")


def where(parts: Parts) -> str:
    """The machine and the day of the measurements, in words."""
    if parts.measured is None:
        return "nowhere"
    conditions = parts.measured["conditions"]
    gpus = "".join(f" and a {gpu['name']}" for gpu in conditions["gpus"])
    return f"on {conditions['cores']} cores of {conditions['cpu']}{gpus}, {str(conditions['time'])[:10]}"
