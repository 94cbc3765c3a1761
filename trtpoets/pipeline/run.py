"""Runs the complete pipeline, from photos to a report, and skips the stages that are up to date."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.convert.int8.calibration import CalibrationConfig
from trtpoets.core.errors import ConversionFailed, MissingDependency, NoCpuForm
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Flavour, Precision
from trtpoets.core.workspace import Workspace
from trtpoets.device.gpu.libcuda import detect
from trtpoets.judge.bench.benchmark import BenchConfig
from trtpoets.pipeline.adopt import AdoptConfig, adopt
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.bench import bench
from trtpoets.pipeline.build import build
from trtpoets.pipeline.demo import solar_cells
from trtpoets.pipeline.evaluate import evaluate
from trtpoets.pipeline.export import export
from trtpoets.pipeline.quantize import quantize
from trtpoets.pipeline.report import report
from trtpoets.pipeline.retrain import RetrainConfig, retrain

if TYPE_CHECKING:
    from trtpoets.reporting.model import Report

_log = logging.getLogger(__name__)


_BENCH = BenchConfig(ratio_within=0.05, wall_seconds=15.0, warmup_seconds=0.25, min_count=22, rounds=40, gpu_rounds=20)
"""The benchmark of `run` ends when each ratio is known to ±5 %, or after its time; `trtpoets bench` has no time limit.

Rounds are short, because the width of an interval depends on their number more than on their length.
"""


def usual_bench() -> BenchConfig:
    """Return the configuration of the benchmark of `run`.

    Without a GPU it measures one photo at a time only: batches of 8 would take as long again, so that neither batch
    size would have enough rounds.
    """
    return _BENCH if detect().gpus else replace(_BENCH, batches=(1,))


@dataclass(frozen=True)
class RunConfig:
    """The options that `run` passes to the stages. With `model`, that file is adopted instead of training.

    `cpu_form` is that of `quantize`.
    """

    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    bench: BenchConfig = field(default_factory=usual_bench)
    flavour: Flavour | None = None
    targets: tuple[str, ...] = ()
    model: Path | None = None
    adopt: AdoptConfig = field(default_factory=AdoptConfig)
    cpu_form: bool | None = None


def run(
    photos: Path | str,
    name: str,
    config: RunConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
    workers: str = "",
) -> Report:
    """Train (or adopt `config.model`), export, quantize, build, evaluate, bench and report; returns the report.

    Continues where an earlier run stopped. If no TensorRT library can build here, the build stage is skipped and the
    report gives the reason. A network that can't become INT8 is run in FP32 and FP16, and one without a form for CPUs
    with int8.onnx, each with a warning. Every other error is raised, and the finished stages are kept. `workers` are
    those of `retrain`.
    """
    config = config or RunConfig()
    with writing(Workspace(Path(engines), name)):
        if config.model is None:
            retrain(photos, name, config.retrain, engines=engines, force=force, progress=progress, workers=workers)
        else:
            adopt(
                config.model,
                name,
                photos=photos,
                config=config.adopt,
                engines=engines,
                force=force,
                progress=progress,
            )
        export(name, engines=engines, force=force, progress=progress)
        precisions = _quantized(name, config, engines, force, progress)
        try:
            build(
                name,
                precisions=precisions,
                flavour=config.flavour,
                targets=config.targets,
                engines=engines,
                force=force,
                progress=progress,
            )
        except MissingDependency as error:
            if config.flavour is not None:
                raise
            _log.warning("no engines are built: %s", error.message)
        evaluate(name, engines=engines, force=force, progress=progress)
        bench(name, config.bench, engines=engines, force=force, progress=progress)
        return report(name, engines=engines)


def _quantized(
    name: str, config: RunConfig, engines: Path | str, force: bool, progress: Progress
) -> tuple[Precision, ...]:
    """Write FP16 and INT8; only FP16, with a warning, if INT8 is impossible. Return the precisions that the run has."""

    def write(precisions: tuple[Precision, ...]) -> None:
        quantize(
            name,
            precisions=precisions,
            calibration=config.calibration,
            cpu_form=config.cpu_form,
            engines=engines,
            force=force,
            progress=progress,
        )

    try:
        write((Precision.FP16, Precision.INT8))
    except NoCpuForm as error:  # fp16.onnx and int8.onnx are written
        _log.warning("%s", error.message)
    except ConversionFailed as error:
        write((Precision.FP16,))  # raises again if FP16 is what is not possible
        _log.warning("INT8 is not written: %s", error.message)
        return (Precision.FP32, Precision.FP16)
    return tuple(Precision)


def demo(
    name: str = "demo",
    photos: Path | str | None = None,
    *,
    quick: bool = False,
    config: RunConfig | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> Report:
    """Write the solar-cell photos to `photos` and run the complete pipeline on them; returns the report.

    `quick` uses 60 photos per class. The photos are licensed under CC BY-NC-SA 4.0, for non-commercial use only.
    """
    folder = solar_cells(photos, quick=quick, progress=progress)
    return run(folder, name, config, engines=engines, force=force, progress=progress)
