"""MobileNetV2 and EfficientNet-Lite: networks of inverted residuals (Sandler et al., 2018, "MobileNetV2: Inverted
Residuals and Linear Bottlenecks")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trtpoets.core.optional import tensorflow

if TYPE_CHECKING:
    import keras


class _Stage(NamedTuple):
    """`repeats` inverted residual blocks of `width` channels; the first has the stride."""

    expansion: int
    kernel: int
    stride: int
    width: int
    repeats: int


class Description(NamedTuple):
    """A network of inverted residuals: 32 channels at its stem, 1,280 features."""

    stages: tuple[_Stage, ...]
    symmetric_padding: bool
    epsilon: float


# Sandler et al., 2018, table 2. PyTorch pads both sides equally at a stride of 2, and the weights expect that.
MOBILENET_V2 = Description(
    (
        _Stage(1, 3, 1, 16, 1),
        _Stage(6, 3, 2, 24, 2),
        _Stage(6, 3, 2, 32, 3),
        _Stage(6, 3, 2, 64, 4),
        _Stage(6, 3, 1, 96, 3),
        _Stage(6, 3, 2, 160, 3),
        _Stage(6, 3, 1, 320, 1),
    ),
    symmetric_padding=True,
    epsilon=1e-5,
)


def _lite(widths: tuple[int, ...], repeats: tuple[int, ...]) -> Description:
    """Return an EfficientNet-Lite.

    Tan & Le, 2019, "EfficientNet", table 1, without squeeze-and-excitation and with ReLU6, as Google published it:
    stem, top and the number of blocks in the first and last stage are the same for all sizes.
    """
    shapes = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
    stages = tuple(_Stage(*shape, width, repeat) for shape, width, repeat in zip(shapes, widths, repeats, strict=True))
    return Description(stages, symmetric_padding=False, epsilon=1e-3)


EFFICIENTNET_LITE0 = _lite((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1))
EFFICIENTNET_LITE1 = _lite((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1))
EFFICIENTNET_LITE2 = _lite((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1))


def inverted_residuals(description: Description, name: str, height: int, width: int) -> keras.Model:
    """Return such a network without its last layer: scaled photos (N, height, width, 3) to features (N, 1280)."""
    keras = tensorflow().keras
    photos = keras.Input((height, width, 3), name="scaled")
    x = _convolution(photos, "stem", description, kernel=3, stride=2, width=32)
    number = 0
    for stage in description.stages:
        for repeat in range(stage.repeats):
            x = _block(x, f"block_{number:02}", description, stage, stage.stride if repeat == 0 else 1)
            number += 1
    x = _convolution(x, "top", description, width=1280)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(photos, features, name=name)


def _block(x: Any, name: str, description: Description, stage: _Stage, stride: int) -> Any:
    """Expand, depthwise convolution, project; add the input if the shapes are equal."""
    keras = tensorflow().keras
    before = x
    if stage.expansion != 1:
        x = _convolution(x, f"{name}_expand", description, width=x.shape[-1] * stage.expansion)
    x = _convolution(x, f"{name}_depthwise", description, kernel=stage.kernel, stride=stride)
    x = _convolution(x, f"{name}_project", description, width=stage.width, activation=False)
    if stride == 1 and before.shape[-1] == stage.width:
        x = keras.layers.Add(name=f"{name}_add")([before, x])
    return x


def _convolution(
    x: Any,
    name: str,
    description: Description,
    *,
    kernel: int = 1,
    stride: int = 1,
    width: int | None = None,
    activation: bool = True,
) -> Any:
    """Convolution, batch norm, ReLU6; depthwise if `width` is None."""
    layers = tensorflow().keras.layers
    padding = "same"
    if stride == 2 and description.symmetric_padding:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
        padding = "valid"
    options: dict[str, object] = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
    if width is None:
        x = layers.DepthwiseConv2D(kernel, depthwise_initializer="zeros", **options)(x)
    else:
        x = layers.Conv2D(width, kernel, kernel_initializer="zeros", **options)(x)
    x = layers.BatchNormalization(epsilon=description.epsilon, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(x) if activation else x
