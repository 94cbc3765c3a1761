"""Evaluates every artefact of a run on the test photos, INT8 also on all photos, and checks the result against a gate.

The test photos estimate the accuracy of the shipped classifier. All photos, classified by cross-fitted heads, estimate
what the INT8 base costs, with many times the photos (`pipeline.cross_fit`).
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import baseline_of
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, Skipped, TfliteModel
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.device.runners import Runnable
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.judge.evaluation import DecodedPhotos, evaluation_from_scores, scores_from_runner
from trtpoets.judge.evaluation_file import Evaluations, evaluations_from_json
from trtpoets.judge.gate import Gate, GateConfig, gate_from_evaluations, require_passed, unknowns
from trtpoets.pipeline.artefacts import ENGINES, dataset_in, has_dataset, writing
from trtpoets.pipeline.cross_fit import all_photos_of
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.recorded_commands import evaluate_command
from trtpoets.pipeline.result_status import (
    artefacts_in,
    evaluation_key,
    groups_to_judge,
    identities,
    photos_to_judge,
    recorded,
)
from trtpoets.pipeline.runner_access import (
    entered_runner,
    require_trusted_classifier,
    shippable_ways,
    with_stale,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from trtpoets.core.runner_id import RunnerId
    from trtpoets.judge.all_photos import AllPhotos

__all__ = ["evaluate", "require_gate"]

_log = logging.getLogger(__name__)


def evaluate(
    name: str,
    gate: GateConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
    cross: CrossFitConfig | None = None,
) -> Evaluations:
    """Evaluate the classifier and every ONNX file, TFLite file and engine that can run here on the test photos.

    Afterwards the INT8 files are compared with fp32.onnx on all photos, with the settings `cross`: by default ten
    folds; none with 0. Returns the content of engines/<name>/evaluation.json. Its `gate` is the result of `gate`, or of
    an earlier gate on the same scores. A gate that fails or cannot tell raises nothing; call `require_gate` for that.
    """
    space, cross = Workspace(Path(engines), name), cross or CrossFitConfig()
    with writing(space):
        artefacts = artefacts_in(space)
        photos = photos_to_judge(space)
        contents = identities(space, artefacts)
        groups = groups_to_judge(space, photos)
        key = evaluation_key(contents, photos, groups)
        details = None if force else open_card(space.evaluation, key)
        result = None if details is None else evaluations_from_json(details, space.evaluation)
        if result is None:
            require_trusted_classifier(artefacts)
            with verified_photos(space, photos):
                result = _evaluated(artefacts, photos, groups, progress)
            result = replace(result, judged=recorded(contents, photos), command=evaluate_command(space, None, cross))
            # Written before the gate is checked, so that the scores are kept if its options are invalid.
            seal_card(space.evaluation, key=key, files=[], details=to_json(result))
        if _is_other(space, result.all_photos, cross, artefacts):
            # A gate was decided by other numbers.
            command = evaluate_command(space, None, cross)
            result = replace(result, all_photos=_on_all_photos(space, artefacts, cross, progress), gate=None)
            result = replace(result, command=command)
            seal_card(space.evaluation, key=key, files=[], details=to_json(result))
        if gate is not None:
            result = replace(result, command=evaluate_command(space, gate, cross), gate=_gate(result, gate))
            seal_card(space.evaluation, key=key, files=[], details=to_json(result))
        return replace(result, skipped=with_stale(space, result.skipped))


def require_gate(name: str, evaluation: Evaluations, engines: Path | str = ENGINES) -> None:
    """Raise GateFailed when the gate of `evaluation` failed, GateUndecided when it cannot tell.

    Without a gate nothing is raised, and with `allow_undecided` "cannot tell" is not an error.
    """
    require_passed(evaluation.gate, name, Path(engines))


def _evaluated(
    artefacts: Sequence[Runnable], photos: Sequence[Photo], groups: tuple[int, ...] | None, progress: Progress
) -> Evaluations:
    scores, skipped = _scores(artefacts, photos, progress)
    classifier = artefacts[0]
    assert isinstance(classifier, Classifier)
    labels, baseline = classifier.spec.labels, baseline_of(classifier.spec)
    reference = scores[baseline]
    return Evaluations(
        tuple(
            evaluation_from_scores(
                runner,
                rows,
                photos,
                labels,
                None if runner == baseline else reference,
                groups,
                warn=runner == baseline,
            )
            for runner, rows in scores.items()
        ),
        groups,
        tuple(dict.fromkeys(skipped)),
    )


def _is_other(
    space: Workspace, current: AllPhotos | None, cross: CrossFitConfig, artefacts: Sequence[Runnable]
) -> bool:
    """Return whether the evaluation over all photos has other settings, photos or files than `current`."""
    if not cross.folds or not has_dataset(space):
        return current is not None
    if current is None or (current.config, current.dataset) != (cross, dataset_in(space).hash):
        return True
    # Earlier versions did not compare TFLite files, and named a file that could not be compared only in a note.
    known = {item.file for item in current.files} | {item.file for item in current.not_compared}
    return not current.skipped and not {model.path.name for model in _compared_files(artefacts)} <= known


def _compared_files(artefacts: Sequence[Runnable]) -> list[OnnxModel | TfliteModel]:
    """Return the INT8 files that are compared with FP32 on all photos."""
    files = [model for model in artefacts if isinstance(model, (OnnxModel, TfliteModel))]
    return [model for model in files if model.precision is Precision.INT8]


def _on_all_photos(
    space: Workspace, artefacts: Sequence[Runnable], cross: CrossFitConfig, progress: Progress
) -> AllPhotos | None:
    if not cross.folds or not has_dataset(space):
        return None
    models = [model for model in artefacts if isinstance(model, OnnxModel)]
    fp32 = next((model for model in models if model.precision is Precision.FP32), None)
    with verified_photos(space, dataset_in(space).photos):
        result = all_photos_of(space, fp32, _compared_files(artefacts), cross, progress)
    if result.skipped:
        _log.warning("evaluated on the test photos only, not on all: %s", result.skipped)
    return result


def _gate(result: Evaluations, config: GateConfig) -> Gate:
    """Return the result of the gate. Where undecided limits are allowed, each is a warning."""
    gate = gate_from_evaluations(result.evaluations, config, result.all_photos)
    for text in unknowns(gate) if config.allow_undecided else ():
        _log.warning("the gate cannot tell: %s", text)
    return gate


def _scores(
    artefacts: Sequence[Runnable], photos: Sequence[Photo], progress: Progress
) -> tuple[dict[RunnerId, np.ndarray], list[Skipped]]:
    """Return the scores by runner, and the engines, GPU providers and TFLite files that cannot run on this machine."""
    decoded = DecodedPhotos(photos, artefacts[0].spec.preprocess)  # type: ignore[union-attr]  # the classifier
    scores: dict[RunnerId, np.ndarray] = {}
    skipped: list[Skipped] = []
    for artefact, way in [(item, way) for item in artefacts for way in shippable_ways(item)]:
        with ExitStack() as stack:
            runner = entered_runner(artefact, way, stack)
            if isinstance(runner, Skipped):
                skipped.append(runner)
            else:
                scores[runner.identity] = scores_from_runner(runner, photos, progress=progress, decoded=decoded)
    return scores, skipped
