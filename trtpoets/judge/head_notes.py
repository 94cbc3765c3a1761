"""The result of fitting the last layer of an INT8 network: in the card of int8.onnx and in the report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadNotes:
    """Whether the fitted head was kept, why, and both heads on the INT8 base compared with FP32 on validation photos.

    `divergence` is the mean Kullback-Leibler divergence from FP32's scores, in nats; `change_low` and `change_high` are
    the 95 % interval of what the fitted head changes in it. Accuracy is None where no label is the classifier's.
    """

    kept: bool
    why: str
    photos: int = 0
    validation_photos: int = 0
    penalty: float | None = None
    divergence: tuple[float, float] | None = None
    change_low: float | None = None
    change_high: float | None = None
    agreement: tuple[float, float] | None = None
    accuracy: tuple[float, float] | None = None
