"""How INT8 is made: what is done for it, on how many photos, and when it is good enough."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.errors import BadInput


@dataclass(frozen=True)
class Int8Config:
    """How INT8 is made better. Shares and agreement are 0..1.

    Biases are corrected on `correction_photos` training photos, then weights rounded on `rounding_photos`. When the
    features miss `target_db`, or the answers `target_agreement`, on `judged_photos` validation photos, the worst layers
    stay in float: as few as meet both, no more than `max_float_layers` (None: any number), and so that `int8_share` of
    all multiply-adds stays INT8. They are found on the first `search_photos` of the validation photos.
    """

    correct_bias: bool = True
    correction_photos: int = 16
    round_weights: bool = True
    rounding_photos: int = 32
    judged_photos: int = 128
    search_photos: int = 16
    target_db: float = 25.5
    target_agreement: float = 0.99
    int8_share: float = 0.95
    max_float_layers: int | None = None

    def __post_init__(self) -> None:
        if min(self.correction_photos, self.rounding_photos, self.judged_photos, self.search_photos) < 1:
            raise BadInput(
                "INT8 is corrected and judged on at least 1 photo each", hint="leave the defaults", code="TP3021"
            )
        if not (0 <= self.int8_share <= 1 and 0 <= self.target_agreement <= 1):
            raise BadInput(f"a share of {self.int8_share:g} is not 0 to 1", hint="0.95 is usual", code="TP3022")
        if self.max_float_layers is not None and self.max_float_layers < 0:
            raise BadInput(f"{self.max_float_layers} layers in float", hint="give 0 for none", code="TP3023")
