"""Whether photos and network can give ranges at all: what can't is refused, what is doubtful is said.

The photos are looked at while they pass through the network anyway. Nobody can tell from a photo alone whether it is of
the kind that a network was trained on; what can be told is whether it is still the photo that the run began with, and
whether the network tells the photos apart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed
from trtpoets.core.images import changed_photos, photo_bytes
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import Photo

_log = logging.getLogger(__name__)

PLAIN = 1.0
"""All photos together are one colour when their pixels lie nearer to the mean, in levels of 255 (standard deviation):
there is nothing in them but what JPEG adds."""

FLAT = 2.0
"""The same for one photo. Dark or foggy ones may come near, so it is only said."""

_MOST_FLAT = 0.5
"""When more than this share of the photos is one colour each, that is said."""

_TELLING = 16
"""With fewer photos, chance alone may give all of them the same answer."""

_NAMED = 3
"""So many tensors are named in a warning."""

SMALLEST = 2.0**-24
"""A tensor that stays below this is all zeros to INT8: no step is smaller (`qdq.SMALLEST_SCALE`)."""


def refuse_changed_photos(photos: Sequence[Photo]) -> None:
    """Raise BadInput when the files are not the photos that the run began with; BadPhoto when one is gone.

    Splits were decided by content: behind the same name there may now be a test photo, or no photo at all.
    """
    for photo in photos:
        if not photo.path.is_file():
            with photo_bytes(photo):
                pass
    changed = changed_photos(photos)
    if changed:
        raise BadInput(
            f"{len(changed)} of {len(photos)} calibration photos changed since the run read them, "
            f"{changed[0].path} for one: a test photo may be among them",
            hint="read them again: trtpoets retrain PHOTOS --name NAME (or pretrained, with --photos)",
            code="TP3018",
        )


def warn_of_lacking_classes(counts: Mapping[str, int], available: Mapping[str, int]) -> None:
    """Say so when the chosen photos, counted by label, leave out labels, or all show the same."""
    lacking = [label for label in available if not counts.get(label)]
    if lacking:
        _log.warning(
            "calibrating with %d photos of %d classes: %r has none, for one; with --photos %d each has one",
            *(sum(counts.values()), len(available), lacking[0], len(available)),
        )
    elif len(available) == 1:
        _log.warning(
            "all calibration photos are of one class, %r: ranges may be too narrow for any other", next(iter(available))
        )


def refuse_unknown_operators(path: Path) -> None:
    """Raise ConversionFailed that names what ONNX Runtime can't run: narrower numbers are measured with it."""
    try:
        open_session(path)
    except BadArtefact as error:
        named = _named_nodes(path, error.message)
        if not named:
            raise
        raise ConversionFailed(
            f"ONNX Runtime can't run {', '.join(named)} of {path}, and narrower precisions are measured with it",
            hint="replace that operator; an engine in FP32 needs no measuring: trtpoets build NAME --precision fp32",
            code="TP3019",
        ) from error


class Witness:
    """Sees every batch of calibration photos with the scores that FP32 gives, and says at the end what is odd."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.answers: set[int] = set()
        self.flat = 0
        self.sums: list[np.ndarray] = []

    def see(self, photos: np.ndarray, scores: np.ndarray) -> None:
        """`photos` are uint8 (n, H, W, 3), `scores` float32 (n, C)."""
        pixels = photos.reshape(len(photos), -1, photos.shape[-1]).astype(np.float32)
        mean = pixels.mean(axis=1, dtype=np.float64)
        square = np.square(pixels).mean(axis=1, dtype=np.float64)
        self.flat += int((_deviation(mean, square) < FLAT).sum())
        self.sums.append(np.stack([mean, square], axis=1))
        self.answers.update(scores.reshape(len(photos), -1).argmax(axis=1).tolist())

    def conclude(self, classes: int) -> None:
        """Raise BadInput when all photos are the same one colour; warn of what else makes ranges doubtful."""
        seen = np.concatenate(self.sums)
        count = len(seen)
        mean, square = seen.mean(axis=0)
        if _deviation(mean, square) < PLAIN:
            colour = "#" + "".join(f"{round(value):02x}" for value in mean)
            raise BadInput(
                f"the calibration photos ({count}) are all the same plain colour, {colour}: ranges from them would fit "
                "nothing else",
                hint="train on real photos; fp16 needs no ranges: trtpoets quantize NAME --precision fp16",
                code="TP3020",
            )
        if self.flat > _MOST_FLAT * count:
            _log.warning(
                "%d of %d calibration photos are one plain colour each: ranges may be too narrow for photos that show "
                "something",
                *(self.flat, count),
            )
        if len(self.answers) == 1 and classes > 1 and count >= _TELLING:
            (answer,) = self.answers
            _log.warning(
                "the network answers %r to all %d calibration photos, of %d classes: they are not of the kind that it "
                "was trained on, or it tells nothing apart; ranges may be too narrow for other photos",
                *(self.labels[answer] if answer < len(self.labels) else answer, count, classes),
            )


def silenced(seen: Mapping[str, tuple[float, float]], photos: int) -> dict[str, tuple[float, float]]:
    """The ranges, with those that INT8 can't step as 0 to 0, which leaves what reads them in float; it is said."""
    largest = {name: max(abs(low), abs(high)) for name, (low, high) in seen.items()}
    quiet = [name for name, top in largest.items() if top < SMALLEST]
    if quiet:
        named = ", ".join(f"{name} (at most {largest[name]:.1g})" for name in quiet[:_NAMED])
        more = f" and {len(quiet) - _NAMED} more" if len(quiet) > _NAMED else ""
        _log.warning(
            "on all %d calibration photos %s%s stay below the smallest step of INT8: what reads them stays in float",
            *(photos, named, more),
        )
    return {name: (0.0, 0.0) if name in quiet else span for name, span in seen.items()}


def _deviation(mean: np.ndarray, square: np.ndarray) -> Any:
    """The standard deviation from the means of values and their squares, over the channels (last axis) together."""
    return np.sqrt(np.maximum(square - np.square(mean), 0.0).mean(axis=-1))


def _named_nodes(path: Path, complaint: str) -> list[str]:
    """The nodes that ONNX Runtime complains about, as "name (domain::Operator)"."""
    import onnx

    return [
        f"{node.name or 'a node'} ({node.domain or 'ai.onnx'}::{node.op_type})"
        for node in onnx.load(str(path)).graph.node
        if f"{node.op_type}(" in complaint
        and (f"'{node.name}'" in complaint or not onnx.defs.has(node.op_type, node.domain))
    ]
