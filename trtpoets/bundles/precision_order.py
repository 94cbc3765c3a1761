"""Decides the order in which a device tries the precisions, from the gate and the recommendation of quantize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.runner_id import INT8_FOR_CPUS, INT8_TFLITE, Library, RunnerId
from trtpoets.core.types import Precision
from trtpoets.judge.gate import REDUCED, GateConfig, GateOutcome, RunnerGate, gate_from_evaluations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.judge.evaluation_file import Evaluations

_GATE = GateConfig(max_drop=0.5)
"""The gate if none was set; the same as in `recommend`."""


def shipping_order(
    precisions: Sequence[Precision], advised_against: str, evaluation: Evaluations | None
) -> tuple[tuple[Precision, ...], dict[Precision, str]]:
    """Return the order in which to try the precisions, and for those that come last the reason.

    `advised_against` is why `quantize` advises against INT8, empty where it does not; `evaluation` is the content of
    evaluation.json. Without either the lowest precision comes first.
    """
    against = {}
    if advised_against:
        against[Precision.INT8] = f"quantize advises against it: {advised_against}"
    against.update({precision: why for precision, why in _failed(evaluation).items() if precision not in against})
    lowest_first = [item for item in (Precision.INT8, Precision.FP16, Precision.FP32) if item in precisions]
    accepted = [precision for precision in lowest_first if precision not in against]
    rejected = [precision for precision in reversed(lowest_first) if precision in against]
    return (*accepted, *rejected), {precision: against[precision] for precision in rejected}


def why_not_cpu_form(advised_against: str, evaluation: Evaluations | None) -> str:
    """Return why int8.cpu.onnx is not to be used; "" if nothing speaks against it. Arguments as in `shipping_order`."""
    if advised_against:
        return f"quantize advises against it: {advised_against}"
    return _failed(evaluation, {INT8_FOR_CPUS.name: Precision.INT8}).get(Precision.INT8, "")


def why_not_tflite(advised_against: str, evaluation: Evaluations | None) -> str:
    """Return why int8.tflite is not to be used; "" if nothing speaks against it.

    `advised_against` is why the comparison with FP32 speaks against it, empty where it does not.
    """
    return advised_against or _failed(evaluation, {INT8_TFLITE.name: Precision.INT8}).get(Precision.INT8, "")


_FILES = {RunnerId(Library.ONNXRUNTIME, precision).name: precision for precision in REDUCED}
"""The precisions by the name of the runner that shows what their files answer."""


def _failed(evaluation: Evaluations | None, names: Mapping[str, Precision] = _FILES) -> dict[Precision, str]:
    """Return the precisions whose ONNX file failed the gate, or the default gate if none was set, with the reason."""
    if not evaluation:
        return {}
    runners = tuple(result.runner.name for result in evaluation.evaluations if result.runner.name in names)
    if not runners:
        return {}
    usual = GateConfig(_GATE.max_drop, runners=runners)
    gate = evaluation.gate or gate_from_evaluations(evaluation.evaluations, usual, evaluation.all_photos)
    return {
        names[result.runner.name]: f"it failed the gate on {'all' if _on_all_photos(result) else 'the test'} photos"
        for result in gate.runners
        if result.runner.name in names and result.outcome is GateOutcome.FAILED
    }


def _on_all_photos(result: RunnerGate) -> bool:
    """Return whether a limit was failed on all photos, not on the test photos."""
    return any(check.file for check in result.checks if check.outcome is GateOutcome.FAILED)
