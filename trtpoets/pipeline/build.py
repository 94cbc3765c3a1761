"""ONNX to engines, of each precision and flavour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import MissingDependency
from trtpoets.core.onnx_file import check_onnx, opset_of, read_onnx
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import engine_file_name
from trtpoets.core.types import BatchRange, Engine, Flavour, OnnxModel, Precision
from trtpoets.core.verified_files import verifying_once
from trtpoets.core.workspace import Workspace
from trtpoets.device.build.build_plan import FP32_REMAINDER, BuildPlan, machine_here, plan_from_onnx
from trtpoets.device.build.engine import current_engine, engine_from_onnx, flavour_available, require_buildable
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.tensorrt_config import weakly_typed
from trtpoets.device.gpu.cuda_wheels import extra_here
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.int8_build_input import onnx_to_build
from trtpoets.pipeline.lineage import onnx_in
from trtpoets.pipeline.recorded_commands import build_command

if TYPE_CHECKING:
    from collections.abc import Sequence

_VARIANT = "built from int8.half.onnx, which build writes first: FP16 where int8.onnx is FP32 and not quantised"


def build(
    model: str,
    *,
    precisions: Sequence[Precision] = tuple(Precision),
    flavour: Flavour | None = None,
    targets: Sequence[str] = (),
    batch: BatchRange | None = None,
    workspace_mib: int = EngineConfig.workspace_mib,
    optimization_level: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    dla_core: int | None = None,
    timeout_seconds: float | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Engine, ...]:
    """Build engines of `model`: a name under `engines`, or an ONNX file that trtpoets wrote.

    `flavour` None means every flavour that can build here. An engine that is up to date is left as it is, unless
    `force`. What the options mean is at `EngineConfig`. Raises MissingDependency when no flavour can build, BadInput
    before anything is built for what some flavour or GPU can't do, BuildFailed with what TensorRT said.
    """
    configs = _configs(
        flavour,
        targets=tuple(targets),
        batch=batch or BatchRange(),
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        dla_core=dla_core,
        timeout_seconds=timeout_seconds,
    )
    command = _recorded(model, precisions, flavour, configs[0], engines)
    with verifying_once() if _is_file(model) else writing(Workspace(Path(engines), model)):
        jobs = _jobs(model, precisions, configs, engines, write=True)
        for onnx, config, _ in jobs:
            require_buildable(onnx, config)
        return tuple(_build(*job, command, force, progress) for job in jobs)


def plan_build(
    model: str,
    *,
    precisions: Sequence[Precision] = tuple(Precision),
    flavour: Flavour | None = None,
    engines: Path | str = ENGINES,
    **options: Any,
) -> tuple[BuildPlan, ...]:
    """What `build` would do with the same words, and whether it can here; nothing is written.

    `options` are those of `build`. Each library is started once, to ask what it finds on this machine. What the machine
    lacks is told in the plans; raised is what ONNX files lack (MissingArtefact, BadArtefact).
    """
    configs = _configs(flavour, **options)
    machines = {config.flavour: machine_here(config.flavour) for config in configs}
    plans = []
    with verifying_once():
        for onnx, config, out in _jobs(model, precisions, configs, engines, write=False):
            plan = plan_from_onnx(onnx, opset_of(check_onnx(onnx.path)), config, out, machines[config.flavour])
            if not _is_file(model):  # the build of a run would write the variant first
                plan = replace(plan, notes=tuple(_VARIANT if note == FP32_REMAINDER else note for note in plan.notes))
            plans.append(plan)
    return tuple(plans)


def _configs(flavour: Flavour | None, **options: Any) -> list[EngineConfig]:
    return [EngineConfig(flavour=each, **options) for each in ((flavour,) if flavour else flavours_here())]


def _is_file(model: str) -> bool:
    """Whether this is a file: one that is of another kind, as net.onnx.gz, is no name of a run either."""
    return model.lower().endswith(".onnx") or user_path(model).is_file()


def _jobs(
    model: str, precisions: Sequence[Precision], configs: Sequence[EngineConfig], engines: Path | str, *, write: bool
) -> list[tuple[OnnxModel, EngineConfig, Path]]:
    """Each ONNX file, in the form that it is built from, with each configuration, and where its engine goes.

    Forms that are not there are made where `write` says so. A file that was named is built as it is.
    """
    space = None if _is_file(model) else Workspace(Path(engines), model)
    models = [read_onnx(user_path(model))] if space is None else [onnx_in(space, each) for each in precisions]
    return [
        (_form(space, onnx, config, write), config, onnx.path.with_name(engine_file_name(onnx.path.stem, config)))
        for config in configs
        for onnx in models
    ]


def _form(space: Workspace | None, onnx: OnnxModel, config: EngineConfig, write: bool) -> OnnxModel:
    """The file that is built of a run's ONNX file; the file itself where the library is not here."""
    if space is None or not _typed_by_file(onnx, config):
        return onnx
    return onnx_to_build(space, onnx, write=write)


def _typed_by_file(onnx: OnnxModel, config: EngineConfig) -> bool:
    """Whether this is an INT8 file for a library that is here and runs in FP32 what such a file does not quantise."""
    if onnx.precision is not Precision.INT8 or flavour_available(config.flavour) is not None:
        return False
    return not weakly_typed(load_tensorrt(config.flavour), onnx.precision, config.dla_core is not None)


def flavours_here() -> tuple[Flavour, ...]:
    """The flavours that can build on this machine. Raises MissingDependency, with each one's reason, when none can."""
    reasons = {flavour: flavour_available(flavour) for flavour in Flavour}
    able = tuple(flavour for flavour, reason in reasons.items() if reason is None)
    if not able:
        said = "; ".join(f"{flavour.value}: {reason}" for flavour, reason in reasons.items())
        raise MissingDependency(
            f"no TensorRT can build here: {said}",
            hint=f"pip install 'trtpoets[{extra_here(Flavour.RTX)}]'",
            code="TP8009",
        )
    return able


def _build(onnx: OnnxModel, config: EngineConfig, out: Path, command: str, force: bool, progress: Progress) -> Engine:
    ready = None if force else current_engine(onnx, config, out)
    return ready or engine_from_onnx(onnx, config, out, progress, command=command)


def _recorded(
    model: str, precisions: Sequence[Precision], flavour: Flavour | None, config: EngineConfig, engines: Path | str
) -> str:
    """The command that builds again; "" for an ONNX file outside of a run, whose engines are in no report."""
    return "" if _is_file(model) else build_command(Workspace(Path(engines), model), precisions, flavour, config)
