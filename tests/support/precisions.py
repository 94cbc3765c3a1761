"""Short names of the precisions."""

from __future__ import annotations

from trtpoets.core.types import Precision

FP32, FP16, INT8 = Precision
