"""Decides the order in which a device tries the precisions, from the gate and the recommendation of quantize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Precision
from trtpoets.judge.gate import NARROW, GateConfig, Outcome, gate_from_evaluations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GATE = GateConfig(max_drop=0.5)
"""The gate if none was set; the same as in `recommend`."""


def shipping_order(
    precisions: Sequence[Precision], advice: Mapping[str, Any] | None, evaluation: Mapping[str, Any] | None
) -> tuple[tuple[Precision, ...], dict[Precision, str]]:
    """Return the order in which to try the precisions, and for those that come last the reason.

    `advice` is the recommendation of `quantize` ({"precision", "why"}), `evaluation` the content of evaluation.json.
    INT8 comes before FP16 and FP32, unless the recommendation or the gate is against it.
    """
    against = {}
    if advice and advice["precision"] != Precision.INT8:
        against[Precision.INT8] = f"quantize recommends {advice['precision']} instead: {advice['why']}"
    against.update({precision: why for precision, why in _failed(evaluation).items() if precision not in against})
    narrowest_first = [item for item in (Precision.INT8, Precision.FP16, Precision.FP32) if item in precisions]
    accepted = [precision for precision in narrowest_first if precision not in against]
    rejected = [precision for precision in reversed(narrowest_first) if precision in against]
    return (*accepted, *rejected), {precision: against[precision] for precision in rejected}


def _failed(evaluation: Mapping[str, Any] | None) -> dict[Precision, str]:
    """Return the precisions whose ONNX file failed the gate, or the default gate if none was set, with the reason."""
    if not evaluation:
        return {}
    names = {RunnerId(Library.ONNXRUNTIME, precision).name: precision for precision in NARROW}
    evaluated = [item["runner"] for item in evaluation["evaluations"] if item["runner"] in names]
    if not evaluated:
        return {}
    gate = (
        evaluation.get("gate")
        or gate_from_evaluations(
            evaluation["evaluations"], GateConfig(_GATE.max_drop, runners=tuple(evaluated))
        ).to_dict()
    )
    return {
        names[verdict["runner"]]: "it failed the gate on the test photos"
        for verdict in gate["runners"]
        if verdict["runner"] in names and verdict["outcome"] == Outcome.FAILED
    }
