"""Settings of INT8 quantisation: corrections, the photos for each, and the target quality."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.errors import BadInput


@dataclass(frozen=True)
class Int8Config:
    """Settings of INT8 quantisation. Shares and agreement are 0..1.

    Biases are corrected on `correction_photos` training photos, weights are rounded on `rounding_photos`. The result is
    measured on `judged_photos` validation photos. If the SQNR of the features is below `target_db`, or the agreement
    below `target_agreement`, the most sensitive layers are kept in FP32: as few as reach both targets, at most
    `max_float_layers` (None: no limit), and only while `int8_share` of all multiply-adds stays INT8; where less can be
    INT8 at all, `int8_share` of those. With None, 95 % stay INT8 unless the target of accuracy_target.py needs more
    layers in FP32; it takes precedence. The sensitivity analysis uses the first `search_photos` validation photos.
    """

    correct_bias: bool = True
    correction_photos: int = 16
    round_weights: bool = True
    rounding_photos: int = 32
    judged_photos: int = 128
    search_photos: int = 16
    target_db: float = 25.5
    target_agreement: float = 0.99
    int8_share: float | None = None
    max_float_layers: int | None = None

    def __post_init__(self) -> None:
        if min(self.correction_photos, self.rounding_photos, self.judged_photos, self.search_photos) < 1:
            raise BadInput(
                "each number of photos for INT8 must be at least 1", hint="use the default numbers", code="TP3021"
            )
        share = 1.0 if self.int8_share is None else self.int8_share
        if not (0 <= share <= 1 and 0 <= self.target_agreement <= 1):
            raise BadInput(
                f"the INT8 share {share:g} and the target agreement {self.target_agreement:g} must lie between 0 and 1",
                hint="use a share of 0.95 and an agreement of 0.99",
                code="TP3022",
            )
        if self.max_float_layers is not None and self.max_float_layers < 0:
            raise BadInput(
                f"the number of layers kept in FP32 must be at least 0, not {self.max_float_layers}",
                hint="use 0 to keep none in FP32",
                code="TP3023",
            )
