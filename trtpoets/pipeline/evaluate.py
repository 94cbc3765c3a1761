"""Scores the test photos with every artefact of a run, and sets a gate on the result."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.types import Photo
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.device.runners import Runnable
from trtpoets.judge.evaluation import evaluation_from_scores, scores_from_runner
from trtpoets.judge.gate import GateConfig, gate_from_evaluations, require_passed, unknowns
from trtpoets.pipeline.artefacts import ENGINES, writing
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
    Skipped,
    entered_runner,
    require_trusted_classifier,
    shippable_ways,
    with_stale,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from trtpoets.core.runner_id import RunnerId

__all__ = ["evaluate", "require_gate"]

_log = logging.getLogger(__name__)


def evaluate(
    name: str,
    gate: GateConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> Mapping[str, Any]:
    """Score the test photos with TensorFlow, and every ONNX file, TFLite file and engine that can run here.

    Returns the details of engines/<name>/evaluation.json: {"evaluations": [...], "skipped": [...], "groups": [...]},
    and "gate" when one is set, now or before on the same scores. "groups" has the independent group of each test photo,
    None where each is its own. A gate that fails or can't tell is told there and raises nothing: `require_gate` does.
    """
    space = Workspace(Path(engines), name)
    with writing(space):
        artefacts = artefacts_in(space)
        photos = photos_to_judge(space)
        contents = identities(space, artefacts)
        groups = groups_to_judge(space, photos)
        key = evaluation_key(contents, photos, groups)
        details = None if force else open_card(space.evaluation, key)
        if details is None:
            require_trusted_classifier(artefacts)
            with verified_photos(space, photos):
                evaluated = _evaluated(artefacts, photos, groups, progress)
            command = evaluate_command(space, None)
            details = {**evaluated, "judged": recorded(contents, photos), "command": command}
            # Before the gate, which may refuse its options: scores that took minutes are kept.
            seal_card(space.evaluation, key=key, files=[], details=details)
        if gate is not None:
            details = {**details, "command": evaluate_command(space, gate), "gate": _gate(details, gate)}
            seal_card(space.evaluation, key=key, files=[], details=details)
        return with_stale(space, details)


def require_gate(name: str, evaluation: Mapping[str, Any], engines: Path | str = ENGINES) -> None:
    """Raise GateFailed when the gate in what `evaluate` returned failed, GateUndecided when it can't tell.

    No gate is no failure; with `allow_undecided` in its configuration, "cannot tell" is none either.
    """
    require_passed(evaluation.get("gate"), name, Path(engines))


def _evaluated(
    artefacts: Sequence[Runnable], photos: Sequence[Photo], groups: Sequence[int] | None, progress: Progress
) -> Mapping[str, Any]:
    scores, skipped = _scores(artefacts, photos, progress)
    labels = artefacts[0].spec.labels  # type: ignore[union-attr]  # the classifier comes first
    reference = scores[TENSORFLOW]
    return {
        "evaluations": [
            evaluation_from_scores(
                runner, each, photos, labels, None if runner == TENSORFLOW else reference, groups
            ).to_dict()
            for runner, each in scores.items()
        ],
        "groups": groups and list(groups),
        "skipped": [vars(each) for each in dict.fromkeys(skipped)],
    }


def _gate(details: Mapping[str, Any], config: GateConfig) -> dict[str, Any]:
    """The gate's judgement as JSON. What it can't tell is a warning where that is allowed."""
    found = gate_from_evaluations(details["evaluations"], config).to_dict()
    for text in unknowns(found) if config.allow_undecided else ():
        _log.warning("the gate cannot tell: %s", text)
    return found


def _scores(
    artefacts: Sequence[Runnable], photos: Sequence[Photo], progress: Progress
) -> tuple[dict[RunnerId, np.ndarray], list[Skipped]]:
    """Scores by runner. What needs a GPU or TFLite is skipped where it can't run; TensorFlow and ONNX answer."""
    scores: dict[RunnerId, np.ndarray] = {}
    skipped: list[Skipped] = []
    for artefact, way in [(each, way) for each in artefacts for way in shippable_ways(each)]:
        with ExitStack() as stack:
            runner = entered_runner(artefact, way, stack)
            if isinstance(runner, Skipped):
                skipped.append(runner)
            else:
                scores[runner.identity] = scores_from_runner(runner, photos, progress=progress)
    return scores, skipped
