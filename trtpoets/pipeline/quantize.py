"""Writes fp16.onnx, int8.onnx and int8.cpu.onnx of a run from its fp32.onnx."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.adoption.loaded import brings_scales, fp32_from_classifier
from trtpoets.convert.graph.graph_view import QUANTISERS
from trtpoets.convert.int8.calibration import CalibrationConfig, Ranges, calibration_photos, with_number
from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.convert.int8.forms import CPU
from trtpoets.convert.int8.fused import float_islands, fused_graph
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.other_form import ranges_for_form
from trtpoets.convert.int8.own_scales import int8_with_own_scales
from trtpoets.convert.int8.quantised_files import is_quantised
from trtpoets.convert.int8.quantize_int8 import Int8Notes, chosen_ranges, int8_from_onnx, notes_of_new_head
from trtpoets.convert.int8.range_histograms import worst_layers
from trtpoets.convert.onnx_export import ExportConfig
from trtpoets.convert.precision import fp16_from_onnx, require_fp32
from trtpoets.core.errors import BadInput, ConversionFailed, NoCpuForm
from trtpoets.core.files import sha256_of_file, temporary_folder, write_bytes
from trtpoets.core.formatting import many
from trtpoets.core.onnx_file import check_onnx, opset_of, read_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import Int8Form, OnnxModel, Photo, Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, open_details, seal_card
from trtpoets.device.gpu.libcuda import detect
from trtpoets.pipeline.artefacts import ENGINES, classifier_in, dataset_in, has_dataset, writing
from trtpoets.pipeline.card_details import CalibrationRecord, Fp16Details, Int8Details, Int8FileNotes
from trtpoets.pipeline.int8_advice import (
    advice,
    fitted_for_choices,
    judge_of_choices,
    log_recommendation,
    recommendation,
)
from trtpoets.pipeline.int8_distill import int8_distiller
from trtpoets.pipeline.lineage import onnx_in, without_photos
from trtpoets.pipeline.photos import hints_of_run, verified_photos
from trtpoets.pipeline.recorded_commands import quantize_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.convert.int8.quantize_int8 import Judge
    from trtpoets.judge.advice import Recommended
    from trtpoets.judge.all_photos import AllPhotos
    from trtpoets.judge.head_notes import HeadNotes
    from trtpoets.pipeline.cross_fit import CrossFit

_VERSION = 11
"""Increase it when the same classifier may give another ONNX file."""

_NOTES_VERSION = 2
"""Increase it when the metadata or the notes of int8.onnx change although its network is the same."""

_DISTILL_VERSION = "distilled 1"
"""Change it when distillation of the same network may give another int8.onnx."""

_CPU_VERSION = "cpu 6"
"""Change it when the same classifier may give another int8.cpu.onnx."""

_OWN_SCALES_VERSION = "own scales 1"
"""Change it when the same adopted file with scales may give another int8.onnx."""

_log = logging.getLogger(__name__)


def quantize(
    name: str,
    *,
    precisions: Sequence[Precision] = (Precision.FP16, Precision.INT8),
    calibration: CalibrationConfig | None = None,
    int8: Int8Config | None = None,
    refit_head: bool = True,
    cpu_form: bool | None = False,
    distill: DistillConfig | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[OnnxModel, ...]:
    """Write fp16.onnx and int8.onnx from fp32.onnx; with `cpu_form` also int8.cpu.onnx, INT8 for ONNX Runtime on CPUs.

    Activation ranges are measured on training photos; validation photos decide between calibration methods. INT8 is
    compared with FP32 on validation photos, and a warning is logged if FP16 is recommended instead. `refit_head` refits
    the last layer of int8.onnx to its features and keeps it if validation confirms a gain. An adopted ONNX file with
    symmetric Q/DQ pairs has scales of its own: int8.onnx gets exactly these, without calibration and corrections, and
    int8.cpu.onnx is not written, because it would need other scales.

    int8.cpu.onnx has the ranges of int8.onnx. It keeps layers in float only if it misses the target of INT8 without
    them and meets it with them. If `cpu_form` is None, it is written on a machine without a GPU, where it is the form
    of INT8 that runs; a network that has no such form is then no error.

    With `distill`, weights, biases and scales of int8.onnx are trained on the calibration photos, without labels, until
    its features are close to those of FP32; the result is kept if validation photos prove an improvement. This takes
    minutes on a CPU, and needs TensorFlow. The scales of an adopted file are not trained.

    Returns the files in the order of `precisions`, then int8.cpu.onnx; those that are up to date are not written again.
    Raises BadInput if the run has no photos, because calibration needs photos of the classes.
    """
    space = Workspace(Path(engines), name)
    calibration, int8 = calibration or CalibrationConfig(), int8 or Int8Config()
    if Precision.FP32 in precisions:
        raise BadInput("quantize does not write fp32; export does", hint=space.command("export"), code="TP8031")
    with writing(space):
        fp32 = onnx_in(space, Precision.FP32)
        if fp32.spec.original is not None and is_quantised(check_onnx(fp32.path)):
            raise BadInput(
                f"{fp32.path} was quantised before it was adopted: its layers have INT8 pairs already",
                hint=space.command("export", "--force"),
                code="TP8054",
            )
        if not has_dataset(space):
            raise BadInput(
                f"{name} has no photos to calibrate with",
                hint=without_photos(space),
                code="TP8032",
            )
        dataset = dataset_in(space)
        calibration = with_number(calibration, dataset.photos)
        with hints_of_run(space, dataset.folder):
            photos = calibration_photos(dataset.photos, calibration)
        for_cpus = not detect().gpus if cpu_form is None else cpu_form
        command = quantize_command(space, precisions, calibration, int8, refit_head, for_cpus, distill is not None)
        judged = dataset.in_split(Split.VALIDATION)
        origin = _Origin(sha256_of_file(fp32.path), dataset.hash, command)
        own_scales = brings_scales(classifier_in(space))
        work = _Int8Work(space, fp32, photos, judged, calibration, int8, refit_head, origin, force, progress)
        makers = {
            Precision.FP16: lambda: _fp16(space, fp32, photos, origin, force, progress),
            Precision.INT8: lambda: (
                _int8_of_file(space, fp32, (photos, judged), int8, origin, force, progress)
                if own_scales
                else _int8(work, distill)
            ),
        }
        with hints_of_run(space, dataset.folder), verified_photos(space, (*photos, *judged)):
            models = [makers[precision]() for precision in precisions]
            if for_cpus and Precision.INT8 in precisions and not own_scales:
                try:
                    models.append(_int8_for_cpu(work))
                except ConversionFailed as error:
                    without = f"int8.cpu.onnx is not written: {error.message}"
                    if cpu_form:  # the hints of `error` are about int8.onnx, which may have been written
                        raise NoCpuForm(without, hint="on a CPU use fp32.onnx", code="TP8097") from error
                    _log.warning("%s", without)
            return tuple(models)


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
    key = hash_of([_VERSION, origin.made_from, [photo.sha256 for photo in photos]])
    if not force and open_card(card_of(out), key) is not None:
        return read_onnx(out)
    model, notes = fp16_from_onnx(fp32, photos, out, progress)
    details = Fp16Details(notes, origin.made_from, origin.dataset, origin.command)
    seal_card(card_of(out), key=key, files=[out], details=details)
    return model


@dataclass(frozen=True)
class _Int8Work:
    """The inputs of both forms of INT8: `photos` for calibration, `judged` for choices, and the options."""

    space: Workspace
    fp32: OnnxModel
    photos: Sequence[Photo]
    judged: Sequence[Photo]
    calibration: CalibrationConfig
    config: Int8Config
    refit_head: bool
    origin: _Origin
    force: bool
    progress: Progress

    @property
    def made_from(self) -> list[object]:
        """The inputs of the ranges, for the keys of cards."""
        return [_VERSION, self.origin.made_from, _hashes((self.photos, self.judged)), asdict(self.calibration)]

    @cached_property
    def evaluator(self) -> Int8Evaluator:
        """The evaluator of TensorRT's form."""
        return Int8Evaluator(self.fp32, self.photos, self.judged, self.config)

    @cached_property
    def ranges(self) -> Ranges:
        """The ranges of int8.onnx, from ranges.json if photos and options are the same, else measured."""
        key = hash_of([*self.made_from, self.config.correct_bias])
        ranges = None if self.force else open_details(self.space.ranges, Ranges, key)
        if ranges is None:
            require_fp32(self.fp32)
            ranges = chosen_ranges(self.evaluator, self.photos, self.calibration, self.progress, CPU)
            seal_card(self.space.ranges, key=key, files=[], details=ranges)
        return ranges

    @cached_property
    def fitted(self) -> CrossFit | AllPhotos:
        """The heads and scores of FP32 with which both forms are compared."""
        return fitted_for_choices(self.space, self.fp32, self.progress)

    def judge(self, form: Int8Form) -> Judge | None:
        """Return the function that compares versions on the photos for choices: see `judge_of_choices`."""
        return judge_of_choices(self.space, self.fp32, form, self.fitted, self.progress)

    def seal(self, model: OnnxModel, key: str, notes: Int8FileNotes) -> None:
        """Write the card of a file."""
        details = Int8Details(notes, _record(self.calibration, self.ranges), self.config, **vars(self.origin))
        seal_card(card_of(model.path), key=key, files=[model.path], details=details)


