"""Builds a backbone as a Keras network with its pretrained weights: photos in, features out.

Networks come from keras.applications, or from `own_networks`, without their last layer.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import tensorflow
from trtpoets.core.paths import user_path
from trtpoets.core.types import INPUT_NAME
from trtpoets.train.backbones import Backbone, DownloadedSource, KerasApplication
from trtpoets.train.downloaded_weights import published_weights
from trtpoets.train.own_networks.table import OWN_NETWORKS
from trtpoets.train.packaged_weights import PackagedWeights, packaged_content
from trtpoets.train.weight_files import Head, assign, load_weights, load_weights_from_bytes, require_finite
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL, EmbeddedWeights, embedded_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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

    def __reduce__(self) -> tuple[Callable[..., Network], tuple[Any, ...]]:
        # Keras must be imported by `tensorflow` before its model is unpickled in another process.
        return _unpickled_network, (self.backbone, pickle.dumps(self.model), self.weights_id, self.imagenet_head)


def _unpickled_network(
    backbone: Backbone, model: bytes, weights_id: str, imagenet_head: tuple[np.ndarray, np.ndarray] | None
) -> Network:
    tensorflow()
    return Network(backbone, pickle.loads(model), weights_id, imagenet_head)  # noqa: S301 - only inside a pickle


def assign_variables(network: Network, values: Sequence[np.ndarray]) -> None:
    """Give the variables of a network these values, in the order of `network.model.variables`."""
    for variable, value in zip(network.model.variables, values, strict=True):
        variable.assign(value)


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
    damaged, MissingArtefact if weights have to be downloaded and cannot be, MissingDependency if they are in a package
    that is not installed.
    """
    source = backbone.source
    head = None
    weights = None if weights is None else user_path(weights)
    if weights is not None:
        graph, head, identity = load_weights(weights, backbone, graphs_of(backbone))
    elif isinstance(source, EmbeddedWeights):
        graph, identity = _own_graph(backbone), source.sha256
        tensors = embedded_tensors(source)
        head = tensors.pop(HEAD_KERNEL), tensors.pop(HEAD_BIAS)
        assign(graph.base, tensors, source.path)
    elif isinstance(source, PackagedWeights):
        path, content = packaged_content(source)
        graph, head = load_weights_from_bytes(path, content, backbone, graphs_of(backbone))
        identity = source.sha256
    else:
        graph, head, identity = _load_published(backbone, source)
    require_finite(graph.base, weights or backbone.name)
    if isinstance(source, KerasApplication) and source.bgr:
        _swap_red_and_blue(graph.base)
    return Network(backbone, with_scaling(backbone, graph.base), identity, head)


def _load_published(backbone: Backbone, source: DownloadedSource) -> tuple[BackboneGraph, Head | None, str]:
    published = published_weights(backbone, source)
    try:
        graph, head = load_weights_from_bytes(published.path, published.content, backbone, graphs_of(backbone))
    except BadInput as error:
        hint = f"delete {published.path}, and it will be downloaded again"
        raise BadArtefact(f"the downloaded file is damaged: {error.message}", hint=hint, code="TP2074") from error
    return graph, head, published.sha256


def graphs_of(backbone: Backbone) -> list[Any]:
    """Return functions that build the graphs a weight file of this backbone may describe, in the order to try."""
    source = backbone.source
    if not isinstance(source, KerasApplication):
        return [lambda: _own_graph(backbone)]
    tops = [True, False] if source.headless else [True]
    return [lambda top=top: _application_graph(backbone, source, top) for top in tops]


def _own_graph(backbone: Backbone) -> BackboneGraph:
    network = OWN_NETWORKS[backbone.name]
    base = network.build(f"{backbone.name}_base", backbone.preprocess.height, backbone.preprocess.width)
    return BackboneGraph(base, base, None)


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
