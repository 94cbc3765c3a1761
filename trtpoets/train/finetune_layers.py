"""Divides a backbone into the layers that users count: those with kernels, each with its batch norm."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

    from trtpoets.train.networks import Network

Layer = list[Any]
"""The trainable Keras variables of a layer: its kernel and bias, and the scale and shift of the norm after it."""


def layers_of(network: Network) -> list[Layer]:
    """Return the layers of a backbone with trainable variables, lowest first.

    A layer with a kernel (a convolution or dense layer) begins an entry; a layer without a kernel, such as a batch
    norm, belongs to the one whose output it reads, or to the highest of several. Statistics of batch norms are not
    trainable.
    """
    layers: list[Layer] = []
    entries: dict[int, int] = {}
    """The index of the entry to which the layer belongs that gives a tensor, by the identity of the tensor.

    Where branches are parallel, Keras lists the layers of all of them in turn."""
    network.model.trainable = True
    try:
        for leaf in _leaves(network.model):
            own = list(leaf.trainable_variables)
            known = [entries[id(tensor)] for tensor in _tensors(leaf.input) if id(tensor) in entries]
            entry = max(known, default=len(layers) - 1)
            if own and (entry < 0 or any(len(variable.shape) > 1 for variable in own)):
                layers.append([])
                entry = len(layers) - 1
            if own:
                layers[entry] += own
            if entry >= 0:
                entries.update((id(tensor), entry) for tensor in _tensors(leaf.output))
    finally:
        network.model.trainable = False
    return layers


def _tensors(value: Any) -> list[Any]:
    """Return the tensors of a layer's input or output, which is one tensor or a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _leaves(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer


def number_to_unfreeze(unfreeze: str, network: Network) -> int:
    """Return the number of layers that `--unfreeze` N or all stands for. Raises BadInput if there are fewer layers."""
    total = len(layers_of(network))
    count = total if unfreeze == ALL else int(unfreeze)
    if count > total:
        raise BadInput(
            f"{network.backbone.name} has {total} layers with weights, so {count} can't be unfrozen",
            hint=f"give --unfreeze all, or a number from 1 to {total}",
            code="TP2110",
        )
    return count


def weights_hash(network: Network) -> str:
    """Return the sha256 (hex) of all variables of a network: it identifies weights that are in no file."""
    digest = hashlib.sha256()
    for variable in network.model.variables:
        values = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path}\0{values.dtype}\0{values.shape}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
