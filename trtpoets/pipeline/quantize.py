"""Writes fp16.onnx and int8.onnx of a run from its fp32.onnx."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.convert.int8.calibration import (
    CalibrationConfig,
    Method,
    Ranges,
    calibration_photos,
    ranges_from_photos,
)
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantised_files import is_quantised
from trtpoets.convert.int8.quantize_int8 import best_ranges, int8_from_onnx, notes_of_new_head
from trtpoets.convert.int8.range_histograms import worst_layers
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.convert.precision import fp16_from_onnx
from trtpoets.core.errors import BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.onnx_file import check_onnx, read_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Photo, Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, open_details, seal_card
from trtpoets.pipeline.artefacts import ENGINES, dataset_in, has_dataset, writing
from trtpoets.pipeline.card_details import CalibrationRecord, Fp16Details, Int8Details, Int8FileNotes
from trtpoets.pipeline.int8_advice import advice
from trtpoets.pipeline.lineage import onnx_in
from trtpoets.pipeline.photos import photos_command, verified_photos
from trtpoets.pipeline.recorded_commands import quantize_command

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION = 5
"""Increase it when the same classifier may give another ONNX file."""

_NOTES_VERSION = 2
"""Increase it when the metadata or the notes of int8.onnx change although its network is the same."""


def quantize(
    name: str,
    *,
    precisions: Sequence[Precision] = (Precision.FP16, Precision.INT8),
    calibration: CalibrationConfig | None = None,
    int8: Int8Config | None = None,
    refit_head: bool = True,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[OnnxModel, ...]:
    """Write fp16.onnx and int8.onnx from fp32.onnx.

    Activation ranges are measured on training photos; validation photos decide between calibration methods. INT8 is
    compared with FP32 on validation photos, and a warning is logged if FP16 is recommended instead. `refit_head` refits
    the last layer to the INT8 features and keeps it if validation confirms a gain.

    Raises BadInput if the run has no photos, because calibration needs real ones.
    """
    space = Workspace(Path(engines), name)
    calibration, int8 = calibration or CalibrationConfig(), int8 or Int8Config()
    command = quantize_command(space, precisions, calibration, int8, refit_head)
    if Precision.FP32 in precisions:
        raise BadInput("quantize does not write fp32; export does", hint=space.command("export"), code="TP8031")
    with writing(space):
        fp32 = onnx_in(space, Precision.FP32)
        if fp32.spec.original is not None and is_quantised(check_onnx(fp32.path)):
            raise BadInput(
                f"{fp32.path} was quantised before it was adopted: its layers have INT8 pairs already",
                hint=space.command("build", "--precision", "fp32"),
                code="TP8054",
            )
        if not has_dataset(space):
            raise BadInput(
                f"{name} has no photos to calibrate with",
                hint=photos_command(space),
                code="TP8032",
            )
        dataset = dataset_in(space)
        photos = calibration_photos(dataset.photos, calibration)
        judged = dataset.in_split(Split.VALIDATION)
        origin = _Origin(sha256_of_file(fp32.path), dataset.hash, command)
        makers = {
            Precision.FP16: lambda: _fp16(space, fp32, photos, origin, force, progress),
            Precision.INT8: lambda: _int8(
                space, fp32, (photos, judged), calibration, int8, origin, force, progress, refit_head
            ),
        }
        with verified_photos(space, (*photos, *judged)):
            return tuple(makers[precision]() for precision in precisions)


@dataclass(frozen=True)
class _Origin:
    """The origin that each card records: the sha256 of fp32.onnx, the hash of the dataset, the command."""

    made_from: str
    dataset: str
    command: str


def _fp16(
    space: Workspace,
    fp32: OnnxModel,
    photos: Sequence[Photo],
    origin: _Origin,
    force: bool,
    progress: Progress,
) -> OnnxModel:
    out = space.onnx(Precision.FP16)
    key = hash_of([_VERSION, sha256_of_file(fp32.path), [photo.sha256 for photo in photos]])
    if not force and open_card(card_of(out), key) is not None:
        return read_onnx(out)
    model, notes = fp16_from_onnx(fp32, photos, out, progress)
    details = Fp16Details(notes, origin.made_from, origin.dataset, origin.command)
    seal_card(card_of(out), key=key, files=[out], details=details)
    return model


def _int8(
    space: Workspace,
    fp32: OnnxModel,
    photos: tuple[Sequence[Photo], Sequence[Photo]],
    calibration: CalibrationConfig,
    config: Int8Config,
    origin: _Origin,
    force: bool,
    progress: Progress,
    refit_head: bool,
) -> OnnxModel:
    """Write int8.onnx. `photos` are (calibration, validation) photos, `made` is the origin to record in the card."""
    out = space.onnx(Precision.INT8)
    hashes = [[photo.sha256 for photo in group] for group in photos]
    made_from = [_VERSION, sha256_of_file(fp32.path), hashes, asdict(calibration)]
    key = hash_of([*made_from, asdict(config), refit_head, _NOTES_VERSION])
    if not force and open_card(card_of(out), key) is not None:
        return read_onnx(out)
    ranges_key = hash_of([*made_from, config.correct_bias])
    evaluator = Int8Evaluator(fp32, *photos, config)
    ranges = None if force else open_details(space.ranges, Ranges, ranges_key)
    if ranges is None:
        ranges = _ranges(evaluator, photos[0], calibration, progress)
        seal_card(space.ranges, key=ranges_key, files=[], details=ranges)
    model, notes = int8_from_onnx(evaluator, ranges, out, progress)
    head, recommended = advice(space, fp32, model, refit_head, progress, notes.share, notes.frontier[-1].time)
    if head is not None and head.kept:  # the file was rewritten with another last layer
        notes = notes_of_new_head(evaluator, notes, model)
    # Histograms of tensors with equalised channels are left out: their ranges refer to the scaled values.
    drawn = {name: histogram for name, histogram in ranges.histograms.items() if name not in ranges.equalised}
    worst = worst_layers(check_onnx(out), drawn, notes.layers_db)
    details = Int8Details(
        Int8FileNotes(**vars(notes), histograms=worst, head=head, recommended=recommended),
        CalibrationRecord(
            **{**vars(calibration), "method": ranges.method},
            asked=calibration.method,
            per_class=ranges.per_class,
            hash=ranges.hash,
            trials=ranges.trials,
        ),
        config,
        origin.made_from,
        origin.dataset,
        origin.command,
    )
    seal_card(card_of(out), key=key, files=[out], details=details)
    return model


def _ranges(
    evaluator: Int8Evaluator, photos: Sequence[Photo], calibration: CalibrationConfig, progress: Progress
) -> Ranges:
    """Return the ranges of the chosen method; with AUTO the best of all methods, and each one's validation result."""
    by_method = ranges_from_photos(evaluator.model, photos, calibration, progress)
    if calibration.method in calibration.method.base_methods:
        return by_method[0]
    refined = search_ranges(evaluator.model, by_method, photos, progress)
    if calibration.method is Method.AUTO:
        chosen, trials = best_ranges(evaluator, (*by_method, *refined), progress)
        return replace(chosen, trials=trials)
    # If equalisation improves no tensor, `refined` contains only the ranges of the method "features".
    return refined[0] if calibration.method is Method.FEATURES else refined[-1]
