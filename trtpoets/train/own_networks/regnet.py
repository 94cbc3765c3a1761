"""RegNetX and RegNetY (Radosavovic et al., 2020, "Designing Network Design Spaces"), as torchvision publishes them.

Layers have the names of torchvision's modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trtpoets.core.optional import tensorflow
from trtpoets.train.own_networks.layers import Convolution, convolved

if TYPE_CHECKING:
    import keras

_EPSILON = 1e-5


class RegNet(NamedTuple):
    """Widths and numbers of blocks of the four stages, channels of a group, and whether blocks have squeeze-excitation.

    Widths and numbers are those that torchvision computes of the paper's parameters (depth, w_0, w_a, w_m).
    """

    widths: tuple[int, int, int, int]
    repeats: tuple[int, int, int, int]
    group_width: int
    excited: bool


REGNET_X_400MF = RegNet((32, 64, 160, 400), (1, 2, 7, 12), 16, excited=False)
REGNET_X_800MF = RegNet((64, 128, 288, 672), (1, 3, 7, 5), 16, excited=False)
REGNET_Y_400MF = RegNet((48, 104, 208, 440), (1, 3, 6, 6), 8, excited=True)
REGNET_Y_800MF = RegNet((64, 144, 320, 784), (1, 3, 8, 2), 16, excited=True)


def regnet(shape: RegNet, name: str, height: int, width: int) -> keras.Model:
    """Return a RegNet without its last layer: scaled photos (N, height, width, 3) to features (N, last width)."""
    keras = tensorflow().keras
    photos = keras.Input((height, width, 3), name="scaled")
    x = _unit(photos, "stem", 32, kernel=3, stride=2)
    for stage, (channels, repeats) in enumerate(zip(shape.widths, shape.repeats, strict=True), 1):
        for repeat in range(repeats):
            block = f"trunk_output.block{stage}.block{stage}-{repeat}"
            x = _block(x, block, channels, shape, stride=2 if repeat == 0 else 1)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(photos, features, name=name)


def _block(x: Any, name: str, width: int, shape: RegNet, stride: int) -> Any:
    """A residual block: 1 x 1, 3 x 3 in groups, squeeze-excitation, 1 x 1; projected if its shape changes."""
    layers = tensorflow().keras.layers
    shortcut = x
    if stride > 1 or x.shape[-1] != width:
        shortcut = _unit(x, f"{name}.proj", width, stride=stride, activation=False)
    inside = _unit(x, f"{name}.f.a", width)
    inside = _unit(inside, f"{name}.f.b", width, kernel=3, stride=stride, groups=width // shape.group_width)
    if shape.excited:
        inside = _excited(inside, f"{name}.f.se", squeezed=round(x.shape[-1] / 4))
    inside = _unit(inside, f"{name}.f.c", width, activation=False)
    return layers.ReLU(name=f"{name}.activation")(layers.Add(name=f"{name}.add")([shortcut, inside]))


def _excited(x: Any, name: str, squeezed: int) -> Any:
    """Squeeze-and-excitation: each channel times a factor that depends on the means of all channels."""
    layers = tensorflow().keras.layers
    means = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.avgpool")(x)
    options = {"kernel_initializer": "zeros"}
    hidden = layers.Conv2D(squeezed, 1, activation="relu", name=f"{name}.fc1", **options)(means)
    factors = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}.fc2", **options)(hidden)
    return layers.Multiply(name=f"{name}.scale")([x, factors])


def _unit(
    x: Any, name: str, width: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: bool = True
) -> Any:
    return convolved(x, Convolution(f"{name}.0", f"{name}.1", width, kernel, stride, groups, activation), _EPSILON)
