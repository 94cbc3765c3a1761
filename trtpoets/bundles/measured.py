"""Reads the benchmark results of a runner, for settings and capacity planning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Int8Form, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.bundles.bundle_inputs import BundleInputs

_BATCHED = ("", "single-stream", "offline")
"""The scenarios whose measurements are batches that run one after the other."""


def rows_of(inputs: BundleInputs, runner: RunnerId) -> list[Mapping[str, Any]]:
    """Return the valid measurements of a runner, one per batch size; [] if there are none."""
    if inputs.measured is None or inputs.measured["config"].get("scenario", "") not in _BATCHED:
        return []
    return [row for row in inputs.measured["measurements"] if row["runner"] == runner.name and row["valid"]]


def best_row(inputs: BundleInputs, runner: RunnerId) -> Mapping[str, Any] | None:
    """Return the measurement of a runner with the most photos/s; None if there is none."""
    return max(rows_of(inputs, runner), key=lambda row: row["photos_per_s"], default=None)


def best_rate(inputs: BundleInputs, runner: RunnerId) -> float | None:
    """Return the photos/s for capacity planning; None if the runner was not measured.

    This is the best of the measurements and of the offline scenario, if that ran several batches concurrently: a server
    with two instances of an engine also copies one batch while it computes another.
    """
    row = best_row(inputs, runner)
    outcomes = (inputs.measured or {}).get("outcomes", ())
    concurrent = [
        float(outcome["value"])
        for outcome in outcomes
        if outcome["runner"] == runner.name and outcome["scenario"] == "offline" and outcome["valid"]
        if outcome.get("under_way", 1) > 1
    ]
    return None if row is None else max([float(row["photos_per_s"]), *concurrent])


def good_precisions(inputs: BundleInputs) -> tuple[Precision, ...]:
    """Return the accepted precisions: in the order, rejected ones come after FP32."""
    order = inputs.order
    return order[: order.index(Precision.FP32) + 1] if Precision.FP32 in order else order


def ort_runner(inputs: BundleInputs, precision: Precision, way: str) -> RunnerId:
    """Return the runner of a precision with a provider: on the CPU, INT8 is int8.cpu.onnx where it exists."""
    cpu_form = precision is Precision.INT8 and not way and inputs.cpu_form is not None
    form = Int8Form.CPU if cpu_form else Int8Form.TENSORRT
    return RunnerId(Library.ONNXRUNTIME, precision, way, form=form)


def fastest_precision(inputs: BundleInputs, way: str, otherwise: Sequence[Precision]) -> tuple[Precision, str]:
    """Return the fastest precision of ONNX Runtime with the provider `way` ("" for the CPU), and the reason.

    Without measurements this is the first accepted precision in `otherwise`.
    """
    accepted = good_precisions(inputs)
    if not way and inputs.cpu_form is not None:  # another file than int8.onnx, which is accepted by itself
        wide = tuple(item for item in accepted if item is not Precision.INT8)
        accepted = wide if inputs.against_cpu_form else (Precision.INT8, *wide)
    if not accepted:  # the only file is advised against
        accepted = inputs.order
    measured = [(row, item) for item in accepted if (row := best_row(inputs, ort_runner(inputs, item, way)))]
    if measured:
        row, precision = max(measured, key=lambda pair: float(pair[0]["photos_per_s"]))
        return precision, f"measured: {row['photos_per_s']:.0f} photos/s at batch {row['batch']}, {where(inputs)}"
    first = next((precision for precision in otherwise if precision in accepted), accepted[0])
    return first, "not measured: " + ("nothing was benched" if inputs.measured is None else "not by this provider")


def where(inputs: BundleInputs) -> str:
    """Return a text with the machine and the date of the measurements."""
    if inputs.measured is None:
        return "nowhere"
    conditions = inputs.measured["conditions"]
    gpus = "".join(f" and a {gpu['name']}" for gpu in conditions["gpus"])
    return f"on {conditions['cores']} cores of {conditions['cpu']}{gpus}, {str(conditions['time'])[:10]}"
