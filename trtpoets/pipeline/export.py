"""Exports a trained classifier to fp32.onnx and compares its scores with TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trtpoets.convert.onnx_export import ExportConfig, onnx_from_classifier
from trtpoets.convert.parity import parity_from_scores
from trtpoets.core.images import photo_batches
from trtpoets.core.network_notes import Parity
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, Split, TfliteModel, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.artefacts import ENGINES, classifier_identity, classifier_in, dataset_in, has_dataset, writing
from trtpoets.pipeline.card_details import ExportDetails
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.recorded_commands import export_command

_VERSION = 4
"""Increase it when the same classifier may give another ONNX file."""

_PARITY_PHOTOS = 64


def export(
    name: str,
    *,
    opset: int = ExportConfig.opset,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> OnnxModel:
    """Export the classifier to engines/<name>/fp32.onnx and compare its scores with TensorFlow.

    Raises ConversionFailed if any score differs by more than 1e-4; later stages then refuse the file.
    """
    space = Workspace(Path(engines), name)
    out = space.onnx(Precision.FP32)
    with writing(space):
        key = hash_of([_VERSION, classifier_identity(space), opset])
        if not force and open_card(card_of(out), key) is not None:
            return read_onnx(out)
        classifier = classifier_in(space)
        model = onnx_from_classifier(classifier, out, ExportConfig(opset), progress)
        parity = parity_of(classifier, model, space)
        details = ExportDetails(opset, parity, classifier_identity(space), export_command(space, opset))
        seal_card(card_of(out), key=key, files=[out], details=details)
    return model


def parity_of(classifier: Classifier, model: OnnxModel | TfliteModel, space: Workspace) -> Parity:
    """Compare the scores of a converted file with those of the classifier on test photos.

    Without test photos, noise and ramps that cover all pixel values are used. Raises ConversionFailed if scores differ.
    """
    photos: tuple[Photo, ...] = ()
    if has_dataset(space):
        photos = dataset_in(space).in_split(Split.TEST)[:_PARITY_PHOTOS]
    if photos:
        with verified_photos(space, photos):
            batches = list(photo_batches(photos, model.spec.preprocess, 16))
    else:
        batches = [_patterns(model)]
    with open_runner(classifier) as reference, open_runner(model) as runner:
        expected = np.concatenate([reference.infer(batch) for batch in batches])
        scores = np.concatenate([runner.infer(batch) for batch in batches])
    return parity_from_scores(expected, scores, photos)


def _patterns(model: OnnxModel | TfliteModel) -> np.ndarray:
    """Return eight images of noise and ramps: uint8 (8, H, W, 3)."""
    height, width = model.spec.preprocess.height, model.spec.preprocess.width
    noise = np.random.default_rng(0).integers(0, 256, (4, height, width, 3))
    ramp = np.linspace(0, 255, width)[None, None, :, None] * np.ones((4, height, 1, 3))
    ramp *= np.random.default_rng(1).uniform(0.2, 1, (4, 1, 1, 3))
    return np.concatenate([noise, ramp]).astype(np.uint8)
