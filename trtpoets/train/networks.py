"""Builds a backbone as a Keras network with its pretrained weights: photos in, features out.

The two embedded networks are built here from a description of their inverted residuals (Sandler et al., 2018,
"MobileNetV2: Inverted Residuals and Linear Bottlenecks"); all others come from keras.applications, without their last
layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import tensorflow
from trtpoets.core.paths import user_path
from trtpoets.core.types import INPUT_NAME
from trtpoets.train.backbones import Backbone, KerasApplication
from trtpoets.train.downloaded_weights import published_weights
from trtpoets.train.weight_files import Head, assign, load_weights, load_weights_from_bytes, require_finite
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL, EmbeddedWeights, embedded_tensors

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class Network:
    """A frozen backbone in memory.

    `model` maps photos uint8 (N, H, W, 3) to features float32 (N, D), including the scaling of `backbone.preprocess`.
    `weights_id` is the sha256 of the weight file. `imagenet_head` is the published last layer, (D, 1000) and (1000,),
    if the file contains it.
    """

    backbone: Backbone
    model: keras.Model
    weights_id: str
    imagenet_head: tuple[np.ndarray, np.ndarray] | None


class BackboneGraph(NamedTuple):
    """A backbone without its scaling: `base` maps scaled photos to features, `whole` is what weight files describe.

    `head` is the layer of `whole` that follows the features, or None.
    """

    base: keras.Model
    whole: keras.Model
    head: keras.Layer | None


@keras_defaults()
def network_from_backbone(backbone: Backbone, weights: Path | None = None) -> Network:
    """Build a backbone and load its weights: its own, or a file of the user's.

    Raises BadInput if the user's file cannot be read or does not fit, BadArtefact if an embedded or downloaded file is
    damaged, MissingArtefact if weights have to be downloaded and cannot be.
    """
    source = backbone.source
    head = None
    weights = None if weights is None else user_path(weights)
    if weights is not None:
        graph, head, identity = load_weights(weights, backbone, graphs_of(backbone))
    elif isinstance(source, EmbeddedWeights):
        graph, identity = _embedded_graph(backbone), source.sha256
        tensors = embedded_tensors(source)
        head = tensors.pop(HEAD_KERNEL), tensors.pop(HEAD_BIAS)
        assign(graph.base, tensors, source.path)
    else:
        graph, head, identity = _load_published(backbone, source)
    require_finite(graph.base, weights or backbone.name)
    if isinstance(source, KerasApplication) and source.bgr:
        _swap_red_and_blue(graph.base)
    return Network(backbone, with_scaling(backbone, graph.base), identity, head)


def _load_published(backbone: Backbone, source: KerasApplication) -> tuple[BackboneGraph, Head | None, str]:
    published = published_weights(backbone, source)
    try:
        graph, head = load_weights_from_bytes(published.path, published.content, backbone, graphs_of(backbone))
    except BadInput as error:
        hint = f"delete {published.path}, and it will be downloaded again"
        raise BadArtefact(f"the downloaded file is damaged: {error.message}", hint=hint, code="TP2074") from error
    return graph, head, published.sha256


def graphs_of(backbone: Backbone) -> list[Any]:
    """Return functions that build the graphs a weight file of this backbone may describe, in the order to try."""
    if isinstance(backbone.source, EmbeddedWeights):
        return [lambda: _embedded_graph(backbone)]
    source = backbone.source
    tops = [True, False] if source.headless else [True]
    return [lambda top=top: _application_graph(backbone, source, top) for top in tops]


def with_scaling(backbone: Backbone, base: keras.Model) -> keras.Model:
    """Return the frozen network from photos to features: the backbone's scaling, followed by `base`."""
    keras = tensorflow().keras
    preprocess = backbone.preprocess
    photos = keras.Input((preprocess.height, preprocess.width, 3), dtype="uint8", name=INPUT_NAME)
    scaled = keras.layers.Rescaling(list(preprocess.scale), list(preprocess.offset), name="scaling")(photos)
    model = keras.Model(photos, base(scaled), name=backbone.name)
    model.trainable = False
    return model


def _swap_red_and_blue(model: keras.Model) -> None:
    """Make a network that was trained on BGR accept RGB, by reversing the input channels of its first kernel."""
    first = next(variable for variable in model.variables if variable.path.endswith("/kernel"))
    first.assign(first.numpy()[:, :, ::-1, :])


def _application_graph(backbone: Backbone, source: KerasApplication, include_top: bool) -> BackboneGraph:
    keras = tensorflow().keras
    arguments = dict(source.arguments)
    if include_top:
        arguments["classifier_activation"] = None
    else:
        arguments["pooling"] = "avg"
    shape = (backbone.preprocess.height, backbone.preprocess.width, 3)
    make = getattr(keras.applications, source.function)
    whole = make(include_top=include_top, weights=None, input_shape=shape, **arguments)
    entry = whole.get_layer(source.entry).input if source.entry else whole.input
    features, head = whole.output, None
    if include_top:
        last = max(index for index, layer in enumerate(whole.layers) if layer.weights)
        head = whole.layers[last]
        before = last - 1
        while isinstance(whole.layers[before], keras.layers.Dropout):
            before -= 1
        features = keras.layers.Flatten(name="features")(whole.layers[before].output)
    return BackboneGraph(keras.Model(entry, features, name=f"{backbone.name}_base"), whole, head)


class _Stage(NamedTuple):
    """`repeats` inverted residual blocks of `width` channels; the first has the stride."""

    expansion: int
    kernel: int
    stride: int
    width: int
    repeats: int


class _Description(NamedTuple):
    """A network of inverted residuals: 32 channels at its stem, 1,280 features."""

    stages: tuple[_Stage, ...]
    symmetric_padding: bool
    epsilon: float


_DESCRIPTIONS = {
    # Sandler et al., 2018, table 2. PyTorch pads both sides equally at a stride of 2, and the weights expect that.
    "mobilenet_v2": _Description(
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
    ),
    # Tan & Le, 2019, "EfficientNet", table 1, without squeeze-and-excitation and with ReLU6, as Google published it.
    "efficientnet_lite0": _Description(
        (
            _Stage(1, 3, 1, 16, 1),
            _Stage(6, 3, 2, 24, 2),
            _Stage(6, 5, 2, 40, 2),
            _Stage(6, 3, 2, 80, 3),
            _Stage(6, 5, 1, 112, 3),
            _Stage(6, 5, 2, 192, 4),
            _Stage(6, 3, 1, 320, 1),
        ),
        symmetric_padding=False,
        epsilon=1e-3,
    ),
}


def _embedded_graph(backbone: Backbone) -> BackboneGraph:
    keras = tensorflow().keras
    description = _DESCRIPTIONS[backbone.name]
    photos = keras.Input((backbone.preprocess.height, backbone.preprocess.width, 3), name="scaled")
    x = _convolution(photos, "stem", description, kernel=3, stride=2, width=32)
    number = 0
    for stage in description.stages:
        for repeat in range(stage.repeats):
            x = _block(x, f"block_{number:02}", description, stage, stage.stride if repeat == 0 else 1)
            number += 1
    x = _convolution(x, "top", description, width=1280)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    base = keras.Model(photos, features, name=f"{backbone.name}_base")
    return BackboneGraph(base, base, None)


def _block(x: Any, name: str, description: _Description, stage: _Stage, stride: int) -> Any:
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
    description: _Description,
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
