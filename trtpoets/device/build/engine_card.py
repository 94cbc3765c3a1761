"""Reads the card of an engine, and checks whether the engine can run on this machine."""

from __future__ import annotations

import logging
import platform
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.manifest import BUILT, MANIFEST
from trtpoets.core.serialization import parsed
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command
from trtpoets.core.types import EngineCard, Flavour, check_preprocess
from trtpoets.core.workspace import card_of
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.jetson.jetson_names import modules_of
from trtpoets.device.tensorrt_api import TensorRt

log = logging.getLogger(__name__)

_TARGET = re.compile(r"sm\d{2,3}\+?")

_LATER_MAJOR = {8: (9, 10), 9: (10,), 10: (11,)}
"""Later major versions that run a version-compatible engine: 8 on 10 and 10 on 11, but not 8 on 11."""

_COMPATIBLE_SINCE = (8, 6)

_ONE_CHIP = {(10, 1): (11, 0)}
"""Jetson Thor was compute capability 10.1 until CUDA 12.9, and is 11.0 from CUDA 13 on."""


def card_from_details(details: Mapping[str, Any], path: Path) -> EngineCard:
    """The card of the engine at `path` from the details that `open_card` returned. Raises BadArtefact."""
    try:
        unknown = details.keys() - {field.name for field in fields(EngineCard)}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))} is unknown")
        card = parsed(EngineCard, details)
        _check_values(card)
    except ValueError as error:
        raise BadArtefact(
            f"{card_of(path)} was written by another version of trtpoets: {error}",
            hint=build_command(path),
            code="TP4014",
        ) from error
    if card.preprocess_hash != card.spec.preprocess.hash:
        raise BadArtefact(
            f"was built for the preprocessing {card.preprocess_hash[:12]}, "
            f"but its model has the preprocessing {card.spec.preprocess.hash[:12]}",
            hint=build_command(path),
            code="TP4015",
            subject=path,
        )
    return card


def _check_values(card: EngineCard) -> None:
    """Raise ValueError for values that cannot be in a card; a valid seal does not prove that they are possible."""
    check_preprocess(card.spec.preprocess)
    for target in card.targets:
        if not _TARGET.fullmatch(target):
            raise ValueError(f"the target {target!r}")
    if card.layers and card.layers.counts.keys() != card.layers.shares.keys():
        raise ValueError("layers that don't add up")


def check_fits(card: EngineCard, library: TensorRt, gpu: Gpu, path: Path) -> None:
    """Raise RunFailed unless an engine of this card runs with this library, machine and GPU.

    An engine depends on the library's version (`runs_on`), the platform and the GPU's compute capability; on a Jetson
    also on the module, which TensorRT does not check (it compares the compute capability and warns if the number of
    multiprocessors differs: docs.nvidia.com/deeplearning/tensorrt, "Engine Compatibility", "Compatibility Checks").
    For another graphics card with the same compute capability there is only a warning: the engine runs, but was tuned
    for the other card. Call it before the engine is deserialised.
    """
    hint = build_command(path)
    if card.flavour is not library.flavour or not runs_on(card, library.version):
        raise RunFailed(
            f"{path} was built by {card.flavour.value} {card.tensorrt_version}, but {library.title} is installed",
            hint=hint,
            code="TP4016",
        )
    if card.platform != platform_name():
        raise RunFailed(
            f"{path} was built for {card.platform}, but this is {platform_name()}", hint=hint, code="TP4017"
        )
    if not any(_serves(target, gpu) for target in card.targets):
        raise RunFailed(
            f"{path} was built for {', '.join(card.targets) or 'an unknown GPU'}, but this {gpu.name} is {gpu.target}",
            hint=hint,
            code="TP4018",
        )
    if card.flavour is not Flavour.TENSORRT or card.hardware_compatible:
        return
    if gpu.integrated:
        _check_module(card, gpu, path, hint)
    elif card.gpu not in (None, gpu.name) or _differ(card.multiprocessors, gpu.multiprocessors):
        log.warning("%s was tuned for %s, but this is %s: %s", path, _built_on(card), _built_on(gpu), hint)


def _check_module(card: EngineCard, gpu: Gpu, path: Path, hint: str) -> None:
    """Raise RunFailed for an engine of another Jetson module; warn if the module is unknown or differs slightly."""
    built, here = (set(modules_of(model or "")) for model in (card.board, gpu.board))
    if _differ(card.multiprocessors, gpu.multiprocessors) or (built and here and not built & here):
        raise RunFailed(
            f"{path} was built for {_built_on(card)}, but this is {_built_on(gpu)}", hint=hint, code="TP4019"
        )
    if card.multiprocessors is None and card.board is None:
        log.warning("the card of %s does not name the Jetson it was built on; if it was another one, %s", path, hint)
    elif _differ(card.board, gpu.board) or _differ(card.memory_gib, gpu.memory_gib):
        log.warning("%s was tuned for %s, but this is %s: %s", path, _built_on(card), _built_on(gpu), hint)


def _differ(built: object, here: object) -> bool:
    """Whether two values are known and different."""
    return built is not None and here is not None and built != here


def _built_on(gpu: EngineCard | Gpu) -> str:
    """The name of a GPU with the properties that distinguish it from others of the same name."""
    name = gpu.name if isinstance(gpu, Gpu) else gpu.gpu
    properties = (
        f"{gpu.multiprocessors} SMs" if gpu.multiprocessors else "",
        f"{gpu.memory_gib} GiB" if gpu.memory_gib else "",
        gpu.board or "",
    )
    listed = ", ".join(filter(None, properties))
    return f"{name} ({listed})" if listed else str(name)


def runs_on(card: EngineCard, version: str) -> bool:
    """Whether this version of the card's library can run the engine.

    The version that built it can. A later one can if the engine is version-compatible, which TensorRT supports since
    8.6 and up to the next major version (docs.nvidia.com/deeplearning/tensorrt, "Engine Compatibility"). Engines of
    TensorRT-RTX run only on the release that built them.
    """
    built, here = _numbers(card.tensorrt_version), _numbers(version)
    common = min(len(built), len(here))
    if common >= 3 and built[:common] == here[:common]:
        return True
    if card.flavour is Flavour.RTX or not card.version_compatible or not _COMPATIBLE_SINCE <= built < here:
        return False
    return here[0] == built[0] or here[0] in _LATER_MAJOR.get(built[0], ())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _serves(target: str, gpu: Gpu) -> bool:
    digits = target[2:].rstrip("+")
    built = _chip((int(digits[:-1]), int(digits[-1])))
    here = _chip(gpu.compute_capability)
    return here >= built if target.endswith("+") else here == built


def _chip(capability: tuple[int, int]) -> tuple[int, int]:
    return _ONE_CHIP.get(capability, capability)


def platform_name() -> str:
    """The system and processor architecture that engines depend on, such as "linux-x86_64"."""
    return f"{platform.system().lower()}-{platform.machine()}"


def build_command(path: Path) -> str:
    """The hint with the command that rebuilds the engine at `path`, in a run's folder or in built/ of a bundle."""
    folder = path.resolve().parent
    if folder.name == BUILT and (folder.parent / MANIFEST).is_file():
        return f"build it again on this machine: {folder.parent / 'build'} --force"
    return f"build it again on this machine: {command('build', folder.name, '--force', engines=_shown(folder.parent))}"


def _shown(engines: Path) -> Path:
    """The folder of runs for use in a command: the default folder by its relative name."""
    return DEFAULT_ENGINES if engines == DEFAULT_ENGINES.resolve() else engines
