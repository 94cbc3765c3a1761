"""Classifies photos with the best runner that this machine can use."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from trtpoets.core.console import printable
from trtpoets.core.errors import BadInput, BadPhoto, MissingArtefact, MissingDependency, RunFailed
from trtpoets.core.images import usable_cores
from trtpoets.core.onnx_metadata import fixed_batch
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.shell_commands import command
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import Engine, Int8Form, OnnxModel, Precision
from trtpoets.core.verified_files import verifying_once
from trtpoets.core.workspace import Workspace
from trtpoets.device.build.foreign_engine import engine_from_file
from trtpoets.device.build.plan_header import SUFFIXES
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.artefacts import ENGINES, classifier_in
from trtpoets.pipeline.int8_advice import int8_notes, recommended_precision
from trtpoets.pipeline.lineage import opened
from trtpoets.pipeline.photo_arguments import STDIN, PhotoSource, photos_from_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtpoets.core.types import Classifier
    from trtpoets.device.runners.base import Runner
    from trtpoets.pipeline.lineage import Artefacts

_log = logging.getLogger(__name__)

_BATCH = 8
"""The batch size of runners other than engines."""

_LARGEST_BATCH = 32
"""The largest batch size for engines. It uses a GPU fully; larger batches only delay the first results."""


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo with its best labels and their scores, best first, and the name of the runner."""

    photo: Path
    runner: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class UnlabelledPhoto:
    """A photo that could not be classified, and why."""

    photo: Path
    error: str


def label(
    model: str, photos: Sequence[Path | str], *, top: int = 5, trust: bool = False, engines: Path | str = ENGINES
) -> tuple[LabelledPhoto, ...]:
    """Classify photos with `model` and return all results; see `label_stream`.

    Raises BadPhoto for a file that can't be decoded, and everything that `label_stream` raises.
    """
    results = label_stream(model, photos, top=top, trust=trust, strict=True, engines=engines)
    return tuple(result for result in results if isinstance(result, LabelledPhoto))


def label_stream(
    model: str,
    photos: Sequence[Path | str],
    *,
    top: int = 5,
    trust: bool = False,
    strict: bool = False,
    stdin: BinaryIO | None = None,
    engines: Path | str = ENGINES,
    progress: Progress = silent,
) -> Iterator[LabelledPhoto | UnlabelledPhoto]:
    """Classify photos with `model`, the name of a run or an engine file, and yield the results in order.

    `photos` are files, folders and glob patterns; "-" stands for `stdin`, if given: one photo, or a list of paths. For
    a run, the first runner that works here is used: engines, then ONNX Runtime, then TensorFlow. Only a few batches are
    in memory at a time. Engines and TensorFlow files can execute code when they are opened, so files that this user did
    not create here are opened only with `trust`. A photo that cannot be used is logged and yielded as UnlabelledPhoto.

    Raises BadPhoto instead with `strict`; BadInput without photos; MissingArtefact without a classifier; for an engine
    file what `engine_from_file` raises, and RunFailed if it cannot run here.
    """
    if not photos:
        raise BadInput(
            "no photos were given", hint=command("label", model, "PHOTO...", engines=Path(engines)), code="TP8025"
        )
    photos = [photo if str(photo) == STDIN else user_path(photo) for photo in photos]
    with ExitStack() as stack:
        with verifying_once():  # not around the yields: it would stay active in the caller
            # An existing file is taken for an engine file, unless there is a run of that name.
            if Path(model).suffix in SUFFIXES or (user_path(model).is_file() and not (Path(engines) / model).is_dir()):
                engine: Engine | Classifier | OnnxModel = engine_from_file(user_path(model), trust=trust)
                runner, batch = stack.enter_context(open_runner(engine)), _batch_of(engine)
            else:
                space = Workspace(Path(engines), model)
                classifier_in(space)
                runner, batch = _best_runner(space, stack, trust)
        sources = photos_from_arguments(photos, stdin=stdin, skip=[user_path(engines)])
        for done, (source, result) in enumerate(_scored(runner, sources, batch, strict=strict), start=1):
            if len(sources) > batch:
                progress("photos", done, len(sources))
            if isinstance(result, BadPhoto):
                error = printable(result.message)
                _log.warning("%s", error)
                yield UnlabelledPhoto(source.path, error)
            elif result is not None:
                yield _labelled_photo(source.path, runner, result, top)


