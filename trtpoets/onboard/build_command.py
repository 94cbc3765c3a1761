"""The engine for this device: the first precision, in the bundle's order, that builds and gives the golden scores."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed, GateFailed, RunFailed, TrtPoetsError
from trtpoets.core.files import storage_errors
from trtpoets.core.onnx_metadata import facts_of
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import engine_file_name
from trtpoets.core.types import Engine, OnnxModel, Precision
from trtpoets.core.workspace import card_of
from trtpoets.device.build.build_plan import BuildPlan, machine_here, plan_from_onnx
from trtpoets.device.build.engine import current_engine, engine_from_onnx
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.cuda import load_pycuda
from trtpoets.judge.golden import Verdict
from trtpoets.onboard.build_record import Attempt, BuildOptions
from trtpoets.onboard.golden_check import verdict_of
from trtpoets.onboard.installed_bundle import Bundle, onnx_name, read_record, seal_record
from trtpoets.onboard.resources import require_room

log = logging.getLogger(__name__)

_NEXT = (BadArtefact, BadInput, BuildFailed, RunFailed)
"""What one precision may fail by, and another need not."""


@dataclass(frozen=True)
class Built:
    """The engine to run, and what was tried: the last attempt is the engine's, those before it failed."""

    engine: Engine
    attempts: tuple[Attempt, ...]


def build(
    bundle: Bundle,
    config: EngineConfig,
    precisions: Sequence[Precision] = (),
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Built:
    """Build the engine of `bundle` into its folder built/, prove it by the golden photos, and write down which it is.

    Precisions are tried in the order given, or else in the manifest's. One that does not build, or whose scores are not
    the golden ones, is left for the next, with its reason in `attempts`, in built/build.json and as a warning. What is
    up to date is left as it is, unless `force`.

    Raises BuildFailed where none is left, with each one's reason; MissingDependency or RunFailed where no engine can
    run here at all; StorageFailed, Busy.
    """
    order = tuple(precisions or bundle.manifest.order)
    # An engine that can't be tried here is not built for nothing.
    libcuda.gpus()
    load_pycuda()
    with bundle.writing():
        asked = BuildOptions(**{**vars(config), "timeout_seconds": None}, precisions=order)
        ready = None if force else _ready(bundle, config, asked)
        if ready is not None:
            return ready
        attempts: list[Attempt] = []
        for place, precision in enumerate(order):
            model = bundle.onnx(precision)
            require_room(model, bundle.built)
            engine, attempt = _attempt(bundle, model, config, force, progress)
            attempts.append(attempt)
            if engine is not None:
                seal_record(bundle, engine.path.name, attempts, asked)
                return Built(engine, tuple(attempts))
            after = f"; next: {order[place + 1].value}" if place + 1 < len(order) else ""
            log.warning("no %s here: %s%s", precision.value, attempt.problem, after)
    raise _nothing(attempts)


def plan_build(bundle: Bundle, config: EngineConfig, precisions: Sequence[Precision] = ()) -> tuple[BuildPlan, ...]:
    """What `build` would try with the same words, in its order, and what stands in the way; nothing is written."""
    machine = machine_here(config.flavour)
    models = [bundle.onnx(precision) for precision in precisions or bundle.manifest.order]
    return tuple(
        plan_from_onnx(each, facts_of(each.path).opset, config, _path(bundle, each.precision, config), machine)
        for each in models
    )


def require_first(built: Built) -> None:
    """Raise GateFailed where the engine is not of the precision that was to be tried first."""
    first = built.attempts[0]
    if first.problem:
        raise GateFailed(
            f"{first.precision.value} comes first, and {built.engine.card.precision.value} was built: {first.problem}",
            hint=first.hint or "without --strict, the next precision will do",
            code="TP7003",
        )


def _path(bundle: Bundle, precision: Precision, config: EngineConfig) -> Path:
    return bundle.built / engine_file_name(precision.value, config)


def _ready(bundle: Bundle, config: EngineConfig, asked: BuildOptions) -> Built | None:
    """What an earlier build that was told the same has left, if it still is what it was."""
    try:
        record = read_record(bundle)
        if record.asked != asked:
            return None
        precision = record.attempts[-1].precision
        engine = current_engine(bundle.onnx(precision), config, _path(bundle, precision, config))
    except (TrtPoetsError, IndexError):
        return None  # whatever it is, a new build puts it right
    return Built(engine, record.attempts) if engine is not None and engine.path.name == record.engine else None


def _attempt(
    bundle: Bundle, model: OnnxModel, config: EngineConfig, force: bool, progress: Progress
) -> tuple[Engine | None, Attempt]:
    """Build one precision and ask it for the golden scores: its engine, or None and why not."""
    precision, path = model.precision, _path(bundle, model.precision, config)
    verdict = None
    try:
        vouched = bundle.manifest.files[onnx_name(precision)]
        engine = None if force else current_engine(model, config, path)
        engine = engine or engine_from_onnx(model, config, path, progress, vouched_sha256=vouched)
        verdict = verdict_of(engine, bundle.folder / "golden")
    except _NEXT as error:
        problem, hint = error.message, error.hint
    else:
        if verdict.passed:
            return engine, Attempt(precision, verdict=verdict)
        problem, hint = golden_problem(verdict), ""
    for file in (path, card_of(path)):  # what is not to be run does not lie about
        with storage_errors(file, "delete"):
            file.unlink(missing_ok=True)
    return None, Attempt(precision, problem, hint, verdict)


def golden_problem(verdict: Verdict) -> str:
    """What is wrong with scores that did not pass, in words."""
    return (
        f"its scores are not those of the golden photos: up to {verdict.max_difference:.3g} away ({verdict.worst}), "
        f"where {verdict.tolerance:.3g} is allowed; {verdict.same_answers} of {verdict.photos} answers are the same"
    )


def _nothing(attempts: Sequence[Attempt]) -> BuildFailed:
    reasons = list(dict.fromkeys(each.problem for each in attempts))
    if len(reasons) == 1:
        return BuildFailed(f"no engine can be built here: {reasons[0]}", hint=attempts[0].hint, code="TP7004")
    said = "; ".join(f"{each.precision.value}: {each.problem}" for each in attempts)
    return BuildFailed(f"no engine can be built here: {said}", hint=attempts[-1].hint, code="TP7005")
