"""Which precision a device tries first: the narrowest that keeps its word, by the gate and by quantize's advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Precision
from trtpoets.judge.gate import NARROW, GateConfig, Outcome, gate_from_evaluations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.judge.evaluation_file import Evaluations

_GATE = GateConfig(max_drop=0.5)
"""Where no gate was set: as `recommend` judges."""


def shipping_order(
    precisions: Sequence[Precision], advised_against: str, evaluation: Evaluations | None
) -> tuple[tuple[Precision, ...], dict[Precision, str]]:
    """The order to try precisions in, and why some come last though they are narrow.

    `advised_against` is why `quantize` advises against INT8, empty where it does not; `evaluation` is the content of
    evaluation.json. Without either the narrowest comes first.
    """
    against = {}
    if advised_against:
        against[Precision.INT8] = f"quantize advises against it: {advised_against}"
    against.update({precision: why for precision, why in _failed(evaluation).items() if precision not in against})
    wanted = [each for each in (Precision.INT8, Precision.FP16, Precision.FP32) if each in precisions]
    good = [each for each in wanted if each not in against]
    bad = [each for each in reversed(wanted) if each in against]
    return (*good, *bad), {each: against[each] for each in bad}


def _failed(evaluation: Evaluations | None) -> dict[Precision, str]:
    """The precisions whose ONNX file failed the gate that was set, or else the usual one."""
    if not evaluation:
        return {}
    names = {RunnerId(Library.ONNXRUNTIME, each).name: each for each in NARROW}
    runners = tuple(each.runner.name for each in evaluation.evaluations if each.runner.name in names)
    if not runners:
        return {}
    usual = GateConfig(_GATE.max_drop, runners=runners)
    gate = evaluation.gate or gate_from_evaluations(evaluation.evaluations, usual)
    return {
        names[result.runner.name]: "it failed the gate on the test photos"
        for result in gate.runners
        if result.runner.name in names and result.outcome is Outcome.FAILED
    }
