"""Photos to answers, through the best runner that this machine has."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.commands import command
from trtpoets.core.errors import BadInput, MissingArtefact, MissingDependency, RunFailed
from trtpoets.core.images import photo_to_array
from trtpoets.core.paths import user_path
from trtpoets.core.spec import Precision
from trtpoets.core.workspace import Workspace
from trtpoets.device.foreign_engine import engine_from_file
from trtpoets.device.plan_header import SUFFIXES
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.int8_advice import recommended_precision
from trtpoets.pipeline.stages import ENGINES, classifier_in, engines_in, onnx_models_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trtpoets.core.spec import Classifier, Engine, OnnxModel
    from trtpoets.device.runners.base import Runner


@dataclass(frozen=True)
class Answer:
    """What a photo shows: the best labels with their scores, best first, and the runner that said so."""

    photo: Path
    runner: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


def label(
    model: str, photos: Sequence[Path | str], *, top: int = 5, trust: bool = False, engines: Path | str = ENGINES
) -> tuple[Answer, ...]:
    """Label photo files through `model`: a name under `engines`, or an engine file.

    The runner of a name is the first that works here: engines, then ONNX, then TensorFlow. An engine file that no card
    vouches for is loaded only with `trust`: engines are executable code.

    Raises BadPhoto for a file that can't be decoded, before any answer is given; for an engine file what
    `engine_from_file` raises, and RunFailed where it can't run.
    """
    if not photos:
        raise BadInput("no photo to label", hint=command("label", model, "PHOTO...", engines=Path(engines)))
    paths = [user_path(photo) for photo in photos]
    enter: Callable[[ExitStack], Runner]
    if Path(model).suffix in SUFFIXES:
        engine = engine_from_file(user_path(model), trust=trust)
        spec, enter = engine.card.spec, lambda stack: stack.enter_context(open_runner(engine))
    else:
        space = Workspace(Path(engines), model)
        spec, enter = classifier_in(space).spec, lambda stack: _best_runner(space, stack)
    batch = [photo_to_array(photo, spec.preprocess) for photo in paths]
    with ExitStack() as stack:
        runner = enter(stack)
        scores = np.concatenate([runner.infer(one[None]) for one in batch])
    return tuple(_answer(photo, runner.name, row, spec.labels, top) for photo, row in zip(paths, scores, strict=True))


def _answer(photo: Path, runner: str, scores: np.ndarray, labels: Sequence[str], top: int) -> Answer:
    best = np.argsort(-scores, kind="stable")[:top]
    return Answer(photo, runner, tuple(labels[i] for i in best), tuple(float(scores[i]) for i in best))


def _best_runner(space: Workspace, stack: ExitStack) -> Runner:
    """The first runner that can be entered here, entered in `stack`."""
    for artefact in _candidates(space):
        try:
            return stack.enter_context(open_runner(artefact))
        except (MissingDependency, RunFailed):
            continue
    raise MissingArtefact(f"nothing of {space.name} can run here", hint="trtpoets doctor")


def _candidates(space: Workspace) -> Iterator[Classifier | OnnxModel | Engine]:
    """Narrow engines first, INT8 last where quantize advised against it; then FP32, which a CPU runs best."""
    narrow_first = reversed(engines_in(space))
    advised_against = recommended_precision(space) not in (None, Precision.INT8)
    yield from sorted(narrow_first, key=lambda each: advised_against and each.card.precision is Precision.INT8)
    yield from onnx_models_in(space)[:1]
    yield classifier_in(space)
