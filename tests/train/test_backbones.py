"""The table of backbones, held to what Keras has."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.support.backbones import keras_source
from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.types import Resize
from trtpoets.train.backbones import (
    ALIASES,
    BACKBONES,
    DEFAULT_BACKBONE,
    Backbone,
    KerasApplication,
    backbone_named,
)

APPLICATIONS = [row for row in BACKBONES.values() if isinstance(row.source, KerasApplication)]


def test_the_table_contains_all_documented_backbones() -> None:
    codelab = {f"mobilenet_{a}_{s}" for a in ("0.25", "0.50", "0.75", "1.0") for s in (128, 160, 192, 224)}
    others = {"efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"}
    lites = {"efficientnet_lite1", "efficientnet_lite2"}
    regnets = {f"regnet_{letter}_{size}mf" for letter in "xy" for size in (400, 800)}
    v4 = {"mobilenet_v4_conv_small", "mobilenet_v4_conv_medium"}
    older = {"googlenet", "inception_v3", "resnet50", "efficientnet_b0"}
    keras = {*(f"efficientnet_v2_b{number}" for number in range(4)), "convnext_tiny"}
    assert set(BACKBONES) == codelab | others | lites | regnets | v4 | older | keras
    assert all(name == row.name for name, row in BACKBONES.items())
    deliveries = [row.delivery for row in BACKBONES.values()]
    assert deliveries[:4] == ["embedded", "embedded", "extra", "extra"]
    assert set(deliveries[4:]) == {"download"}
    assert [row.needs_download for row in BACKBONES.values()] == [text == "download" for text in deliveries]


def test_the_default_needs_no_download() -> None:
    assert not backbone_named(DEFAULT_BACKBONE).needs_download


def test_aliases() -> None:
    assert backbone_named("mobilenet_v1") is BACKBONES["mobilenet_1.0_224"]
    assert not set(ALIASES) & set(BACKBONES)


@pytest.mark.parametrize(
    ("name", "near"),
    [("mobilenet-v2", "mobilenet_v2"), ("ResNet_50", "resnet50"), ("mobilenet_0.5_224", "mobilenet_0.50_224")],
)
def test_an_unknown_name_offers_the_nearest(name: str, near: str) -> None:
    with raises(BadInput, "TP2001", name) as caught:
        backbone_named(name)
    assert near in caught.value.hint


@pytest.mark.parametrize("name", ["", "zebra", "../etc", "🐼", "x" * 10_000])
def test_an_absurd_name_says_where_all_are(name: str) -> None:
    with raises(BadInput, "TP2001", name[:20]) as caught:
        backbone_named(name)
    assert caught.value.hint == "list all: trtpoets models"
    assert len(caught.value.message) < 200


def test_published_preprocessing_differs_only_in_the_crop() -> None:
    fractions = {"efficientnet_lite1": 240 / 272, "efficientnet_lite2": 260 / 292, "mobilenet_v4_conv_medium": 0.95}
    for row in BACKBONES.values():
        published = row.published_preprocess
        assert (published.resize, published.crop_fraction) == (Resize.CROP, fractions.get(row.name, 0.875))
        assert (published.scale, published.offset) == (row.preprocess.scale, row.preprocess.offset)
        assert row.preprocess.resize is Resize.STRETCH


def test_reading_the_table_loads_nothing_heavy() -> None:
    code = (
        "import sys; import trtpoets.train.backbones as b; import trtpoets.train.downloaded_weights as p; "
        "[p.weights_id(r) for r in b.BACKBONES.values() if not r.needs_download]; "
        "print({'tensorflow', 'keras', 'safetensors', 'h5py', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "name", ["mobilenet_0.50_160", "mobilenet_v3_small", pytest.param("efficientnet_b0", marks=pytest.mark.slow)]
)
def test_the_file_is_what_keras_fetches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_what_keras_fetches(backbone_named(name), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.name)
def test_each_file_is_what_keras_fetches(row: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    check_what_keras_fetches(row, monkeypatch)


def check_what_keras_fetches(row: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let keras.applications begin to download, and look at what it asks for."""
    keras = pytest.importorskip("keras")
    from keras.src.utils import file_utils

    class Asked(Exception):
        pass

    def get_file(name: str, origin: str, cache_subdir: str, file_hash: str | None = None) -> None:
        raise Asked(name, origin, cache_subdir, file_hash)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    shape = (row.preprocess.height, row.preprocess.width, 3)
    source = keras_source(row)
    with pytest.raises(Asked) as caught:
        getattr(keras.applications, source.function)(input_shape=shape, **source.arguments)
    assert caught.value.args == (source.file, source.url, "models", source.md5 or source.keras_sha256)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("mobilenet_0.25_128", "mobilenet"),
        ("inception_v3", "inception_v3"),
        ("resnet50", "resnet50"),
    ],
)
def test_scaling_is_that_of_keras(name: str, module: str) -> None:
    keras = pytest.importorskip("keras")
    photos = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    expected = getattr(keras.applications, module).preprocess_input(photos.astype(np.float32))
    row = backbone_named(name)
    ours = photos * np.array(row.preprocess.scale, np.float32) + np.array(row.preprocess.offset, np.float32)
    if keras_source(row).bgr:
        ours = ours[..., ::-1]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("mobilenet_v3_small", "tf"),
        ("mobilenet_v3_large", "tf"),
        ("efficientnet_b0", "torch"),
        ("efficientnet_v2_b0", "torch"),
        ("convnext_tiny", "torch"),
        ("mobilenet_v2", "torch"),
    ],
)
def test_scaling_of_the_others(name: str, mode: str) -> None:
    imagenet_utils = pytest.importorskip("keras.src.applications.imagenet_utils")
    photos = np.random.default_rng(1).integers(0, 256, (2, 5, 4, 3), np.uint8)
    row = backbone_named(name)
    ours = photos * np.array(row.preprocess.scale, np.float32) + np.array(row.preprocess.offset, np.float32)
    expected = imagenet_utils.preprocess_input(photos.astype(np.float32), mode=mode)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
