"""The table of pretrained networks: what each needs, what it costs, how good it is, and where its weights come from.

Read without TensorFlow. `networks.py` makes the networks themselves; the tests hold each row to its Keras graph.
To add one of keras.applications: a row here, with the name, address and md5 that Keras has for its weights with the
1,000-class layer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trtpoets.core.errors import BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.spec import Preprocess, Resize
from trtpoets.train.weights import EMBEDDED, EmbeddedWeights

DEFAULT_BACKBONE = "efficientnet_lite0"
"""The one that loses least to INT8 of those that need no download."""

_STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class KerasApplication:
    """A network of keras.applications, and the file of its weights that Keras publishes.

    `function` is called with `arguments`. `entry` is the layer before which the network scales its photos itself; what
    lies before it is left out, since `Preprocess` does it. `bgr`: trained on blue, green, red. `headless`: a file without
    the 1,000-class layer holds all that the features need. `md5` is None where Keras has none for the file.
    """

    function: str
    arguments: Mapping[str, Any]
    file: str
    folder: str
    md5: str | None
    entry: str = ""
    bgr: bool = False
    headless: bool = True

    @property
    def url(self) -> str:
        """Where Keras fetches the file."""
        return f"{self.folder}/{self.file}"


WeightSource = EmbeddedWeights | KerasApplication
"""Weights in the package, or published by Keras."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its last layer.

    `preprocess` is for retraining: the whole photo, stretched. `feature_width` is D of its features (N, D).
    `parameters` counts every number that the network keeps, batch-norm statistics included, and `multiply_adds` those of
    its convolutions and matrices for one photo; both without the 1,000-class layer. `imagenet_top1` is the published
    accuracy with that layer, in percent.
    """

    name: str
    preprocess: Preprocess
    feature_width: int
    parameters: int
    multiply_adds: int
    imagenet_top1: float | None
    source: WeightSource = field(repr=False)

    @property
    def published_preprocess(self) -> Preprocess:
        """As the 1,000-class network was tested: the middle of the photo, 7/8 of its shorter side."""
        return replace(self.preprocess, resize=Resize.CROP, crop_fraction=0.875)

    @property
    def needs_download(self) -> bool:
        """Whether the weights are not in the package."""
        return not isinstance(self.source, EmbeddedWeights)


def _scaled(size: int, mean: tuple[float, float, float], deviation: tuple[float, float, float]) -> Preprocess:
    """(x - mean) / deviation, channel by channel, on size x size pixels."""
    scale = 1 / deviation[0], 1 / deviation[1], 1 / deviation[2]
    offset = -mean[0] / deviation[0], -mean[1] / deviation[1], -mean[2] / deviation[2]
    return Preprocess(size, size, scale, offset)


def _symmetric(size: int) -> Preprocess:
    """To [-1, 1]."""
    return _scaled(size, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


def _standardised(size: int) -> Preprocess:
    """By ImageNet's own mean and deviation."""
    mean = 0.485 * 255, 0.456 * 255, 0.406 * 255
    return _scaled(size, mean, (0.229 * 255, 0.224 * 255, 0.225 * 255))


_MOBILENET_V1 = {
    # alpha: (feature width, parameters, {pixels: (multiply-adds, top-1)})
    # Top-1: tensorflow/models, research/slim/nets/mobilenet_v1.md.
    "1.0": (0, 0, {224: (0, 70.9), 192: (0, 70.0), 160: (0, 68.0), 128: (0, 65.2)}),
    "0.75": (0, 0, {224: (0, 68.4), 192: (0, 67.2), 160: (0, 65.3), 128: (0, 62.1)}),
    "0.50": (0, 0, {224: (0, 63.3), 192: (0, 61.7), 160: (0, 59.1), 128: (0, 56.3)}),
    "0.25": (0, 0, {224: (0, 49.8), 192: (0, 47.7), 160: (0, 45.5), 128: (0, 41.5)}),
}


