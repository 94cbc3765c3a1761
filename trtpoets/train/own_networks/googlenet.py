"""GoogLeNet (Szegedy et al., 2015, "Going Deeper with Convolutions", table 1), as torchvision publishes it.

It differs from the paper: batch norms instead of local response normalisation, and 3 x 3 convolutions in the branch
that has 5 x 5 in the paper. The two auxiliary classifiers, which only training needs, are omitted. Layers have the
names of torchvision's modules. Its `transform_input`, which turns photos normalised by ImageNet's mean into [-1, 1], is
part of the scaling of the backbone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trtpoets.core.optional import tensorflow
from trtpoets.train.own_networks.layers import Convolution, convolved

if TYPE_CHECKING:
    import keras

_EPSILON = 1e-3


class _Inception(NamedTuple):
    """Channels of the four branches: 1 x 1; 1 x 1 and 3 x 3; 1 x 1 and 3 x 3; 1 x 1 after pooling."""

    name: str
    single: int
    first: tuple[int, int]
    second: tuple[int, int]
    pooled: int


_STAGES = (
    (
        _Inception("inception3a", 64, (96, 128), (16, 32), 32),
        _Inception("inception3b", 128, (128, 192), (32, 96), 64),
    ),
    (
        _Inception("inception4a", 192, (96, 208), (16, 48), 64),
        _Inception("inception4b", 160, (112, 224), (24, 64), 64),
        _Inception("inception4c", 128, (128, 256), (24, 64), 64),
        _Inception("inception4d", 112, (144, 288), (32, 64), 64),
        _Inception("inception4e", 256, (160, 320), (32, 128), 128),
    ),
    (
        _Inception("inception5a", 256, (160, 320), (32, 128), 128),
        _Inception("inception5b", 384, (192, 384), (48, 128), 128),
    ),
)


def googlenet(name: str, height: int, width: int) -> keras.Model:
    """Return GoogLeNet without its last layer: scaled photos (N, height, width, 3) to features (N, 1024)."""
    keras = tensorflow().keras
    photos = keras.Input((height, width, 3), name="scaled")
    x = _unit(photos, "conv1", 64, kernel=7, stride=2)
    x = _pool(x, "maxpool1", kernel=3)
    x = _unit(x, "conv2", 64)
    x = _unit(x, "conv3", 192, kernel=3)
    x = _pool(x, "maxpool2", kernel=3)
    for number, stage in enumerate(_STAGES):
        if number:
            x = _pool(x, f"maxpool{number + 2}", kernel=3 if number == 1 else 2)
        for block in stage:
            x = _inception(x, block)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(photos, features, name=name)


def _inception(x: Any, block: _Inception) -> Any:
    layers = tensorflow().keras.layers
    name = block.name
    single = _unit(x, f"{name}.branch1", block.single)
    first = _unit(_unit(x, f"{name}.branch2.0", block.first[0]), f"{name}.branch2.1", block.first[1], kernel=3)
    second = _unit(_unit(x, f"{name}.branch3.0", block.second[0]), f"{name}.branch3.1", block.second[1], kernel=3)
    pooled = layers.MaxPooling2D(3, 1, "same", name=f"{name}.branch4.0")(x)
    pooled = _unit(pooled, f"{name}.branch4.1", block.pooled)
    return layers.Concatenate(name=f"{name}.concat")([single, first, second, pooled])


def _pool(x: Any, name: str, kernel: int) -> Any:
    """Max pooling with stride 2. "same" pads only the end, which gives torchvision's windows for `ceil_mode`."""
    return tensorflow().keras.layers.MaxPooling2D(kernel, 2, "same", name=name)(x)


def _unit(x: Any, name: str, width: int, kernel: int = 1, stride: int = 1) -> Any:
    return convolved(x, Convolution(f"{name}.conv", f"{name}.bn", width, kernel, stride), _EPSILON)
