"""Values of the differentiable network: TensorFlow tensors with the channels last, as its convolutions need them.

ONNX has the channels of a map second, (N, C, H, W). TensorFlow's convolutions on a CPU need (N, H, W, C), so that maps
stay in this order between layers, and only operators that depend on the order of the axes move them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.core.optional import tensorflow


@dataclass(frozen=True)
class NetworkValue:
    """A tensor, or a constant array. `channels_last` means that axis 1 of ONNX is stored as the last axis."""

    tensor: Any
    channels_last: bool = False

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.tensor.shape)

    @property
    def plain(self) -> Any:
        """The tensor with the axes in the order of ONNX."""
        if not self.channels_last:
            return self.tensor
        return _transposed(self.tensor, (0, self.rank - 1, *range(1, self.rank - 1)))

    @property
    def maps(self) -> Any:
        """The tensor (N, C, ...) with the channels as the last axis."""
        return self.tensor if self.channels_last else _transposed(self.tensor, (0, *range(2, self.rank), 1))

    @property
    def constant(self) -> np.ndarray | None:
        """The values of a constant; None for a computed tensor."""
        return self.tensor if isinstance(self.tensor, np.ndarray) else None

    def axis(self, axis: int) -> int:
        """Return where an axis of ONNX is stored."""
        axis %= self.rank
        if not self.channels_last or axis == 0:
            return axis
        return self.rank - 1 if axis == 1 else axis - 1

    def like(self, tensor: Any) -> NetworkValue:
        """Return another tensor with the axes in the same order."""
        return NetworkValue(tensor, self.channels_last)


def aligned(values: Sequence[NetworkValue]) -> tuple[list[Any], bool]:
    """Return the tensors of several values with their axes in one order, and whether the channels are last."""
    rank = max(value.rank for value in values)
    if not any(value.channels_last for value in values) or any(
        value.channels_last and value.rank < rank for value in values
    ):
        return [value.plain for value in values], False
    tensors = []
    for value in values:
        missing = rank - value.rank
        if value.rank == 0:
            tensors.append(value.tensor)
        elif missing:
            shape = [1] * missing + [-1 if size is None else int(size) for size in value.tensor.shape]
            tensors.append(NetworkValue(_reshaped(value.tensor, shape)).maps)
        else:
            tensors.append(value.maps)
    return tensors, True


def transposed(value: NetworkValue, order: Sequence[int]) -> NetworkValue:
    """Return a value with its axes in another order. Moving the channels only changes how the tensor is read."""
    rank = value.rank
    if list(order) == [0, rank - 1, *range(1, rank - 1)] and not value.channels_last and rank > 2:
        return NetworkValue(value.tensor, channels_last=True)
    if list(order) == [0, *range(2, rank), 1] and value.channels_last:
        return NetworkValue(value.tensor)
    return NetworkValue(_transposed(value.plain, order))


def _transposed(tensor: Any, order: Sequence[int]) -> Any:
    return tensor.transpose(order) if isinstance(tensor, np.ndarray) else tensorflow().transpose(tensor, order)


def _reshaped(tensor: Any, shape: Sequence[int]) -> Any:
    return tensor.reshape(shape) if isinstance(tensor, np.ndarray) else tensorflow().reshape(tensor, shape)
