"""OnnxModel -> Engine with its card: content-addressed, built in a child process, checked before it is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, TrtPoetsError
from trtpoets.core.files import atomic_file, sha256_of_file
from trtpoets.core.progress import Progress, silent
from trtpoets.core.spec import BatchRange, Engine, EngineCard, Flavour, OnnxModel, hash_of
from trtpoets.core.workspace import card_of, open_card, seal_card
from trtpoets.device import libcuda
from trtpoets.device.build_child import order_for
from trtpoets.device.build_process import describe, run_build
from trtpoets.device.engine_card import build_command, card_from_details, platform_name
from trtpoets.device.plan_header import rtx_targets
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt
from trtpoets.device.tensorrt_build import BuildRequest

ENGINE_FORMAT = 1
"""Raise it when engines that are on disk must be built again, though nothing else has changed."""

LEAST_WORKSPACE_MIB = 16
"""With 4 MiB even small networks find no tactics; 8 MiB is the edge."""

_LEVELS = range(6)


@dataclass(frozen=True)
class EngineConfig:
    """How an engine is built.

    `targets` are compute capabilities as "sm86", for TensorRT-RTX; none means Ampere and later. TensorRT builds for the
    GPU that it finds. `optimization_level` is 0 (quick build) to 5 (fast engine); None leaves it to the library.
    FP32 networks may compute in TF32 on Ampere and later, the default of TensorRT as of TensorFlow.
    """

    flavour: Flavour
    targets: tuple[str, ...] = ()
    batch: BatchRange = field(default_factory=BatchRange)
    workspace_mib: int = 1024
    optimization_level: int | None = None
    timeout_seconds: float | None = None


def engine_from_onnx(model: OnnxModel, config: EngineConfig, out: Path, progress: Progress = silent) -> Engine:
    """Build an engine at `out` and its card beside it, in a child process; nothing is left half done.

    Raises BadInput for a config that can't be met, BadArtefact for an ONNX file that is not whole, MissingDependency,
    BuildFailed with TensorRT's reason, StorageFailed.
    """
    library = load_tensorrt(config.flavour)
    _check_config(config, library)
    key = engine_key(model, config)
    onnx_sha256 = sha256_of_file(model.path)
    request = _request(model, config)
    what = describe(out)
    with atomic_file(out) as part:
        result = run_build(
            lambda answers: order_for(
                onnx=model.path,
                onnx_sha256=onnx_sha256,
                spec=model.spec,
                flavour=config.flavour,
                request=request,
                out=part,
                answers=answers,
            ),
            what=what,
            timeout_seconds=config.timeout_seconds,
            progress=progress,
        )
        card = _card(model, request, library, part, onnx_sha256, result)
    seal_card(card_of(out), key=key, files=[out], details=asdict(card))
    return Engine(out, card)


def engine_key(model: OnnxModel, config: EngineConfig) -> str:
    """The content address of an engine: equal keys stand for equal engines.

    Everything that decides the engine goes in: the ONNX file, the config, the library and, for TensorRT, the GPU.
    """
    if not model.path.is_file():
        raise MissingArtefact(f"{model.path} is not there", hint="make it: trtpoets quantize NAME")
    decides = asdict(config)
    del decides["timeout_seconds"]
    gpu = None
    if config.flavour is Flavour.TENSORRT:
        first = libcuda.gpus()[0]
        gpu = [first.name, first.target]
    return hash_of(
        {
            **decides,
            "targets": _targets(config),
            "format": ENGINE_FORMAT,
            "onnx": sha256_of_file(model.path),
            "spec": model.spec.to_json(),
            "library": load_tensorrt(config.flavour).version,
            "platform": platform_name(),
            "gpu": gpu,
        }
    )


def current_engine(model: OnnxModel, config: EngineConfig, out: Path) -> Engine | None:
    """The engine at `out` when it is what `engine_from_onnx` would build; None when it has to be built."""
    details = open_card(card_of(out), engine_key(model, config))
    return None if details is None else Engine(out, card_from_details(details, out))


def load_engine(path: Path) -> Engine:
    """The engine at `path` with its card. Raises MissingArtefact, or BadArtefact when card and engine don't belong."""
    card = card_of(path)
    for file in (path, card):
        if not file.is_file():
            raise MissingArtefact(f"{file} is not there", hint=build_command(path))
    details = open_card(card)
    if details is None:
        raise BadArtefact(
            f"{path} is not the engine that its card vouches for: the file was changed or damaged",
            hint=build_command(path),
        )
    return Engine(path, card_from_details(details, path))


