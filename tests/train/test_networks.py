"""Networks: built as the table says, loaded from any file that fits, refused in plain words otherwise."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.backbones import answers, head_of, keras_source, photos_of
from tests.support.errors import raises
from tests.support.shared_files import SHARED
from trtpoets.train.backbones import Backbone

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.images import photo_to_array
from trtpoets.core.optional import tensorflow
from trtpoets.train import downloaded_weights
from trtpoets.train.backbones import BACKBONES, backbone_named
from trtpoets.train.networks import Network, graphs_of, network_from_backbone, with_scaling
from trtpoets.train.packaged_weights import PackagedWeights
from trtpoets.train.weights import EMBEDDED

SMALL = "mobilenet_0.25_128"


def multiply_adds(model: Any) -> int:
    """Of the convolutions and matrices below `model`, for one photo."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += multiply_adds(layer)
            continue
        for variable in layer.variables:
            if variable.path.endswith("kernel"):
                places = math.prod(layer.output.shape[1:-1])
                total += math.prod(variable.shape) * places
    return total


def check_row(name: str) -> None:
    row = backbone_named(name)
    base = graphs_of(row)[0]().base
    assert base.output.shape == (None, row.feature_width)
    assert base.count_params() == row.parameters
    assert multiply_adds(base) == row.multiply_adds
    assert base.input.shape == (None, row.preprocess.height, row.preprocess.width, 3)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_networks_match_the_table(name: str) -> None:
    check_row(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_all_networks_match_the_table(name: str) -> None:
    check_row(name)


def test_a_network_takes_photos_and_gives_features(lite0: Network) -> None:
    model, row = lite0.model, lite0.backbone
    assert (model.input.name, model.input.dtype, model.input.shape) == ("photos", "uint8", (None, 224, 224, 3))
    assert (model.output.dtype, model.output.shape) == ("float32", (None, row.feature_width))
    assert not model.trainable_variables
    assert lite0.weights_id == EMBEDDED["efficientnet_lite0"].sha256
    features = answers(model, photos_of(lite0))
    assert features.shape == (2, 1280)
    assert np.isfinite(features).all()
    assert features.std() > 0.05
    kernel, bias = head_of(lite0)
    assert (kernel.shape, bias.shape, kernel.dtype) == ((1280, 1000), (1000,), np.float32)


def test_the_same_weights_give_the_same_features(lite0: Network) -> None:
    again = network_from_backbone(lite0.backbone)
    photos = photos_of(lite0)
    np.testing.assert_array_equal(answers(again.model, photos), answers(lite0.model, photos))


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
        ),
    ],
)
def test_networks_without_a_download_classify_daisies(name: str) -> None:
    folder = SHARED / "data" / "flowers5" / "daisy"
    if not folder.is_dir():
        pytest.skip("the folder shared is absent")
    source = backbone_named(name).source
    if isinstance(source, PackagedWeights) and find_spec(source.module) is None:
        pytest.skip(f"needs {source.distribution}")
    network = network_from_backbone(backbone_named(name))
    wanted = network.backbone.published_preprocess
    photos = np.stack([photo_to_array(path, wanted) for path in sorted(folder.iterdir())[:12]])
    kernel, bias = head_of(network)
    logits = answers(network.model, photos) @ kernel + bias
    best = np.argsort(-logits, axis=1)[:, :5]
    assert (best == 985).any(axis=1).sum() >= 11
    assert (best[:, 0] == 985).sum() >= 8


class Response(io.BytesIO):
    """What urlopen gives."""

    headers: Mapping[str, str] = {}
    url = "https://example.org/file.h5"

    def geturl(self) -> str:
        return self.url


@pytest.fixture
def no_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty caches of Keras and trtpoets; gives Keras's folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def test_a_failed_download_names_the_alternatives(
    monkeypatch: pytest.MonkeyPatch, no_caches: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    row = backbone_named("resnet50")

    def refuse(url: str) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(downloaded_weights, "opener", refuse)
    file = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    with raises(MissingArtefact, "TP2019", f"{file} of resnet50", "Network is unreachable") as caught:
        network_from_backbone(row)
    assert keras_source(row).url in caught.value.hint
    assert "--weights FILE; these backbones need no download: efficientnet_lite0, mobilenet_v2" in caught.value.hint
    assert capfd.readouterr().out == ""


@pytest.mark.slow  # builds a network three times
def test_downloaded_weights_are_cached_and_identified_by_content(
    model_and_folder: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch, no_caches: Path, tmp_path: Path
) -> None:
    model, _ = model_and_folder
    model.save(tmp_path / "published.h5")
    content = (tmp_path / "published.h5").read_bytes()
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(content))
    network = network_from_backbone(backbone_named(SMALL))
    assert network.weights_id == hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: pytest.fail("it is fetched again"))
    network = network_from_backbone(backbone_named(SMALL))
    assert network.imagenet_head is not None
    photos = photos_of(network)
    logits = answers(network.model, photos) @ network.imagenet_head[0] + network.imagenet_head[1]
    np.testing.assert_allclose(logits, answers(model, photos / np.float32(127.5) - 1), atol=2e-5)


