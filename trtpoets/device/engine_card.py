"""Reading an engine's card, and whether the engine it describes can run on this machine."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.spec import (
    BatchRange,
    EngineCard,
    Flavour,
    LayerReport,
    ModelSpec,
    Precision,
    preprocess_from_dict,
)
from trtpoets.core.workspace import card_of
from trtpoets.device.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt


def card_from_details(details: Mapping[str, Any], path: Path) -> EngineCard:
    """The card of the engine at `path`, from what `open_card` gave. Raises BadArtefact."""
    try:
        spec = details["spec"]
        card = EngineCard(
            **{
                **details,
                "flavour": Flavour(details["flavour"]),
                "precision": Precision(details["precision"]),
                "targets": tuple(details["targets"]),
                "batch": BatchRange(**details["batch"]),
                "layers": LayerReport(**details["layers"]) if details.get("layers") else None,
                "spec": ModelSpec(
                    **{
                        **spec,
                        "preprocess": preprocess_from_dict(spec["preprocess"]),
                        "labels": tuple(spec["labels"]),
                    }
                ),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadArtefact(
            f"{card_of(path)} is a card of another version of trtpoets: {type(error).__name__}: {error}",
            hint=build_command(path),
        ) from error
    if card.preprocess_hash != card.spec.preprocess.hash:
        raise BadArtefact(
            f"{path} was built for photos prepared by rule {card.preprocess_hash[:12]}, "
            f"its model asks for {card.spec.preprocess.hash[:12]}",
            hint=build_command(path),
        )
    return card


def check_fits(card: EngineCard, library: TensorRt, gpu: Gpu, path: Path) -> None:
    """Raise RunFailed unless an engine of this card runs with this library, machine and GPU.

    Engines are tied to the exact library that built them, to the platform, and to the GPU's compute capability.
    """
    hint = build_command(path)
    if card.tensorrt_version != library.version:
        raise RunFailed(
            f"{path} was built by {card.flavour.value} {card.tensorrt_version}, and {library.title} is here", hint=hint
        )
    if card.platform != platform_name():
        raise RunFailed(f"{path} was built for {card.platform}, this is {platform_name()}", hint=hint)
    if not any(_serves(target, gpu) for target in card.targets):
        raise RunFailed(
            f"{path} was built for {', '.join(card.targets)}, and this {gpu.name} is {gpu.target}", hint=hint
        )


def _serves(target: str, gpu: Gpu) -> bool:
    if target.endswith("+"):
        number = int(target[2:-1])
        return gpu.compute_capability >= (number // 10, number % 10)
    return target == gpu.target


def platform_name() -> str:
    """The system and processor that engines are tied to, as "linux-x86_64"."""
    return f"{platform.system().lower()}-{platform.machine()}"


def build_command(path: Path) -> str:
    """The hint that rebuilds the engine at `path`, which lies in its model's folder."""
    return f"build it again on this machine: trtpoets build {path.resolve().parent.name} --force"
