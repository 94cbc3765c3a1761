"""ONNX to engines, of each precision and flavour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import MissingDependency
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.spec import BatchRange, Engine, Flavour, OnnxModel, Precision
from trtpoets.core.workspace import Workspace, engine_file_name
from trtpoets.device.engine import current_engine, engine_from_onnx, flavour_available
from trtpoets.device.engine_config import EngineConfig
from trtpoets.pipeline.stages import ENGINES, onnx_in, writing

if TYPE_CHECKING:
    from collections.abc import Sequence


def build(
    model: str,
    *,
    precisions: Sequence[Precision] = tuple(Precision),
    flavour: Flavour | None = None,
    targets: Sequence[str] = (),
    batch: BatchRange | None = None,
    workspace_mib: int = EngineConfig.workspace_mib,
    timeout_seconds: float | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Engine, ...]:
    """Build engines of `model`: a name under `engines`, or an ONNX file that trtpoets wrote.

    `flavour` None means every flavour that can build here. An engine that is up to date is left as it is, unless
    `force`. Raises MissingDependency when no flavour can build, BuildFailed with what TensorRT said.
    """
    flavours = (flavour,) if flavour else flavours_here()
    configs = [
        EngineConfig(
            flavour=each,
            targets=tuple(targets),
            batch=batch or BatchRange(),
            workspace_mib=workspace_mib,
            timeout_seconds=timeout_seconds,
        )
        for each in flavours
    ]
    if model.lower().endswith(".onnx"):
        onnx = read_onnx(Path(model))
        return tuple(
            _build(
                onnx,
                config,
                onnx.path.with_name(engine_file_name(onnx.path.stem, config.flavour, targets)),
                force,
                progress,
            )
            for config in configs
        )
    space = Workspace(Path(engines), model)
    with writing(space):
        models = [onnx_in(space, precision) for precision in precisions]
        return tuple(
            _build(onnx, config, space.engine(onnx.precision, config.flavour, config.targets), force, progress)
            for config in configs
            for onnx in models
        )


def flavours_here() -> tuple[Flavour, ...]:
    """The flavours that can build on this machine. Raises MissingDependency, with each one's reason, when none can."""
    reasons = {flavour: flavour_available(flavour) for flavour in Flavour}
    able = tuple(flavour for flavour, reason in reasons.items() if reason is None)
    if not able:
        said = "; ".join(f"{flavour.value}: {reason}" for flavour, reason in reasons.items())
        raise MissingDependency(f"no TensorRT can build here: {said}", hint="pip install 'trtpoets[rtx]'")
    return able


def _build(onnx: OnnxModel, config: EngineConfig, out: Path, force: bool, progress: Progress) -> Engine:
    ready = None if force else current_engine(onnx, config, out)
    return ready or engine_from_onnx(onnx, config, out, progress)
