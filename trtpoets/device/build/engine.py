"""Builds engines from ONNX files in a child process, with their cards, and loads and checks existing engines."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Iterable

from trtpoets.core.errors import BadArtefact, MissingArtefact, TrtPoetsError
from trtpoets.core.files import atomic_file, sha256_of_file
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import RunnerId, engine_file_name, engine_runner
from trtpoets.core.types import Engine, EngineCard, Flavour, OnnxModel, Precision, hash_of
from trtpoets.core.workspace import card_of, open_card, read_card, seal_card
from trtpoets.device.build.build_child import build_order
from trtpoets.device.build.build_messages import BuildResult
from trtpoets.device.build.build_process import describe, run_build
from trtpoets.device.build.engine_card import build_command, card_from_details, platform_name
from trtpoets.device.build.engine_config import EngineConfig, network_problems, problems, request_of
from trtpoets.device.build.layer_types import int8_doubt
from trtpoets.device.build.plan_header import rtx_targets
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.build.timing_cache import load_timing_cache, save_timing_cache, timing_cache_of
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt

log = logging.getLogger(__name__)

ENGINE_FORMAT = 2
"""Version of the build. Increase it when existing engines must be built again although nothing else has changed."""


def engine_from_onnx(
    model: OnnxModel,
    config: EngineConfig,
    out: Path,
    progress: Progress = silent,
    *,
    manifest_sha256: str = "",
    command: str = "",
) -> Engine:
    """Build an engine at `out` atomically in a child process, and write its card.

    The `onnx` package checks the ONNX file first, unless its sha256 is `manifest_sha256` from a bundle's manifest.
    `command` is recorded in the card.

    Raises BadInput for an unsupported config, BadArtefact for an invalid ONNX file, MissingDependency, BuildFailed with
    TensorRT's message, StorageFailed.
    """
    library = load_tensorrt(config.flavour)
    require_buildable(model, config)
    key = engine_key(model, config)
    onnx_sha256 = sha256_of_onnx(model.path)
    if manifest_sha256 not in ("", onnx_sha256):
        raise BadArtefact(
            f"the sha256 of {model.path} differs from the bundle's manifest",
            hint="copy the bundle again",
            code="TP4010",
        )
    request = request_of(model, config)
    what = describe(out)
    gpu, timings = gpu_of(config.flavour), timing_cache_of(out, library)
    timing_cache = load_timing_cache(timings, library, gpu) if gpu is not None else b""
    with atomic_file(out) as part:
        result = run_build(
            build_order(
                onnx=model.path,
                onnx_sha256=onnx_sha256,
                in_manifest=bool(manifest_sha256),
                spec=model.spec,
                flavour=config.flavour,
                request=request,
                timing_cache=timing_cache,
                out=part,
            ),
            BuildResult,
            what=what,
            timeout_seconds=config.timeout_seconds,
            progress=progress,
        )
        card = replace(_card(model, request, library, part, onnx_sha256, result), command=command)
        for note in card.notes:
            log.warning("%s: %s", out.name, note)
    seal_card(card_of(out), key=key, files=[out], details=card)
    if gpu is not None and result.timing_cache is not None:
        save_timing_cache(timings, bytes.fromhex(result.timing_cache), library, gpu)
    return Engine(out, card)


def require_buildable(model: OnnxModel, config: EngineConfig) -> None:
    """Raise the first problem of a build that can be detected without starting the builder."""
    library = load_tensorrt(config.flavour)
    config_problems = problems(config, model.precision, library, gpu_of(config.flavour))
    for problem in chain(config_problems, network_problems(model, config, library)):
        raise problem


def gpu_of(flavour: Flavour) -> Gpu | None:
    """The GPU that engines of a flavour are built for; None for TensorRT-RTX, which needs no GPU. Raises RunFailed."""
    return libcuda.gpus()[0] if flavour is Flavour.TENSORRT else None


def engine_key(model: OnnxModel, config: EngineConfig) -> str:
    """The key of an engine's card. Equal keys mean equal engines.

    It is a hash of the ONNX file, the config, the library's version, the platform and, for TensorRT, the GPU.
    """
    if not model.path.is_file():
        raise MissingArtefact(f"{model.path} does not exist", hint="make it: trtpoets quantize NAME", code="TP4011")
    options = asdict(config)
    del options["timeout_seconds"]
    gpu = gpu_of(config.flavour)
    return hash_of(
        {
            **options,
            "targets": config.chosen_targets,
            "format": ENGINE_FORMAT,
            "onnx": sha256_of_onnx(model.path),
            "spec": model.spec.to_json(),
            "library": load_tensorrt(config.flavour).version,
            "platform": platform_name(),
            "gpu": gpu.identity if gpu else None,
        }
    )


def current_engine(model: OnnxModel, config: EngineConfig, out: Path) -> Engine | None:
    """The engine at `out` if it is what `engine_from_onnx` would build and this user built it, else None."""
    details = open_card(card_of(out), engine_key(model, config), own=True)
    return None if details is None else Engine(out, card_from_details(details, out))


def load_engine(path: Path) -> Engine:
    """The engine at `path` with its card. A foreign engine is returned too, but no runner loads it.

    Raises MissingArtefact, or BadArtefact if the engine is not the one in its card.
    """
    card = card_of(path)
    for file in (path, card):
        if not file.is_file():
            raise MissingArtefact(f"{file} does not exist", hint=build_command(path), code="TP4012")
    details = open_card(card)
    if details is None:
        raise BadArtefact(
            "is not the engine that its card describes: the file was changed or damaged",
            hint=build_command(path),
            code="TP4013",
            subject=path,
        )
    return Engine(path, card_from_details(details, path), foreign=read_card(card).foreign)


def in_order(engines: Iterable[Engine]) -> tuple[Engine, ...]:
    """Engines sorted by precision, library and variant (the default variant first), one for each runner identity.

    Earlier versions used other file names for variants: of two files for one identity, the one with the current name is
    kept.
    """
    chosen: dict[RunnerId, Engine] = {}
    for engine in engines:
        runner = engine_runner(engine.card, engine.card.precision)
        if runner in chosen and engine.path.name != engine_file_name(engine.card.precision.value, engine.card):
            log.warning("%s is ignored: %s is the same engine", engine.path, chosen[runner].path.name)
            continue
        if runner in chosen:
            log.warning("%s is ignored: %s is the same engine", chosen[runner].path, engine.path.name)
        chosen[runner] = engine
    precisions, flavours = list(Precision), list(Flavour)

    def place(runner: RunnerId) -> tuple[int, int, tuple[str, ...]]:
        card = chosen[runner].card
        return precisions.index(card.precision), flavours.index(card.flavour), runner.variant

    return tuple(chosen[runner] for runner in sorted(chosen, key=place))


def flavour_available(flavour: Flavour) -> str | None:
    """Why engines of a flavour can't be built on this machine; None if they can."""
    try:
        load_tensorrt(flavour)
        if flavour is Flavour.TENSORRT:
            libcuda.gpus()
    except TrtPoetsError as error:
        return error.message
    return None