def _int8(work: _Int8Work, distill: DistillConfig | None = None) -> OnnxModel:
    """Write int8.onnx."""
    out = work.space.onnx(Precision.INT8)
    trained = [_DISTILL_VERSION, asdict(distill)] if distill else []
    key = hash_of([*work.made_from, asdict(work.config), work.refit_head, _NOTES_VERSION, *trained])
    if not work.force and open_card(card_of(out), key) is not None:
        return read_onnx(out)
    ranges, evaluator = work.ranges, work.evaluator
    distiller = None
    if distill:
        distiller = int8_distiller(dataset_in(work.space), evaluator, work.photos, distill, work.progress)
    model, notes = int8_from_onnx(evaluator, ranges, out, work.progress, distiller, work.judge(Int8Form.TENSORRT))
    head, recommended = advice(
        work.space,
        work.fp32,
        model,
        work.refit_head,
        work.progress,
        notes.share,
        notes.frontier[-1].time,
        fitted=work.fitted,
    )
    if head is not None and head.kept:  # the file was rewritten with another last layer
        notes = notes_of_new_head(evaluator, notes, model)
    # Histograms of tensors with equalised channels are left out: their ranges refer to the scaled values.
    drawn = {name: histogram for name, histogram in ranges.histograms.items() if name not in ranges.equalised}
    worst = worst_layers(check_onnx(out), drawn, notes.layers_db)
    work.seal(model, key, Int8FileNotes(**vars(notes), histograms=worst, head=head, recommended=recommended))
    return model


