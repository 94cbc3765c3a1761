"""Engines and ONNX files to numbers: how right they are, and how fast."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.spec import Classifier, Engine, OnnxModel, Photo, TfliteModel
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.device.runners.ort import gpu_providers
from trtpoets.judge.benchmark import BenchConfig, benchmark_from_artefacts
from trtpoets.judge.benchmark_file import read_benchmark, write_benchmark
from trtpoets.judge.compare import compared
from trtpoets.judge.evaluate import evaluation_from_scores, scores_from_runner
from trtpoets.judge.gate import GateConfig, gate_from_evaluations, require_passed, unknowns
from trtpoets.judge.speed_gate import require_limits, require_speed
from trtpoets.pipeline.current import (
    artefacts_in,
    benchmark_key,
    evaluation_key,
    groups_to_judge,
    identities,
    photos_to_judge,
    recorded,
)
from trtpoets.pipeline.lineage import stale_in
from trtpoets.pipeline.photos import require_photos, verified_photos
from trtpoets.pipeline.recorded import bench_command, evaluate_command
from trtpoets.pipeline.stages import ENGINES, writing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from trtpoets.core.runner_id import RunnerId
    from trtpoets.device.runners.base import Runner

__all__ = ["bench", "evaluate", "require_gate", "require_limits", "require_speed"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skipped:
    """Something that could not be done here, and why."""

    what: str
    why: str


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
            _require_trusted(artefacts)
            with verified_photos(space, photos):
                evaluated = _evaluated(artefacts, photos, groups, progress)
            command = evaluate_command(space, None)
            details = {**evaluated, "judged": recorded(contents, photos), "command": command}
            # Before the gate, which may refuse its options: scores that took minutes are kept.
            seal_card(space.evaluation, key=key, files=[], details=details)
        if gate is not None:
            details = {**details, "command": evaluate_command(space, gate), "gate": _gate(details, gate)}
            seal_card(space.evaluation, key=key, files=[], details=details)
        return _with_stale(space, details)


def require_gate(name: str, evaluation: Mapping[str, Any], engines: Path | str = ENGINES) -> None:
    """Raise GateFailed when the gate in what `evaluate` returned failed, GateUndecided when it can't tell.

    No gate is no failure; with `allow_undecided` in its configuration, "cannot tell" is none either.
    """
    require_passed(evaluation.get("gate"), name, Path(engines))


def _require_trusted(artefacts: Sequence[Runnable]) -> None:
    """Raise BadArtefact where the classifier, which TensorFlow would open, is not known to be this user's."""
    for each in artefacts:
        if isinstance(each, Classifier):
            require_trusted(each.folder, each.foreign)


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


