"""MobileNetV4 without attention (Qin et al., 2024, "MobileNetV4: Universal Models for the Mobile Ecosystem"), as timm
publishes it.

Layers have the names of timm's modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trtpoets.core.optional import tensorflow
from trtpoets.train.own_networks.layers import Convolution, convolved

if TYPE_CHECKING:
    import keras

_EPSILON = 1e-5


class Plain(NamedTuple):
    """A convolution with norm and ReLU."""

    width: int
    kernel: int
    stride: int = 1


class Fused(NamedTuple):
    """A convolution that expands the channels by 4 with stride 2, and one that projects them."""

    width: int


class Universal(NamedTuple):
    """A universal inverted bottleneck: depthwise (`start`), expansion, depthwise (`middle`), projection.

    `start` and `middle` are kernel sizes; 0 omits the convolution.
    """

    width: int
    start: int
    middle: int
    expansion: int
    stride: int = 1


Block = Plain | Fused | Universal

CONV_SMALL: tuple[tuple[Block, ...], ...] = (
    (Plain(32, 3, 2), Plain(32, 1)),
    (Plain(96, 3, 2), Plain(64, 1)),
    (Universal(96, 5, 5, 3, 2), *[Universal(96, 0, 3, 2)] * 4, Universal(96, 3, 0, 4)),
    (
        Universal(128, 3, 3, 6, 2),
        Universal(128, 5, 5, 4),
        Universal(128, 0, 5, 4),
        Universal(128, 0, 5, 3),
        *[Universal(128, 0, 3, 4)] * 2,
    ),
    (Plain(960, 1),),
)

CONV_MEDIUM: tuple[tuple[Block, ...], ...] = (
    (Fused(48),),
    (Universal(80, 3, 5, 4, 2), Universal(80, 3, 3, 2)),
    (
        Universal(160, 3, 5, 6, 2),
        *[Universal(160, 3, 3, 4)] * 2,
        Universal(160, 3, 5, 4),
        Universal(160, 3, 3, 4),
        Universal(160, 3, 0, 4),
        Universal(160, 0, 0, 2),
        Universal(160, 3, 0, 4),
    ),
    (
        Universal(256, 5, 5, 6, 2),
        Universal(256, 5, 5, 4),
        *[Universal(256, 3, 5, 4)] * 2,
        Universal(256, 0, 0, 4),
        Universal(256, 3, 0, 4),
        Universal(256, 3, 5, 2),
        Universal(256, 5, 5, 4),
        *[Universal(256, 0, 0, 4)] * 2,
        Universal(256, 5, 0, 2),
    ),
    (Plain(960, 1),),
)


def mobilenet_v4(stages: tuple[tuple[Block, ...], ...], name: str, height: int, width: int) -> keras.Model:
    """Return a MobileNetV4 without its last layer: scaled photos (N, height, width, 3) to features (N, 1280)."""
    keras = tensorflow().keras
    photos = keras.Input((height, width, 3), name="scaled")
    x = _unit(photos, "conv_stem", "bn1", 32, kernel=3, stride=2)
    for stage, blocks in enumerate(stages):
        for number, block in enumerate(blocks):
            x = _block(x, f"blocks.{stage}.{number}", block)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="global_pool")(x)
    x = _unit(x, "conv_head", "norm_head", 1280)
    return keras.Model(photos, keras.layers.Flatten(name="features")(x), name=name)


def _block(x: Any, name: str, block: Block) -> Any:
    if isinstance(block, Plain):
        return _unit(x, f"{name}.conv", f"{name}.bn1", block.width, block.kernel, block.stride)
    if isinstance(block, Fused):
        x = _unit(x, f"{name}.conv_exp", f"{name}.bn1", 4 * x.shape[-1], kernel=3, stride=2)
        return _unit(x, f"{name}.conv_pwl", f"{name}.bn2", block.width, activation=False)
    return _universal(x, name, block)


def _universal(x: Any, name: str, block: Universal) -> Any:
    """The stride is in the second depthwise convolution, or in the first if there is no second."""
    before = x
    if block.start:
        stride = 1 if block.middle else block.stride
        x = _part(x, f"{name}.dw_start", None, block.start, stride, activation=False)
    x = _part(x, f"{name}.pw_exp", before.shape[-1] * block.expansion)
    if block.middle:
        x = _part(x, f"{name}.dw_mid", None, block.middle, block.stride)
    x = _part(x, f"{name}.pw_proj", block.width, activation=False)
    if block.stride == 1 and before.shape[-1] == block.width:
        x = tensorflow().keras.layers.Add(name=f"{name}.add")([before, x])
    return x


def _part(x: Any, name: str, width: int | None, kernel: int = 1, stride: int = 1, activation: bool = True) -> Any:
    return _unit(x, f"{name}.conv", f"{name}.bn", width, kernel, stride, activation)


def _unit(
    x: Any, name: str, norm: str, width: int | None, kernel: int = 1, stride: int = 1, activation: bool = True
) -> Any:
    return convolved(x, Convolution(name, norm, width, kernel, stride, activation=activation), _EPSILON)
