"""Which file an INT8 engine is built from: int8.onnx, or its variant with an FP16 remainder, kept beside it.

Builders that may be allowed FP16 take int8.onnx. Those that take the types of the file would run all that is not
quantised in FP32: for them the variant is written, held against int8.onnx on validation photos, and sealed with what
came of it. `lineage.py` takes engines of either file for current.
"""

from __future__ import annotations

import logging

from trtpoets.convert.fp16_remainder import remainder_notes, with_fp16_remainder
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.files import sha256_of_file, storage_errors
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.types import OnnxModel, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.pipeline.artefacts import dataset_in, has_dataset
from trtpoets.pipeline.card_details import HalfDetails
from trtpoets.pipeline.photos import verified_photos

_log = logging.getLogger(__name__)

_VERSION = 1
"""Raise it when the same int8.onnx may give another variant, or another judgement of it."""

_PHOTOS = 32


def onnx_to_build(space: Workspace, model: OnnxModel, *, write: bool = True) -> OnnxModel:
    """What a library that computes in the types of the file builds the engine of int8.onnx, `model`, from.

    The variant is made here where it is not up to date.

    Without `write` nothing is made: int8.onnx stands for a variant that is not there. Where there is none, because the
    file is of an earlier version, there are no photos, or its scores are not near enough, a warning says so, and
    int8.onnx is built as it is. Raises BadPhoto, StorageFailed.
    """
    out = space.half_remainder
    made_from = sha256_of_file(model.path)
    key = hash_of([_VERSION, made_from])
    if open_card(card_of(out), key) is not None:
        return read_onnx(out)
    if not write:
        return model
    try:
        return _made(space, model, key, made_from)
    except (BadInput, ConversionFailed) as error:
        for path in (out, card_of(out)):
            with storage_errors(path, "delete"):
                path.unlink(missing_ok=True)
        _log.warning("%s is built with its FP32 remainder: %s", model.path, error.message)
        return model


def _made(space: Workspace, model: OnnxModel, key: str, made_from: str) -> OnnxModel:
    out = space.half_remainder
    photos = dataset_in(space).in_split(Split.VALIDATION) if has_dataset(space) else ()
    photos = tuple(sorted(photos, key=lambda photo: photo.sha256)[:_PHOTOS])
    if not photos:
        raise BadInput("there are no validation photos to hold its variant against", code="TP8023")
    variant = with_fp16_remainder(model, out)
    with verified_photos(space, photos):
        notes = remainder_notes(model, variant, photos)
    if not notes.near:
        raise ConversionFailed(
            f"with an FP16 remainder its scores move by {notes.mean_abs:.2g} on average, and {notes.same_answer:.1%} "
            f"of {notes.photos} answers stay the same",
            code="TP8024",
        )
    seal_card(card_of(out), key=key, files=[out], details=HalfDetails(made_from, notes))
    return variant
