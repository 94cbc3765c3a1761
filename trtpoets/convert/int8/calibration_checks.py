"""Checks the photos and the network for calibration: raises errors where ranges are impossible, warns of doubtful ones.

Photos are checked while they pass through the network for calibration. Whether a photo suits the network cannot be
determined; the checks only determine whether the photos are unchanged and whether the network distinguishes them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.int8.grid import SMALLEST_SCALE
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed
from trtpoets.core.images import changed_photos, photo_bytes
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import Photo

_log = logging.getLogger(__name__)

ONE_COLOUR = 1.0
"""The photos together count as one colour below this standard deviation of all pixels (0..255), as JPEG causes it."""

FLAT = 2.0
"""A single photo counts as one colour below this standard deviation. Dark photos may be below it: warn only."""

_MAX_FLAT = 0.5
"""A warning is logged if more than this share of the photos are one colour."""

_ENOUGH_PHOTOS = 16
"""With fewer photos, they may all get the same label by chance."""

_NAMED = 3
"""Number of tensors that a warning names."""


def refuse_changed_photos(photos: Sequence[Photo]) -> None:
    """Raise BadInput if a photo's content changed since the run read it, BadPhoto if a file is missing.

    The splits were decided by content: a changed file may now be a test photo, or not a photo at all.
    """
    for photo in photos:
        if not photo.path.is_file():
            with photo_bytes(photo):
                pass
    changed = changed_photos(photos)
    if changed:
        raise BadInput(
            f"{len(changed)} of {len(photos)} calibration photos changed since the run read them, for example "
            f"{changed[0].path}; they may now include test photos",
            hint="read the photos again: trtpoets retrain PHOTOS --name NAME (or pretrained, with --photos)",
            code="TP3018",
        )


def warn_of_missing_classes(counts: Mapping[str, int], available: Mapping[str, int]) -> None:
    """Log a warning if the chosen photos, counted by label, lack some labels, or if there is only one label."""
    lacking = [label for label in available if not counts.get(label)]
    if lacking:
        _log.warning(
            "calibrating with %d photos of %d classes: some classes have none, for example %r; use --photos %d to have "
            "one photo of each",
            *(sum(counts.values()), len(available), lacking[0], len(available)),
        )
    elif len(available) == 1:
        _log.warning(
            "all calibration photos are of one class, %r: ranges may be too narrow for others", next(iter(available))
        )


def refuse_unknown_operators(path: Path) -> None:
    """Raise ConversionFailed that names the operators ONNX Runtime cannot run, as it is needed to measure ranges."""
    try:
        open_session(path)
    except BadArtefact as error:
        named = _named_nodes(path, error.reason)
        if not named:
            raise
        raise ConversionFailed(
            f"ONNX Runtime can't run {', '.join(named)} of {path}, but FP16 and INT8 need it for their measurements",
            hint="replace that operator, or build in FP32: trtpoets build NAME --precision fp32",
            code="TP3019",
        ) from error


class CalibrationChecks:
    """Checks all calibration photos and the FP32 network's scores for them, and reports what is unusual at the end."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.predictions: set[int] = set()
        self.flat = 0
        self.sums: list[np.ndarray] = []

    def observe(self, photos: np.ndarray, scores: np.ndarray) -> None:
        """Add a batch: `photos` uint8 (n, H, W, 3), `scores` float32 (n, C)."""
        pixels = photos.reshape(len(photos), -1, photos.shape[-1]).astype(np.float32)
        mean = pixels.mean(axis=1, dtype=np.float64)
        square = np.square(pixels).mean(axis=1, dtype=np.float64)
        self.flat += int((_deviation(mean, square) < FLAT).sum())
        self.sums.append(np.stack([mean, square], axis=1))
        self.predictions.update(scores.reshape(len(photos), -1).argmax(axis=1).tolist())

    def finish(self, classes: int, level: int = logging.WARNING) -> None:
        """Raise BadInput if all photos are the same single colour; log at `level` if ranges may be unreliable."""
        moments = np.concatenate(self.sums)
        count = len(moments)
        mean, square = moments.mean(axis=0)
        if _deviation(mean, square) < ONE_COLOUR:
            colour = "#" + "".join(f"{round(value):02x}" for value in mean)
            raise BadInput(
                f"all {count} calibration photos are the same plain colour, {colour}: ranges measured on them would "
                "be wrong for other photos",
                hint="train with real photos, or use FP16: trtpoets quantize NAME --precision fp16",
                code="TP3020",
            )
        if self.flat > _MAX_FLAT * count:
            _log.log(
                level,
                "%d of %d calibration photos are a single plain colour: ranges may be too narrow for other photos",
                *(self.flat, count),
            )
        if len(self.predictions) == 1 and classes > 1 and count >= _ENOUGH_PHOTOS:
            (prediction,) = self.predictions
            _log.log(
                level,
                "the network predicts %r for all %d calibration photos, which are of %d classes: the photos do not "
                "suit the network, or it does not distinguish them; ranges may be too narrow for other photos",
                *(self.labels[prediction] if prediction < len(self.labels) else prediction, count, classes),
            )


def zero_tiny_ranges(
    ranges: Mapping[str, tuple[float, float]], photos: int, level: int = logging.WARNING
) -> dict[str, tuple[float, float]]:
    """Return the ranges, with (0, 0) for those below the smallest INT8 scale, and log their names at `level`.

    Layers that read such a tensor stay in FP32.
    """
    largest = {name: max(abs(low), abs(high)) for name, (low, high) in ranges.items()}
    tiny = [name for name, top in largest.items() if top < SMALLEST_SCALE]
    if tiny:
        named = ", ".join(f"{name} (at most {largest[name]:.1g})" for name in tiny[:_NAMED])
        more = f" and {len(tiny) - _NAMED} more" if len(tiny) > _NAMED else ""
        _log.log(
            level,
            "the values of %s%s are below the smallest INT8 scale for all %d calibration photos: the layers that read "
            "them stay in FP32",
            *(named, more, photos),
        )
    return {name: (0.0, 0.0) if name in tiny else span for name, span in ranges.items()}


def _deviation(mean: np.ndarray, square: np.ndarray) -> Any:
    """Return the standard deviation over all channels (last axis), from the means of the values and their squares."""
    return np.sqrt(np.maximum(square - np.square(mean), 0.0).mean(axis=-1))


def _named_nodes(path: Path, message: str) -> list[str]:
    """Return the nodes that a message of ONNX Runtime mentions, as "name (domain::Operator)"."""
    import onnx

    return [
        f"{node.name or 'a node'} ({node.domain or 'ai.onnx'}::{node.op_type})"
        for node in onnx.load(str(path)).graph.node
        if f"{node.op_type}(" in message
        and (f"'{node.name}'" in message or not onnx.defs.has(node.op_type, node.domain))
    ]
