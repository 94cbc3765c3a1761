"""Loads engine files that are given by path, including engines that trtpoets did not build.

Engines can contain code that TensorRT runs. So an engine is loaded only if the HMAC in its card proves that this user
built it, or if the user trusts it. A card that matches its engine does not show who wrote both.
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
    """The engine at `path`, if this user built it on this machine or `trust` is set.

    For a trusted engine without a matching card, library and version are read from its header, labels and preprocessing
    from `model.json` beside it (or in classifier/), and the precision from its name, such as fp16.mine.engine. It is
    assumed to be built for this machine and GPU, which its library checks. Engines of TensorRT before 8.6 have no
    header and can't be loaded without a card.

    Raises MissingArtefact, BadArtefact (also for an engine that needs `trust`), BadInput.
    """
    if not path.is_file():
        raise MissingArtefact(f"{path} does not exist", hint="build it: trtpoets build NAME", code="TP4041")
    require_kind(path, "engine", expected="a TensorRT engine")
    try:
        engine = load_engine(path)
        reason, cause = engine.foreign, None
    except (MissingArtefact, BadArtefact) as error:
        if trust:
            return _trusted(path)
        reason, cause = error.message, error
    if trust:
        return replace(engine, foreign="")
    if reason:
        raise BadArtefact(
            f"engines are executable code, and there is no proof that you built {path} on this machine: {reason}",
            hint=f"show what it is: {command('inspect', path)}; if you trust its author, add --trust",
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
    return Engine(path, card, has_card=False)


def _spec(path: Path) -> ModelSpec:
    for name in _MODEL:
        file = path.parent / name
        if file.is_file():
            read_json(file)  # reports invalid JSON
            return ModelSpec.from_json(read_text(file, errors="surrogateescape"), str(file))
    raise MissingArtefact(
        f"the labels and the preprocessing of {path} are unknown: there is no model.json beside it",
        hint=f"copy the model.json of its classifier into {path.parent}",
        code="TP4043",
    )


def _precision(path: Path) -> Precision:
    try:
        return Precision(path.name.split(".")[0])
    except ValueError:
        raise BadInput(
            f"the name of {path} must begin with its precision ({', '.join(member.value for member in Precision)})",
            hint=f"rename it, for example: fp16.{path.name}",
            code="TP4044",
        ) from None