def flavour_available(flavour: Flavour) -> str | None:
    """Why engines of a flavour can't be built here; None when they can."""
    try:
        load_tensorrt(flavour)
        if flavour is Flavour.TENSORRT:
            libcuda.gpus()
    except TrtPoetsError as error:
        return error.message
    return None


def default_flavour() -> Flavour:
    """TensorRT where it can build (the library and a GPU are there), else TensorRT-RTX. Raises MissingDependency."""
    if flavour_available(Flavour.TENSORRT) is None:
        return Flavour.TENSORRT
    load_tensorrt(Flavour.RTX)
    return Flavour.RTX


def _check_config(config: EngineConfig, library: TensorRt) -> None:
    batch = config.batch
    if not 1 <= batch.minimum <= batch.optimum <= batch.maximum:
        raise BadInput(
            f"the batch sizes {batch.minimum}:{batch.optimum}:{batch.maximum} don't rise from at least 1",
            hint="give smallest:usual:largest, for example --batch 1:8:32",
        )
    if config.workspace_mib < LEAST_WORKSPACE_MIB:
        raise BadInput(
            f"a workspace of {config.workspace_mib} MiB is too small to build in",
            hint=f"give at least --workspace {LEAST_WORKSPACE_MIB}",
        )
    if config.timeout_seconds is not None and not config.timeout_seconds > 0:
        raise BadInput(f"a timeout of {config.timeout_seconds} seconds", hint="give a number above 0")
    level = config.optimization_level
    if level is not None and not library.has_optimization_level:
        raise BadInput(f"{library.title} has no optimisation levels", hint="leave --optimization-level out")
    if level is not None and level not in _LEVELS:
        raise BadInput(f"an optimisation level of {level}", hint="give 0 (quick build) to 5 (fast engine)")
    _check_targets(config, library)


def _check_targets(config: EngineConfig, library: TensorRt) -> None:
    if config.targets and not library.targets:
        raise BadInput(
            f"{library.title} builds for the GPU of this machine only, so --target {config.targets[0]} can't be met",
            hint="leave --target out, or build --flavour rtx",
        )
    unknown = [target for target in _targets(config) if target not in library.targets]
    if unknown:
        raise BadInput(
            f"{library.title} has no target {', '.join(unknown)}", hint=f"it has {', '.join(library.targets)}"
        )


def _targets(config: EngineConfig) -> tuple[str, ...]:
    return tuple(sorted({target.lower() for target in config.targets}))


def _request(model: OnnxModel, config: EngineConfig) -> BuildRequest:
    return BuildRequest(
        precision=model.precision,
        height=model.spec.preprocess.height,
        width=model.spec.preprocess.width,
        batch=config.batch,
        targets=_targets(config),
        workspace_bytes=config.workspace_mib << 20,
        optimization_level=config.optimization_level,
    )


def _card(
    model: OnnxModel, request: BuildRequest, library: TensorRt, file: Path, onnx_sha256: str, result: Mapping[str, Any]
) -> EngineCard:
    try:
        gpu, cuda = libcuda.gpus()[0], libcuda.cuda_version()
    except TrtPoetsError:  # TensorRT-RTX builds without a GPU, and the card says so
        gpu, cuda = None, None
    if library.flavour is Flavour.RTX:
        targets = rtx_targets(file) or request.targets or ("sm80+",)
    else:
        targets = (gpu.target,) if gpu else ()
    return EngineCard(
        flavour=library.flavour,
        precision=model.precision,
        tensorrt_version=library.version,
        cuda_version=cuda,
        driver_version=libcuda.driver_version(),
        gpu=gpu.name if gpu else None,
        compute_capability="{}.{}".format(*gpu.compute_capability) if gpu else None,
        targets=targets,
        platform=platform_name(),
        batch=request.batch,
        workspace_mib=request.workspace_bytes >> 20,
        onnx_sha256=onnx_sha256,
        calibration_hash=result["calibration"],
        preprocess_hash=model.spec.preprocess.hash,
        engine_sha256=sha256_of_file(file),
        engine_bytes=file.stat().st_size,
        build_seconds=result["seconds"],
        spec=model.spec,
    )
