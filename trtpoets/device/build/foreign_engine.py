"""Engine files given by path, and those that trtpoets did not build.

Engines are executable code: TensorRT runs what is in them. So only an engine that this user built here is loaded, by
the HMAC in its card, unless the user says that they trust it. That a card fits its engine tells nothing of who wrote
both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import read_json, sha256_of_file
from trtpoets.core.reading import read_text
from trtpoets.core.shell_commands import command
from trtpoets.core.types import BatchRange, Engine, EngineCard, ModelSpec, Precision
from trtpoets.device.build.engine import load_engine
from trtpoets.device.build.engine_card import platform_name
from trtpoets.device.build.plan_header import read_plan_header
from trtpoets.device.gpu import libcuda

_MODEL = ("model.json", "classifier/model.json")


def engine_from_file(path: Path, *, trust: bool = False) -> Engine:
    """The engine at `path`: one that this user built here, or, with `trust`, any.

    A trusted engine without a card that fits it tells its library and version by its header; `model.json` beside it
    (or in classifier/) its labels and photos; its name its precision, as in fp16.mine.engine. It is taken to be for
    this machine and GPU, and its library checks that. Engines of TensorRT before 8.6 have no header: without a card
    they are never loaded.

    Raises MissingArtefact, BadArtefact (also for an engine that may not be loaded without `trust`), BadInput.
    """
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint="build it: trtpoets build NAME", code="TP4041")
    require_kind(path, "engine", expected="an engine as TensorRT writes it")
    try:
        engine = load_engine(path)
        why, cause = engine.foreign, None
    except (MissingArtefact, BadArtefact) as error:
        if trust:
            return _trusted(path)
        why, cause = error.message, error
    if trust:
        return replace(engine, foreign="")
    if why:
        raise BadArtefact(
            f"engines are executable code, and {path} is not known to be built here by you: {why}",
            hint=f"see what it is: {command('inspect', path)}; if you trust who built it, add --trust",
            code="TP4042",
        ) from cause
    return engine


def _trusted(path: Path) -> Engine:
    header, spec = read_plan_header(path), _spec(path)
    gpu = libcuda.gpus()[0]
    card = EngineCard(
        flavour=header.flavour,
        precision=_precision(path),
        tensorrt_version=header.version,
        cuda_version=None,
        driver_version=None,
        gpu=None,
        compute_capability=None,
        targets=header.targets or (gpu.target,),
        platform=platform_name(),
        batch=BatchRange(),
        workspace_mib=0,
        onnx_sha256="",
        calibration_hash=None,
        preprocess_hash=spec.preprocess.hash,
        engine_sha256=sha256_of_file(path),
        engine_bytes=path.stat().st_size,
        build_seconds=0.0,
        spec=spec,
    )
    return Engine(path, card, vouched=False)


def _spec(path: Path) -> ModelSpec:
    for name in _MODEL:
        file = path.parent / name
        if file.is_file():
            read_json(file)  # says where it is not JSON
            return ModelSpec.from_json(read_text(file, errors="surrogateescape"), str(file))
    raise MissingArtefact(
        f"{path} does not say what its scores mean, nor how its photos are prepared",
        hint=f"copy the model.json of the classifier that it was made from into {path.parent}",
        code="TP4043",
    )


def _precision(path: Path) -> Precision:
    try:
        return Precision(path.name.split(".")[0])
    except ValueError:
        raise BadInput(
            f"the name of {path} does not begin with its precision ({', '.join(each.value for each in Precision)})",
            hint=f"rename it, for example: fp16.{path.name}",
            code="TP4044",
        ) from None
