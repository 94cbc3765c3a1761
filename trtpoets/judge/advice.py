"""The types of the recommendation of `quantize`, which is in the card of int8.onnx and in the report."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.types import Precision
from trtpoets.judge.gate import Gate, missed


@dataclass(frozen=True)
class Advice:
    """The precision to ship, and why."""

    precision: Precision
    why: str

    @property
    def against_int8(self) -> str:
        """The reason why INT8 is not recommended; "" if it is."""
        return "" if self.precision is Precision.INT8 else self.why


@dataclass(frozen=True)
class Recommended(Advice):
    """The advice that follows from `gate`, which compared INT8 with FP32 on `photos` photos.

    These are the training and validation photos outside the calibration set; or, if the checks of the gate have no
    `file`, validation photos only.
    """

    photos: int = 0
    gate: Gate | None = None

    @property
    def missed(self) -> bool:
        """Whether INT8 misses its target on these photos; False if the gate is undecided."""
        return self.gate is not None and any(missed(check) for check in self.gate.runners[0].checks)
