"""Exports a trained classifier to fp32.onnx and compares its scores with TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trtpoets.adoption.loaded import Fp32File, fp32_from_classifier
from trtpoets.convert.graph.last_layer import with_head
from trtpoets.convert.onnx_export import ExportConfig, metadata_of_spec
from trtpoets.convert.parity import LIMIT, parity_from_scores
from trtpoets.core.classifier_hints import REPORT, convert_otherwise
from trtpoets.core.files import temporary_folder
from trtpoets.core.images import photo_batches
from trtpoets.core.network_notes import Parity
from trtpoets.core.onnx_file import check_onnx, read_onnx, write_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import baseline_text
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, Split, TfliteModel, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.artefacts import ENGINES, classifier_identity, classifier_in, dataset_in, has_dataset, writing
from trtpoets.pipeline.card_details import ExportDetails
from trtpoets.pipeline.extractors import base_in_cache
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.recorded_commands import export_command
from trtpoets.train.classifier import head_of_classifier
from trtpoets.train.dataset import Dataset

_VERSION = 4
"""Increase it when the same classifier may give another ONNX file."""

_PARITY_PHOTOS = 64

_OTHER_KERNELS = (
    "the file quantises values while it runs, and TFLite itself gives other scores with other kernels (XNNPACK or its "
    "own): adopt the float file that it was converted from: trtpoets adopt FILE --name NAME"
)
"""The hint where a file with weights of 8 bits and float activations can't be compared."""

_ROUNDED_LIMIT = 1e-2
"""Largest difference in a score of a network that computes with integers and returns floats; 4e-4 was measured."""


def export(
    name: str,
    *,
    opset: int = ExportConfig.opset,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> OnnxModel:
    """Export the classifier to engines/<name>/fp32.onnx and compare its scores with TensorFlow.

    Raises ConversionFailed if a score differs by more than 1e-4, unless only a few do and rounding explains it; later
    stages then refuse the file.
    """
    space = Workspace(Path(engines), name)
    out = space.onnx(Precision.FP32)
    with writing(space):
        key = hash_of([_VERSION, classifier_identity(space), opset])
        if not force and open_card(card_of(out), key) is not None:
            return read_onnx(out)
        classifier = classifier_in(space)
        photos = parity_photos_in(space)
        with verified_photos(space, photos):
            model, compared = compared_export(classifier, out, photos, ExportConfig(opset), progress)
        seal_export(space, opset, compared)
    return model


@dataclass(frozen=True)
class Compared:
    """How fp32.onnx compares with the classifier; `rounded` is as in ExportDetails."""

    parity: Parity
    rounded: Parity | None = None


def compared_export(
    classifier: Classifier, out: Path, photos: Sequence[Photo], config: ExportConfig, progress: Progress = silent
) -> tuple[OnnxModel, Compared]:
    """Write the FP32 ONNX file of a classifier and compare its scores with the classifier's on `photos`.

    Raises ConversionFailed if they differ by more than rounding explains (`parity_from_scores`), or by 0.02 if the
    adopted file computes in float16. The FP32 file of an adopted integer network computes without the network's
    rounding. A variant of it that rounds is compared instead, whose scores may differ by one quantisation step of the
    original's output; the parity of the FP32 file is recorded without a limit.
    """
    original = classifier.spec.original
    other_opset = ExportConfig.opset if config.opset != ExportConfig.opset else ExportConfig.opset - 2
    trained = f"export it with another opset: {command('export', 'NAME', '--opset', other_opset)}; or {REPORT}"
    hint = convert_otherwise(classifier.spec, trained)
    with temporary_folder() as folder:
        fp32 = _from_base(classifier, out, config, progress)
        fp32 = fp32 or fp32_from_classifier(classifier, out, folder, config, progress)
        model = fp32.model
        if fp32.rounding is None:
            return model, Compared(parity_of(classifier, model, photos, fp32.tolerance, hint))
        assert original is not None
        rounding = replace(model, path=fp32.rounding)
        # A float output has no quantisation steps: scores differ only if values inside the network round differently.
        has_steps = original.output.dtype in ("uint8", "int8")
        limit = (original.output.scale if has_steps else _ROUNDED_LIMIT) + LIMIT
        hint = hint if has_steps else _OTHER_KERNELS
        rounded = parity_of(classifier, rounding, photos, limit, hint)
        return model, Compared(parity_of(classifier, model, photos, math.inf), rounded)


def _from_base(classifier: Classifier, out: Path, config: ExportConfig, progress: Progress) -> Fp32File | None:
    """Write fp32.onnx by adding the head to the ONNX file of the base that training exported.

    The result is the same as that of an export of the network, which takes seconds longer. None if there is no such
    file, or if the options or the classifier need an export.
    """
    spec = classifier.spec
    base = base_in_cache(spec) if config == ExportConfig() and spec.original is None else None
    head = None if base is None else head_of_classifier(classifier)
    if base is None or head is None:
        return None
    progress("export", 0, 1)
    model = with_head(check_onnx(base), *head, spec.backbone, metadata_of_spec(spec, Precision.FP32))
    write_onnx(model, out)
    progress("export", 1, 1)
    return Fp32File(OnnxModel(out, Precision.FP32, spec))


def seal_export(space: Workspace, opset: int, compared: Compared) -> None:
    """Write the card of fp32.onnx. The classifier in `space` must be the one that was exported."""
    out = space.onnx(Precision.FP32)
    identity = classifier_identity(space)
    details = ExportDetails(opset, compared.parity, identity, export_command(space, opset), compared.rounded)
    seal_card(card_of(out), key=hash_of([_VERSION, identity, opset]), files=[out], details=details)


def parity_of(
    classifier: Classifier,
    model: OnnxModel | TfliteModel,
    photos: Sequence[Photo],
    limit: float = LIMIT,
    hint: str = REPORT,
) -> Parity:
    """Compare the scores of a converted file with those of the classifier on photos.

    Without photos, noise and ramps that cover all pixel values are used. Raises ConversionFailed if a score differs by
    more than `limit`, with `hint`.
    """
    batches = list(photo_batches(photos, model.spec.preprocess, 16)) if photos else [_patterns(model)]
    with open_runner(classifier) as reference, open_runner(model) as runner:
        expected = np.concatenate([reference.infer(batch) for batch in batches])
        scores = np.concatenate([runner.infer(batch) for batch in batches])
        name = baseline_text(reference.identity)
    return parity_from_scores(expected, scores, photos, limit, name, hint)


def parity_photos(dataset: Dataset | None) -> Sequence[Photo]:
    """Return the test photos that a converted file is compared on; none without a dataset."""
    return () if dataset is None else dataset.in_split(Split.TEST)[:_PARITY_PHOTOS]


def parity_photos_in(space: Workspace) -> Sequence[Photo]:
    """Return the test photos of a run that a converted file is compared on; none if the run has no photos."""
    return parity_photos(dataset_in(space) if has_dataset(space) else None)


def _patterns(model: OnnxModel | TfliteModel) -> np.ndarray:
    """Return eight images of noise and ramps: uint8 (8, H, W, 3)."""
    height, width = model.spec.preprocess.height, model.spec.preprocess.width
    noise = np.random.default_rng(0).integers(0, 256, (4, height, width, 3))
    ramp = np.linspace(0, 255, width)[None, None, :, None] * np.ones((4, height, 1, 3))
    ramp *= np.random.default_rng(1).uniform(0.2, 1, (4, 1, 1, 3))
    return np.concatenate([noise, ramp]).astype(np.uint8)