def default_flavour() -> Flavour:
    """TensorRT if the library and a GPU are available, else TensorRT-RTX. Raises MissingDependency."""
    if flavour_available(Flavour.TENSORRT) is None:
        return Flavour.TENSORRT
    load_tensorrt(Flavour.RTX)
    return Flavour.RTX


def _card(
    model: OnnxModel, request: BuildRequest, library: TensorRt, file: Path, onnx_sha256: str, result: BuildResult
) -> EngineCard:
    here = libcuda.detect()
    gpu = here.gpus[0] if here.gpus else None  # TensorRT-RTX builds without a GPU
    if library.flavour is Flavour.RTX:
        targets = rtx_targets(file) or request.targets or ("sm80+",)
    elif request.hardware_compatible:
        targets = ("sm80+",)
    else:
        targets = (gpu.target,) if gpu else ()
    layers = result.layers
    doubt = int8_doubt(layers) if model.precision is Precision.INT8 else ""
    return EngineCard(
        flavour=library.flavour,
        precision=model.precision,
        tensorrt_version=library.version,
        cuda_version=here.cuda,
        driver_version=libcuda.driver_version(),
        gpu=gpu.name if gpu else None,
        compute_capability="{}.{}".format(*gpu.compute_capability) if gpu else None,
        multiprocessors=gpu.multiprocessors if gpu else None,
        memory_gib=gpu.memory_gib if gpu else None,
        board=gpu.board if gpu else None,
        targets=targets,
        platform=platform_name(),
        batch=request.batch,
        workspace_mib=request.workspace_bytes >> 20,
        onnx_sha256=onnx_sha256,
        calibration_hash=result.calibration,
        preprocess_hash=model.spec.preprocess.hash,
        engine_sha256=sha256_of_file(file),
        engine_bytes=file.stat().st_size,
        build_seconds=result.seconds,
        spec=model.spec,
        optimization_level=request.optimization_level,
        version_compatible=request.version_compatible,
        hardware_compatible=request.hardware_compatible,
        dla_core=request.dla_core,
        layers=layers,
        typing=result.typing,
        notes=(*result.doubts, *filter(None, (doubt,))),
    )
