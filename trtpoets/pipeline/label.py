"""Photos to answers, through the best runner that this machine has."""

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
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.shell_commands import command
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import Engine, Precision
from trtpoets.core.verified_files import verifying_once
from trtpoets.core.workspace import Workspace
from trtpoets.device.build.foreign_engine import engine_from_file
from trtpoets.device.build.plan_header import SUFFIXES
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.artefacts import ENGINES, classifier_in
from trtpoets.pipeline.int8_advice import recommended_precision
from trtpoets.pipeline.lineage import opened
from trtpoets.pipeline.photo_arguments import STDIN, PhotoSource, photos_from_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtpoets.core.types import Classifier, OnnxModel
    from trtpoets.device.runners.base import Runner
    from trtpoets.pipeline.lineage import Artefacts

_log = logging.getLogger(__name__)

_BATCH = 8
"""Photos that a runner without a batch size of its own gets at once."""

_LARGEST_BATCH = 32
"""An engine may be tuned for more; so many fill any GPU, and answers come sooner."""


@dataclass(frozen=True)
class Answer:
    """What a photo shows: the best labels with their scores, best first, and the runner that said so."""

    photo: Path
    runner: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Unlabelled:
    """A photo that got no answer, and why."""

    photo: Path
    error: str


def label(
    model: str, photos: Sequence[Path | str], *, top: int = 5, trust: bool = False, engines: Path | str = ENGINES
) -> tuple[Answer, ...]:
    """Label photos through `model`, all or none: see `label_stream`.

    Raises BadPhoto for a file that can't be decoded; and what `label_stream` raises.
    """
    answers = label_stream(model, photos, top=top, trust=trust, strict=True, engines=engines)
    return tuple(answer for answer in answers if isinstance(answer, Answer))


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
) -> Iterator[Answer | Unlabelled]:
    """Yield an answer for each photo, in order, as the runner gives them: a name under `engines`, or an engine file.

    `photos` are files, folders and patterns; "-" stands for `stdin` where that is given: a photo, or paths. The runner
    of a name is the first that works here: engines, then ONNX, then TensorFlow; labels and the size of photos are those
    of its file. A few batches are in memory at a time. Engines and TensorFlow's files can run code when they are
    opened: those that this user did not make here are opened only with `trust`. A photo that can't be used is logged
    and yields Unlabelled.

    Raises with `strict` BadPhoto in place of Unlabelled; BadInput without photos, MissingArtefact without a classifier;
    for an engine file what `engine_from_file` raises, and RunFailed where it can't run.
    """
    if not photos:
        raise BadInput(
            "no photo to label", hint=command("label", model, "PHOTO...", engines=Path(engines)), code="TP8025"
        )
    photos = [photo if str(photo) == STDIN else user_path(photo) for photo in photos]
    with ExitStack() as stack:
        with verifying_once():  # not around what is yielded: it would reach into the caller
            # A file of another kind is no name of a run, unless there is such a run.
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
                yield Unlabelled(source.path, error)
            elif result is not None:
                yield _answer(source.path, runner, result, top)


def _scored(
    runner: Runner, sources: Sequence[PhotoSource], batch: int, *, strict: bool
) -> Iterator[tuple[PhotoSource, np.ndarray | BadPhoto | None]]:
    """Each source with its scores (C,), or why it has none; None for a file of a folder that is no image.

    Raises with `strict` the first BadPhoto, once the photos before it have been yielded.
    """
    threads = usable_cores()
    preprocess = runner.spec.preprocess
    decoded = map_ahead(lambda source: source.pixels(preprocess), sources, threads, 2 * batch + threads)
    pairs = zip(sources, decoded, strict=True)
    try:
        for group in iter(lambda: list(islice(pairs, batch)), []):
            failed = next((at for at, (_, pixels) in enumerate(group) if isinstance(pixels, BadPhoto)), None)
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


def _answer(photo: Path, runner: Runner, scores: np.ndarray, top: int) -> Answer:
    best = np.argsort(-scores, kind="stable")[:top]
    labels = runner.spec.labels
    return Answer(photo, runner.name, tuple(labels[i] for i in best), tuple(float(scores[i]) for i in best))


def _best_runner(space: Workspace, stack: ExitStack, trust: bool) -> tuple[Runner, int]:
    """The first runner that can be entered here, entered in `stack`, and how many photos it gets at once."""
    found = opened(space, trust=trust)
    for stale in found.stale:
        _log.warning("%s is not used: it %s: %s", stale.path, stale.why, stale.remedy)
    for artefact in _candidates(space, found, trust):
        try:
            return stack.enter_context(open_runner(artefact)), _batch_of(artefact)
        except (MissingDependency, RunFailed):
            continue
    raise MissingArtefact(f"nothing of {space.name} can run here", hint=command("doctor"), code="TP8026")


def _batch_of(artefact: Classifier | OnnxModel | Engine) -> int:
    """The batch size that an engine is tuned for, up to a bound; a fixed one for the rest."""
    return min(artefact.card.batch.optimum, _LARGEST_BATCH) if isinstance(artefact, Engine) else _BATCH


def _candidates(space: Workspace, found: Artefacts, trust: bool) -> Iterator[Classifier | OnnxModel | Engine]:
    """Narrow engines first, INT8 last where quantize advised against it; then FP32, which a CPU runs best."""
    precisions = list(reversed(Precision))
    if recommended_precision(space) not in (None, Precision.INT8):
        precisions.append(precisions.pop(precisions.index(Precision.INT8)))
    # Of one precision TensorRT's come first, and the engine that was built with the defaults.
    yield from sorted(found.engines, key=lambda each: precisions.index(each.card.precision))
    yield from (model for model in found.onnx if model.precision is Precision.FP32)
    classifier = classifier_in(space)
    yield replace(classifier, foreign="") if trust else classifier
