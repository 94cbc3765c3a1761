"""The `build` command: builds the first precision in the bundle's order whose engine gives the golden scores."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed, GateFailed, RunFailed, TrtPoetsError
from trtpoets.core.files import storage_errors
from trtpoets.core.onnx_metadata import read_header
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
"""Errors after which the next precision is tried."""


@dataclass(frozen=True)
class BundleEngine:
    """The engine to run, and all attempts: the last one succeeded, those before it failed."""

    engine: Engine
    attempts: tuple[Attempt, ...]


def build(
    bundle: Bundle,
    config: EngineConfig,
    precisions: Sequence[Precision] = (),
    *,
    force: bool = False,
    progress: Progress = silent,
) -> BundleEngine:
    """Build the engine of `bundle` in its folder built/, check it with the golden photos, and record it.

    Precisions are tried in the given order, or else in the manifest's. If one can't be built or its scores differ from
    the golden ones, the next one is tried; the reason is in `attempts`, in built/build.json and in a warning. An
    up-to-date engine is kept, unless `force`.

    Raises BuildFailed with all reasons if none succeeds; MissingDependency or RunFailed if no engine can run on this
    device; StorageFailed, Busy.
    """
    order = tuple(precisions or bundle.manifest.order)
    # Raises an error now if an engine could not be checked after the build.
    libcuda.gpus()
    load_pycuda()
    with bundle.writing():
        asked = BuildOptions(**{**vars(config), "timeout_seconds": None}, precisions=order)
        ready = None if force else _ready(bundle, config, asked)
        if ready is not None:
            return ready
        attempts: list[Attempt] = []
        for index, precision in enumerate(order):
            model = bundle.onnx(precision)
            require_room(model, bundle.built)
            engine, attempt = _attempt(bundle, model, config, force, progress)
            attempts.append(attempt)
            if engine is not None:
                seal_record(bundle, engine.path.name, attempts, asked)
                return BundleEngine(engine, tuple(attempts))
            after = f"; next: {order[index + 1].value}" if index + 1 < len(order) else ""
            log.warning("%s can't be used: %s%s", precision.value, attempt.problem, after)
    raise _no_engine(attempts)


def plan_build(bundle: Bundle, config: EngineConfig, precisions: Sequence[Precision] = ()) -> tuple[BuildPlan, ...]:
    """The plans of what `build` would try with the same options, in its order, with problems. Writes nothing."""
    machine = machine_here(config.flavour)
    models = [bundle.onnx(precision) for precision in precisions or bundle.manifest.order]
    return tuple(
        plan_from_onnx(model, read_header(model.path).opset, config, _path(bundle, model.precision, config), machine)
        for model in models
    )


def require_first(built: BundleEngine) -> None:
    """Raise GateFailed if the engine does not have the first precision in the order."""
    first = built.attempts[0]
    if first.problem:
        raise GateFailed(
            f"{first.precision.value} was expected, but {built.engine.card.precision.value} was built: {first.problem}",
            hint=first.hint or "without --strict, the next precision is accepted",
            code="TP7003",
        )


def _path(bundle: Bundle, precision: Precision, config: EngineConfig) -> Path:
    return bundle.built / engine_file_name(precision.value, config)


def _ready(bundle: Bundle, config: EngineConfig, asked: BuildOptions) -> BundleEngine | None:
    """The engine of an earlier build with the same options, if it is unchanged; else None."""
    try:
        record = read_record(bundle)
        if record.asked != asked:
            return None
        precision = record.attempts[-1].precision
        engine = current_engine(bundle.onnx(precision), config, _path(bundle, precision, config))
    except (TrtPoetsError, IndexError):
        return None  # whatever it is, a new build puts it right
    return BundleEngine(engine, record.attempts) if engine is not None and engine.path.name == record.engine else None


def _attempt(
    bundle: Bundle, model: OnnxModel, config: EngineConfig, force: bool, progress: Progress
) -> tuple[Engine | None, Attempt]:
    """Build one precision and check its golden scores; returns the engine (None if it failed) and the attempt."""
    precision, path = model.precision, _path(bundle, model.precision, config)
    verdict = None
    try:
        manifest_sha256 = bundle.manifest.files[onnx_name(precision)]
        engine = None if force else current_engine(model, config, path)
        engine = engine or engine_from_onnx(model, config, path, progress, manifest_sha256=manifest_sha256)
        verdict = verdict_of(engine, bundle.folder / "golden")
    except _NEXT as error:
        problem, hint = error.message, error.hint
    else:
        if verdict.passed:
            return engine, Attempt(precision, verdict=verdict)
        problem, hint = golden_problem(verdict), ""
    for file in (path, card_of(path)):  # delete the engine that must not be used
        with storage_errors(file, "delete"):
            file.unlink(missing_ok=True)
    return None, Attempt(precision, problem, hint, verdict)


def golden_problem(verdict: Verdict) -> str:
    """The message for scores that differ from the golden ones."""
    return (
        f"its scores differ from the golden ones by up to {verdict.max_difference:.3g} ({verdict.worst}), but only "
        f"{verdict.tolerance:.3g} is allowed; {verdict.same_answers} of {verdict.photos} answers are the same"
    )


def _no_engine(attempts: Sequence[Attempt]) -> BuildFailed:
    reasons = list(dict.fromkeys(attempt.problem for attempt in attempts))
    if len(reasons) == 1:
        return BuildFailed(f"no engine can be built on this device: {reasons[0]}", hint=attempts[0].hint, code="TP7004")
    problems = "; ".join(f"{attempt.precision.value}: {attempt.problem}" for attempt in attempts)
    return BuildFailed(f"no engine can be built on this device: {problems}", hint=attempts[-1].hint, code="TP7005")