def _with_stale(space: Workspace, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """`details` with the files that were left out because they are not of the classifier that is there now."""
    stale = [each.to_dict() for each in stale_in(space)]
    return {**details, "skipped": [*details["skipped"], *stale]} if stale else details


def _gate(details: Mapping[str, Any], config: GateConfig) -> dict[str, Any]:
    """The gate's judgement as JSON. What it can't tell is a warning where that is allowed."""
    found = gate_from_evaluations(details["evaluations"], config).to_dict()
    for text in unknowns(found) if config.allow_undecided else ():
        _log.warning("the gate cannot tell: %s", text)
    return found


def bench(
    name: str,
    config: BenchConfig | None = None,
    *,
    compare: Path | str | None = None,
    engines: Path | str = ENGINES,
    force: bool = True,
    progress: Progress = silent,
) -> Mapping[str, Any]:
    """Measure every runner on the test photos, each in a process of its own, TensorFlow as the baseline.

    Returns the details of engines/<name>/benchmark.json. Measures anew unless `force` is False and nothing changed.
    With `compare`, an older benchmark.json, what changed since is in it, under "compared".
    Raises Interrupted on Ctrl-C, after writing what was measured until then, marked incomplete.
    """
    config = config or BenchConfig()
    before = read_benchmark(user_path(compare)) if compare is not None else None
    space = Workspace(Path(engines), name)
    with writing(space):
        artefacts = artefacts_in(space)
        photos = photos_to_judge(space)
        contents = identities(space, artefacts)
        key = benchmark_key(contents, photos, config)
        known = None if force else open_card(space.benchmark, key)
        if known is not None and not known.get("incomplete"):
            known = _with_stale(space, known)
            return known if before is None else {**known, "compared": compared(before, known)}
        require_photos(space, photos)
        _require_trusted(artefacts)
        able, skipped = _able(artefacts)
        measured = benchmark_from_artefacts(able, photos, config, progress, _ways(able, config), space.loadgen)
        # Each runner has a process of its own, and a photo that changed is its failure there.
        if measured.failures or not all(row.valid for row in measured.measurements):
            require_photos(space, photos)
        details = write_benchmark(
            space.benchmark,
            measured,
            key=key,
            name=name,
            again=bench_command(space, config, compare),
            artefacts=dict(zip(map(_name, artefacts), contents, strict=True)),
            skipped=[vars(each) for each in dict.fromkeys(skipped)],
            before=before,
        )
        return _with_stale(space, details)


def _ways(artefacts: Sequence[Runnable], config: BenchConfig) -> dict[int, tuple[Way, ...]]:
    """The ways to run each artefact, by its place: those that can be shipped, and those asked for to compare with."""
    asked = {Way.CPU: config.cpu, Way.XLA: config.xla, Way.KERAS: config.keras}
    beside = tuple(way for way, wanted in asked.items() if wanted)
    return {
        place: (*_shippable(artefact), *(beside if isinstance(artefact, Classifier) else ()))
        for place, artefact in enumerate(artefacts)
    }


def _shippable(artefact: Runnable) -> tuple[Way, ...]:
    """The plain way to run an artefact, and for an ONNX file those that drive a GPU here."""
    more = gpu_providers() if isinstance(artefact, OnnxModel) else []
    return (Way.PLAIN, *(Way(provider) for provider in more))


def _name(artefact: Runnable) -> str:
    return (artefact.folder if isinstance(artefact, Classifier) else artefact.path).name


def _scores(
    artefacts: Sequence[Runnable], photos: Sequence[Photo], progress: Progress
) -> tuple[dict[RunnerId, np.ndarray], list[Skipped]]:
    """Scores by runner. What needs a GPU or TFLite is skipped where it can't run; TensorFlow and ONNX answer."""
    scores: dict[RunnerId, np.ndarray] = {}
    skipped: list[Skipped] = []
    for artefact, way in [(each, way) for each in artefacts for way in _shippable(each)]:
        with ExitStack() as stack:
            runner = _entered(artefact, way, stack)
            if isinstance(runner, Skipped):
                skipped.append(runner)
            else:
                scores[runner.identity] = scores_from_runner(runner, photos, progress=progress)
    return scores, skipped


def _able(artefacts: Sequence[Runnable]) -> tuple[list[Runnable], list[Skipped]]:
    """Leave out the engines and TFLite files that can't be entered here, with their reasons."""
    able: list[Runnable] = []
    skipped: list[Skipped] = []
    for artefact in artefacts:
        with ExitStack() as stack:
            found = _entered(artefact, Way.PLAIN, stack) if isinstance(artefact, (Engine, TfliteModel)) else None
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            able.append(artefact)
    return able, skipped


def _entered(artefact: Runnable, way: Way, stack: ExitStack) -> Runner | Skipped:
    """The artefact's runner, entered in `stack`; or why it, needing a GPU or TFLite, can't be entered here."""
    runner = open_runner(artefact, way=way)
    try:
        return stack.enter_context(runner)
    except (MissingDependency, RunFailed) as error:
        if isinstance(artefact, Engine):
            return Skipped(f"running {artefact.card.flavour.value} engines", error.message)
        if way is not Way.PLAIN or isinstance(artefact, TfliteModel):
            return Skipped(f"running {runner.name}", error.message)
        raise