def test_a_damaged_download_says_what_to_delete(
    monkeypatch: pytest.MonkeyPatch, no_caches: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(b"half a file"))
    with raises(BadArtefact, "TP2074") as caught:
        network_from_backbone(backbone_named(SMALL))
    path = tmp_path / "cache" / "weights" / "mobilenet_2_5_128_tf.h5"
    assert caught.value.hint == f"delete {path}, and it will be downloaded again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("resnet50", "resnet50"),
        ("mobilenet_v3_small", "mobilenet"),
        ("mobilenet_v3_large", "mobilenet"),
        ("inception_v3", "inception_v3"),
        ("efficientnet_b0", "efficientnet"),
        ("efficientnet_v2_b0", "efficientnet_v2"),
        ("efficientnet_v2_b3", "efficientnet_v2"),
        ("convnext_tiny", "convnext"),
    ],
)
def test_logits_are_those_of_keras_applications(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut, the scaling and the order of colours: head(features(photo)) is what Keras's own network gives.

    Keras believes that it has downloaded the file of weights, which are random here.
    """
    keras = tensorflow().keras
    keras.utils.set_random_seed(3)
    row, path = backbone_named(name), tmp_path / "a.weights.h5"
    shape = (row.preprocess.height, row.preprocess.width, 3)
    source = keras_source(row)
    function = getattr(keras.applications, source.function)
    # These scale photos in the network: a layer without weights, which our network omits.
    arguments = {} if module in ("efficientnet_v2", "convnext") else source.arguments
    seed = function(weights=None, input_shape=shape, **arguments)
    for layer in seed.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # What EfficientNet's published file holds: deviations in the place of variances. Keras divides twice.
            layer.set_weights(
                [np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32), np.int32(0)]
            )
    if "v3" in name and "mobilenet" in name:  # Keras starts these so small that every photo looks alike
        rng = np.random.default_rng(3)
        for weight in seed.weights:
            if weight.path.endswith("kernel"):
                inputs = math.prod(weight.shape[:2] if weight.shape[-1] == 1 else weight.shape[:-1])
                weight.assign(rng.normal(0, (2 / inputs) ** 0.5, weight.shape))
    if module == "convnext":  # Keras starts the factors of its residual branches with 1e-6
        for weight in seed.weights:
            if weight.path.endswith("layer_scale/gamma"):
                weight.assign(np.full(weight.shape, 0.3))
    seed.save_weights(path)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    whole = function(input_shape=shape, **arguments)
    network = network_from_backbone(row, path)
    photos = photos_of(network)
    expected = answers(whole, getattr(keras.applications, module).preprocess_input(photos.astype(np.float32)))
    kernel, bias = head_of(network)
    logits = answers(network.model, photos) @ kernel + bias
    scores = np.asarray(keras.ops.softmax(logits))
    assert expected.std() > 1e-8
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


@pytest.mark.slow
def test_mobilenet_v1_gives_the_features_of_the_published_graph() -> None:
    """The graph's constants in our network give the graph's own features, on real photos."""
    path = SHARED / "weights" / "mobilenet_v1_0.25_224" / "frozen_graph.pb"
    flowers = SHARED / "data" / "flowers5"
    if not path.is_file() or not flowers.is_dir():
        pytest.skip("the folder shared is absent")
    tf = tensorflow()
    graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    constants = {n.name: tf.make_ndarray(n.attr["value"].tensor) for n in graph_def.node if n.op == "Const"}
    row = backbone_named("mobilenet_0.25_224")
    paths = [photo for label in sorted(flowers.iterdir()) for photo in sorted(label.iterdir())[:8]]
    photos = np.stack([photo_to_array(photo, row.preprocess) for photo in paths])
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        scaled = photos.astype(np.float32) / 127.5 - 1
        pooled = "MobilenetV1/Logits/AvgPool_1a/AvgPool:0"
        expected = np.concatenate([session.run(pooled, {"input:0": photo[None]})[:, 0, 0] for photo in scaled])
    network = _network_of_constants(row, constants)
    features = answers(network, photos)
    assert np.abs(features - expected).max() < 1e-3 * np.abs(expected).max()


def _network_of_constants(row: Backbone, constants: Mapping[str, np.ndarray]) -> Any:
    base = graphs_of(row)[0]().base
    for variable in base.variables:
        layer, name = variable.path.split("/")
        if layer.startswith("conv1"):
            place = "Conv2d_0"
        else:
            _, kind, number = layer.removesuffix("_bn").split("_")
            place = f"Conv2d_{number}_{'depthwise' if kind == 'dw' else 'pointwise'}"
        if name == "kernel":
            inner = "depthwise_weights" if "depthwise" in place else "weights"
        else:
            inner = f"BatchNorm/{name}"
        variable.assign(constants[f"MobilenetV1/{place}/{inner}"])
    return with_scaling(row, base)
