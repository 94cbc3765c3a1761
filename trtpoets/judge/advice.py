"""The precision that quantize recommends: in the card of int8.onnx and in the report."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.types import Precision
from trtpoets.judge.gate import Gate, missed


@dataclass(frozen=True)
class Advice:
    """The precision to ship, and why."""

    precision: Precision
    why: str


@dataclass(frozen=True)
class Recommended(Advice):
    """Advice as far as `photos` photos tell, and the gate that it comes from.

    They are the training and validation photos outside calibration, or validation photos only, where its checks have no
    `file`.
    """

    photos: int = 0
    gate: Gate | None = None

    @property
    def missed(self) -> bool:
        """Whether INT8 misses its target on these photos; False where they cannot tell."""
        return self.gate is not None and any(missed(check) for check in self.gate.runners[0].checks)