def _scored(
    runner: Runner, sources: Sequence[PhotoSource], batch: int, *, strict: bool
) -> Iterator[tuple[PhotoSource, np.ndarray | BadPhoto | None]]:
    """Yield each source with its scores, float32 (C,), or its error; None for a file in a folder that is not an image.

    With `strict`, raises the first BadPhoto after the photos before it were yielded.
    """
    threads = usable_cores()
    preprocess = runner.spec.preprocess
    decoded = map_ahead(lambda source: source.pixels(preprocess), sources, threads, 2 * batch + threads)
    pairs = zip(sources, decoded, strict=True)
    try:
        for group in iter(lambda: list(islice(pairs, batch)), []):
            failed = next((index for index, (_, pixels) in enumerate(group) if isinstance(pixels, BadPhoto)), None)
            used = group[:failed] if strict else group
            photos = [pixels for _, pixels in used if isinstance(pixels, np.ndarray)]
            scores = iter(runner.infer(np.stack(photos)) if photos else ())
            for source, pixels in used:
                yield source, next(scores) if isinstance(pixels, np.ndarray) else pixels
            if strict and failed is not None:
                error = group[failed][1]
                assert isinstance(error, BadPhoto)
                raise error
    finally:
        decoded.close()


def _labelled_photo(photo: Path, runner: Runner, scores: np.ndarray, top: int) -> LabelledPhoto:
    best = np.argsort(-scores, kind="stable")[:top]
    labels = runner.spec.labels
    return LabelledPhoto(photo, runner.name, tuple(labels[i] for i in best), tuple(float(scores[i]) for i in best))


def _best_runner(space: Workspace, stack: ExitStack, trust: bool) -> tuple[Runner, int]:
    """Return the first runner that can be opened here, entered in `stack`, and its batch size."""
    artefacts = opened(space, trust=trust)
    for stale in artefacts.stale:
        _log.warning("%s is not used: it %s: %s", stale.path, stale.why, stale.remedy)
    for artefact in _candidates(space, artefacts, trust):
        try:
            return stack.enter_context(open_runner(artefact)), _batch_of(artefact)
        except (MissingDependency, RunFailed):
            continue
    raise MissingArtefact(f"this machine can't run any artefact of {space.name}", hint=command("doctor"), code="TP8026")


def _batch_of(artefact: Classifier | OnnxModel | Engine) -> int:
    """Return the optimum batch size of an engine, up to a limit but not below its minimum; a constant for others.

    A network with a fixed batch runs in batches of that size.
    """
    if isinstance(artefact, Engine):
        batch = artefact.card.batch
        return max(min(batch.optimum, _LARGEST_BATCH), batch.minimum)
    return (fixed_batch(artefact.path) if isinstance(artefact, OnnxModel) else 0) or _BATCH


def _candidates(space: Workspace, artefacts: Artefacts, trust: bool) -> Iterator[Classifier | OnnxModel | Engine]:
    """Yield what to try, in order: engines, int8.cpu.onnx if quantize recommended it, fp32.onnx, the classifier.

    Engines come in the order INT8, FP16, FP32, with INT8 last if quantize recommended another precision.
    """
    precisions = list(reversed(Precision))
    if recommended_precision(space) not in (None, Precision.INT8):
        precisions.append(precisions.pop(precisions.index(Precision.INT8)))
    # `sorted` is stable: within a precision, TensorRT engines and engines with default options stay first.
    yield from sorted(artefacts.engines, key=lambda engine: precisions.index(engine.card.precision))
    advice = int8_notes(space, Int8Form.CPU).recommended
    if advice is not None and advice.precision is Precision.INT8:
        yield from (model for model in artefacts.onnx if model.form is Int8Form.CPU)
    yield from (model for model in artefacts.onnx if model.precision is Precision.FP32)
    classifier = classifier_in(space)
    yield replace(classifier, foreign="") if trust else classifier
