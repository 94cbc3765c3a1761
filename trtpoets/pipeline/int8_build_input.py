"""Selects the file that an INT8 engine is built from: int8.onnx, or its variant whose other layers are FP16.

Builders with precision flags build int8.onnx and may use FP16. Strongly typed builders would run every layer that is
not quantised in FP32. For them the variant is written and compared with int8.onnx on validation photos; its card
contains the comparison. `lineage.py` accepts engines built from either file.
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
"""Increase it when the same int8.onnx may give another variant, or another comparison."""

_PHOTOS = 32


def onnx_to_build(space: Workspace, model: OnnxModel, *, write: bool = True) -> OnnxModel:
    """Return the file from which a strongly typed builder builds the engine of int8.onnx, `model`.

    This is the variant with FP16 layers, which is written if it is not up to date. If it cannot be used (int8.onnx is
    of an earlier version, there are no photos, or its scores differ too much), a warning is logged and `model` is
    returned. Without `write` nothing is written, and `model` is returned if there is no variant. Raises BadPhoto,
    StorageFailed.
    """
    out = space.half_remainder
    made_from = sha256_of_file(model.path)
    key = hash_of([_VERSION, made_from])
    if open_card(card_of(out), key) is not None:
        return read_onnx(out)
    if not write:
        return model
    try:
        return _new_variant(space, model, key, made_from)
    except (BadInput, ConversionFailed) as error:
        for path in (out, card_of(out)):
            with storage_errors(path, "delete"):
                path.unlink(missing_ok=True)
        _log.warning("%s is built with FP32 for the layers that are not quantised: %s", model.path, error.message)
        return model


def _new_variant(space: Workspace, model: OnnxModel, key: str, made_from: str) -> OnnxModel:
    out = space.half_remainder
    validation = dataset_in(space).in_split(Split.VALIDATION) if has_dataset(space) else ()
    photos = tuple(sorted(validation, key=lambda photo: photo.sha256)[:_PHOTOS])
    if not photos:
        raise BadInput("there are no validation photos to compare the FP16 variant of int8.onnx on", code="TP8023")
    variant = with_fp16_remainder(model, out)
    with verified_photos(space, photos):
        notes = remainder_notes(model, variant, photos)
    if not notes.near:
        raise ConversionFailed(
            f"with FP16 outside INT8, the scores change by {notes.mean_abs:.2g} on average, and "
            f"{notes.same_answer:.1%} of {notes.photos} predictions stay the same",
            code="TP8024",
        )
    seal_card(card_of(out), key=key, files=[out], details=HalfDetails(made_from, notes))
    return variant