def _int8_for_cpu(work: _Int8Work) -> OnnxModel:
    """Write int8.cpu.onnx, with the ranges of int8.onnx."""
    out = work.space.onnx(Precision.INT8, Int8Form.CPU)
    key = hash_of([_CPU_VERSION, *work.made_from, asdict(work.config), work.refit_head])
    if not work.force and open_card(card_of(out), key) is not None:
        return read_onnx(out)
    preprocess = work.fp32.spec.preprocess
    ranges = ranges_for_form(check_onnx(work.fp32.path), CPU, work.ranges, work.photos, preprocess, work.progress)
    evaluator = work.evaluator.of_form(CPU, replace(work.config, max_float_layers=0))
    file = _for_cpu(work, evaluator, ranges, out)
    if file.recommended.missed and work.config.max_float_layers != 0:
        file = _with_layers_in_float(work, evaluator, ranges, file)
    log_recommendation(work.space, file.recommended, out.name)
    islands = float_islands(fused_graph(read_bytes(out)))
    if islands:
        _log.info("ONNX Runtime computes in float between the INT8 layers of %s: %s", out.name, _named(islands))
    shown = tuple(name for name, _ in islands)
    notes = Int8FileNotes(**vars(file.notes), head=file.head, recommended=file.recommended, islands=shown)
    work.seal(file.model, key, notes)
    return file.model


@dataclass(frozen=True)
class _CpuFile:
    """A version of int8.cpu.onnx: its notes, those on its refitted head (None without), and the recommendation."""

    model: OnnxModel
    notes: Int8Notes
    head: HeadNotes | None
    recommended: Recommended


