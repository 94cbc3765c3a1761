"""Layers with the arithmetic of PyTorch: convolutions that pad both sides equally, and batch norms."""

from __future__ import annotations

from typing import Any, NamedTuple

from trtpoets.core.optional import tensorflow


class Convolution(NamedTuple):
    """A convolution followed by a batch norm, and by ReLU if `activation`.

    `width` None means depthwise. `convolution` and `norm` are the names of the two layers.
    """

    convolution: str
    norm: str
    width: int | None
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activation: bool = True


def convolved(x: Any, layer: Convolution, epsilon: float) -> Any:
    """Return the output of a convolution with its batch norm and activation on `x` (N, H, W, C)."""
    layers = tensorflow().keras.layers
    name = layer.convolution
    padding = "same"
    if layer.stride > 1 and layer.kernel > 1:
        # Keras pads the end more than the beginning if the stride is 2.
        x = layers.ZeroPadding2D(layer.kernel // 2, name=f"{name}.pad")(x)
        padding = "valid"
    options: dict[str, object] = {"strides": layer.stride, "padding": padding, "use_bias": False, "name": name}
    # Zeros are cheaper than random numbers, and weights are loaded anyway.
    if layer.width is None:
        x = layers.DepthwiseConv2D(layer.kernel, depthwise_initializer="zeros", **options)(x)
    else:
        options.update(groups=layer.groups, kernel_initializer="zeros")
        x = layers.Conv2D(layer.width, layer.kernel, **options)(x)
    x = layers.BatchNormalization(epsilon=epsilon, name=layer.norm)(x)
    return layers.ReLU(name=f"{name}.relu")(x) if layer.activation else x