def _mobilenets_v1() -> Iterator[Backbone]:
    """The codelab's sixteen, in its spelling: mobilenet_<alpha>_<pixels>."""
    for alpha, (width, parameters, sizes) in _MOBILENET_V1.items():
        percent = {"1.0": "1_0", "0.75": "7_5", "0.50": "5_0", "0.25": "2_5"}[alpha]
        for size, (multiply_adds, top1) in sizes.items():
            file = f"mobilenet_{percent}_{size}_tf.h5"
            source = KerasApplication("MobileNet", {"alpha": float(alpha)}, file, f"{_STORAGE}/mobilenet", md5=None)
            name = f"mobilenet_{alpha}_{size}"
            yield Backbone(name, _symmetric(size), width, parameters, multiply_adds, top1, source)


def _rows() -> Iterator[Backbone]:
    # Top-1: tensorflow/tpu, models/official/efficientnet/lite/README.md (FP32).
    yield Backbone(
        "efficientnet_lite0",
        _scaled(224, (127, 127, 127), (128, 128, 128)),
        1280,
        0,
        0,
        75.1,
        EMBEDDED["efficientnet_lite0"],
    )
    # Top-1: torchvision, MobileNet_V2_Weights.IMAGENET1K_V1.
    yield Backbone("mobilenet_v2", _standardised(224), 1280, 0, 0, 71.878, EMBEDDED["mobilenet_v2"])
    yield from _mobilenets_v1()
    # Top-1 of both: the docstring of keras.applications.MobileNetV3Small.
    for size, width, parameters, multiply_adds, top1, md5 in (
        ("small", 1024, 0, 0, 68.1, "8768d4c2e7dee89b9d02b2d03d65d862"),
        ("large", 1280, 0, 0, 75.6, "59e551e166be033d707958cf9e29a6a7"),
    ):
        source = KerasApplication(
            f"MobileNetV3{size.title()}",
            {"include_preprocessing": False},
            f"weights_mobilenet_v3_{size}_224_1.0_float.h5",
            f"{_STORAGE}/mobilenet_v3",
            md5,
            headless=False,
        )
        yield Backbone(f"mobilenet_v3_{size}", _symmetric(224), width, parameters, multiply_adds, top1, source)
    # Top-1 of the last three: keras.io/api/applications.
    yield Backbone(
        "inception_v3",
        _symmetric(299),
        2048,
        0,
        0,
        77.9,
        KerasApplication(
            "InceptionV3",
            {},
            "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
            f"{_STORAGE}/inception_v3",
            "9a0d58056eeedaa3f26cb7ebd46da564",
        ),
    )
    yield Backbone(
        "resnet50",
        _scaled(224, (123.68, 116.779, 103.939), (1, 1, 1)),
        2048,
        0,
        0,
        74.9,
        KerasApplication(
            "ResNet50",
            {},
            "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
            f"{_STORAGE}/resnet",
            "2cb95161c43110f7111970584f804107",
            bgr=True,
        ),
    )
    yield Backbone(
        "efficientnet_b0",
        _standardised(224),
        1280,
        0,
        0,
        77.1,
        KerasApplication(
            "EfficientNetB0",
            {},
            "efficientnetb0.h5",
            "https://storage.googleapis.com/keras-applications",
            "902e53a9f72be733fc0bcb005b3ebbac",
            entry="stem_conv_pad",
        ),
    )


BACKBONES: Mapping[str, Backbone] = MappingProxyType({row.name: row for row in _rows()})
"""Every backbone by its name; those that need no download first."""

ALIASES: Mapping[str, str] = MappingProxyType({"mobilenet_v1": "mobilenet_1.0_224"})
"""Other names that are understood."""


def backbone_named(name: str) -> Backbone:
    """The backbone of a name or alias. Raises BadInput that offers the nearest names."""
    backbone = BACKBONES.get(ALIASES.get(name, name))
    if backbone is None:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), [*BACKBONES, *ALIASES], n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise BadInput(f"there is no backbone named {name!r}", hint=f"{meant}all of them: trtpoets models")
    return backbone


def weights_id(backbone: Backbone, weights: Path | None = None) -> str:
    """What tells these weights from any others, known before they are loaded: a sha256, or a published name.

    Raises BadInput when the user's file is not there.
    """
    if weights is not None:
        if not weights.is_file():
            raise BadInput(f"the weights {weights} are not a file", hint="give --weights the path of a weight file")
        return sha256_of_file(weights)
    if isinstance(backbone.source, EmbeddedWeights):
        return backbone.source.sha256
    return f"keras-applications:{backbone.source.file}:{backbone.source.md5 or 'no-published-hash'}"
