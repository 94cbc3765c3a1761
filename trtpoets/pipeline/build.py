"""Builds TensorRT engines from the ONNX files of a run, for each precision and flavour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import BadInput, MissingDependency
from trtpoets.core.onnx_file import check_onnx, opset_of, read_onnx
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import engine_file_name, onnx_file_name
from trtpoets.core.shell_commands import command
from trtpoets.core.types import BatchRange, Engine, Flavour, Int8Form, OnnxModel, Precision
from trtpoets.core.verified_files import verifying_once
from trtpoets.core.workspace import Workspace
from trtpoets.device.build.build_plan import FP32_REMAINDER, BuildPlan, machine_here, plan_from_onnx
from trtpoets.device.build.engine import current_engine, engine_from_onnx, flavour_available, require_buildable
from trtpoets.device.build.engine_config import EngineConfig, batch_for
from trtpoets.device.build.tensorrt_config import weakly_typed
from trtpoets.device.gpu.cuda_wheels import extra_here
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.int8_build_input import onnx_to_build
from trtpoets.pipeline.lineage import onnx_in
from trtpoets.pipeline.recorded_commands import build_command

if TYPE_CHECKING:
    from collections.abc import Sequence

_VARIANT = "built from int8.half.onnx, which build writes first: its layers that are not quantised are FP16, not FP32"


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
    """Build engines from `model`: the name of a run in the folder `engines`, or an ONNX file written by trtpoets.

    `flavour` None builds with every flavour that can build on this machine. Engines that are up to date are not built
    again unless `force` is set. `batch` None is 1:8:32, or the batch of a network whose batch is fixed. `EngineConfig`
    describes the options. Raises MissingDependency if no flavour can build, BadInput before any build for options that
    a flavour or GPU does not support, and BuildFailed with TensorRT's message.
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
    with verifying_once() if _is_file(model) else writing(Workspace(Path(engines), model)):
        jobs = _jobs(model, precisions, configs, engines, write=True, any_batch=batch is None)
        command = _recorded_command(model, precisions, flavour, jobs[0][1] if jobs else configs[0], engines)
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
    """Return what `build` would build with the same arguments, and whether this machine can; nothing is written.

    `options` are those of `build`. Each TensorRT library is loaded once to query this machine. The plans list what the
    machine lacks. Raises MissingArtefact or BadArtefact for missing or damaged ONNX files.
    """
    batch = options.pop("batch", None)
    configs = _configs(flavour, batch=batch or BatchRange(), **options)
    machines = {config.flavour: machine_here(config.flavour) for config in configs}
    plans = []
    with verifying_once():
        for onnx, config, out in _jobs(model, precisions, configs, engines, write=False, any_batch=batch is None):
            plan = plan_from_onnx(onnx, opset_of(check_onnx(onnx.path)), config, out, machines[config.flavour])
            if not _is_file(model):  # building a run writes the variant first
                plan = replace(plan, notes=tuple(_VARIANT if note == FP32_REMAINDER else note for note in plan.notes))
            plans.append(plan)
    return tuple(plans)


def _configs(flavour: Flavour | None, **options: Any) -> list[EngineConfig]:
    return [EngineConfig(flavour=item, **options) for item in ((flavour,) if flavour else flavours_here())]


def _is_file(model: str) -> bool:
    """Return whether `model` is a file of any kind (such as net.onnx.gz), and not the name of a run."""
    return model.lower().endswith(".onnx") or user_path(model).is_file()


def _jobs(
    model: str,
    precisions: Sequence[Precision],
    configs: Sequence[EngineConfig],
    engines: Path | str,
    *,
    write: bool,
    any_batch: bool = False,
) -> list[tuple[OnnxModel, EngineConfig, Path]]:
    """Return (ONNX file to build from, configuration, path of the engine) for each ONNX file and configuration.

    With `any_batch`, engines of a network with a fixed batch are for exactly that. With `write`, variants of the ONNX
    files that a library needs are written. A file given by path is built unchanged.
    """
    space = None if _is_file(model) else Workspace(Path(engines), model)
    models = [read_onnx(user_path(model))] if space is None else [onnx_in(space, precision) for precision in precisions]
    for onnx in models:
        if onnx.form is Int8Form.CPU:
            raise BadInput(
                f"{onnx.path} is INT8 for ONNX Runtime on CPUs: TensorRT has no unsigned activations",
                hint=f"build TensorRT's form: {command('build', onnx.path.with_name(onnx_file_name(Precision.INT8)))}",
                code="TP8200",
            )
    return [
        (
            _file_to_build(space, onnx, config, write),
            config,
            onnx.path.with_name(engine_file_name(onnx.path.stem, config)),
        )
        for asked in configs
        for onnx in models
        for config in (replace(asked, batch=batch_for(onnx, None if any_batch else asked.batch)),)
    ]


def _file_to_build(space: Workspace | None, onnx: OnnxModel, config: EngineConfig, write: bool) -> OnnxModel:
    """Return the ONNX file that the library builds from: `onnx`, or the variant of int8.onnx with FP16 layers."""
    if space is None or not _needs_fp16_variant(onnx, config):
        return onnx
    return onnx_to_build(space, onnx, write=write)


def _needs_fp16_variant(onnx: OnnxModel, config: EngineConfig) -> bool:
    """Return whether `onnx` is INT8, and an installed library would run its layers without Q/DQ pairs in FP32."""
    if onnx.precision is not Precision.INT8 or flavour_available(config.flavour) is not None:
        return False
    return not weakly_typed(load_tensorrt(config.flavour), onnx.precision, config.dla_core is not None)


def flavours_here() -> tuple[Flavour, ...]:
    """Return the flavours that can build on this machine. Raises MissingDependency with the reasons if none can."""
    reasons = {flavour: flavour_available(flavour) for flavour in Flavour}
    available = tuple(flavour for flavour, reason in reasons.items() if reason is None)
    if not available:
        explanation = "; ".join(f"{flavour.value}: {reason}" for flavour, reason in reasons.items())
        raise MissingDependency(
            f"no TensorRT library can build on this machine: {explanation}",
            hint=f"pip install 'trtpoets[{extra_here(Flavour.RTX)}]'",
            code="TP8009",
        )
    return available


def _build(onnx: OnnxModel, config: EngineConfig, out: Path, command: str, force: bool, progress: Progress) -> Engine:
    up_to_date = None if force else current_engine(onnx, config, out)
    return up_to_date or engine_from_onnx(onnx, config, out, progress, command=command)


def _recorded_command(
    model: str, precisions: Sequence[Precision], flavour: Flavour | None, config: EngineConfig, engines: Path | str
) -> str:
    """Return the command for the card; "" for an ONNX file given by path, whose engines are in no report."""
    return "" if _is_file(model) else build_command(Workspace(Path(engines), model), precisions, flavour, config)