def _with_layers_in_float(work: _Int8Work, evaluator: Int8Evaluator, ranges: Ranges, without: _CpuFile) -> _CpuFile:
    """Search for layers to keep in float; return the file with them if it is recommended, else the one without.

    `evaluator` has made the file without them, so that nothing is corrected and rounded twice.

    A layer in float needs conversions on both sides, and four times the bytes for its weights. If the file is not
    recommended with them either, they would only make it slower and larger. The notes have the frontier of the search,
    and the recommendation names both results.
    """
    out = without.model.path
    _log.info("%s misses its target without layers in float: %s", out.name, without.recommended.why)
    with temporary_folder() as folder:
        other = _for_cpu(work, evaluator.of_form(CPU, work.config), ranges, folder / out.name)
        if other.recommended.precision is Precision.INT8:
            write_bytes(out, read_bytes(other.model.path))
            return replace(other, model=without.model)
    count = len(other.notes.steps)
    if not count:
        return without
    why = (
        f"{without.recommended.why}; with {many(count, 'layer')} in float ({other.notes.share:.0%} of the "
        f"multiply-adds in INT8): {other.recommended.why}; so no layer is kept in float"
    )
    return replace(
        without,
        notes=replace(without.notes, frontier=other.notes.frontier),
        recommended=replace(without.recommended, why=why),
    )


def _for_cpu(work: _Int8Work, evaluator: Int8Evaluator, ranges: Ranges, out: Path) -> _CpuFile:
    """Write int8.cpu.onnx, and compare it with FP32. The recommendation is not logged."""
    model, notes = int8_from_onnx(evaluator, ranges, out, work.progress, judge=work.judge(Int8Form.CPU))
    head, recommended = advice(
        work.space,
        work.fp32,
        model,
        work.refit_head,
        work.progress,
        notes.share,
        instead=Precision.FP32,
        quiet=True,
        fitted=work.fitted,
    )
    if head is not None and head.kept:
        notes = notes_of_new_head(evaluator, notes, model)
    return _CpuFile(model, notes, head, recommended)


def _hashes(photos: tuple[Sequence[Photo], Sequence[Photo]]) -> list[list[str]]:
    """Return the sha256 of the calibration and of the validation photos."""
    return [[photo.sha256 for photo in group] for group in photos]


def _named(islands: Sequence[tuple[str, str]]) -> str:
    """Return the number of operators of each kind, without conversions: "2 LayerNormalization, 1 Softmax"."""
    counts = Counter(operator for _, operator in islands if operator not in QUANTISERS)
    return ", ".join(f"{count} {operator}" for operator, count in sorted(counts.items())) or "conversions only"


def _record(calibration: CalibrationConfig, ranges: Ranges) -> CalibrationRecord:
    return CalibrationRecord(
        **{**vars(calibration), "method": ranges.method},
        asked=calibration.method,
        per_class=ranges.per_class,
        hash=ranges.hash,
        trials=ranges.trials,
    )


def _int8_of_file(
    space: Workspace,
    fp32: OnnxModel,
    photos: tuple[Sequence[Photo], Sequence[Photo]],
    config: Int8Config,
    origin: _Origin,
    force: bool,
    progress: Progress,
) -> OnnxModel:
    """Write int8.onnx with the scales that an adopted file brings. `photos` are (calibration, validation) photos."""
    out = space.onnx(Precision.INT8)
    classifier = classifier_in(space)
    assert classifier.original is not None
    key = hash_of([_OWN_SCALES_VERSION, origin.made_from, _hashes(photos), asdict(config)])
    if not force and open_card(card_of(out), key) is not None:
        return read_onnx(out)
    _log.info(
        "%s brings its own INT8 scales, which are used as they are: nothing is calibrated", classifier.original.name
    )
    with temporary_folder() as folder:
        opset = opset_of(check_onnx(fp32.path))
        rounding = fp32_from_classifier(classifier, folder / "fp32.onnx", folder, ExportConfig(opset)).rounding
        assert rounding is not None
        network = check_onnx(rounding)
    evaluator = Int8Evaluator(fp32, *photos, config)
    model, notes = int8_with_own_scales(evaluator, network, out, progress)
    recommended = recommendation(space, fp32, model, progress=progress, share=notes.share)
    shipped = Int8FileNotes(**vars(notes), recommended=recommended)
    seal_card(card_of(out), key=key, files=[out], details=Int8Details(shipped, None, config, **vars(origin)))
    return model
