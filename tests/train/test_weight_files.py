"""Weight files of any origin: loaded where they fit, refused with the reason otherwise."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.backbones import answers, head_of, photos_of
from tests.support.errors import raises
from tests.support.torch_files import zip_file

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from safetensors.numpy import load_file, save_file

from trtpoets.core.errors import BadArtefact, BadInput, TrtPoetsError
from trtpoets.core.optional import tensorflow
from trtpoets.train.backbones import backbone_named
from trtpoets.train.networks import Network, network_from_backbone
from trtpoets.train.weights import EMBEDDED, HEAD_BIAS, HEAD_KERNEL

SMALL = "mobilenet_0.25_128"


@pytest.mark.parametrize(
    "ending",
    ["safetensors", "weights.h5", *(pytest.param(ending, marks=pytest.mark.slow) for ending in ("h5", "keras"))],
)
def test_a_file_of_each_kind_loads_and_gives_the_same_features(model_and_folder: tuple[Any, Path], ending: str) -> None:
    model, folder = model_and_folder
    path = folder / f"mine.{ending}"
    if ending == "weights.h5":
        model.save_weights(path)
    elif ending == "safetensors":
        save_file({weight.path: weight.numpy() for weight in model.weights}, path)
    else:
        model.save(path)
    network = network_from_backbone(backbone_named(SMALL), path)
    photos = photos_of(network)
    kernel, bias = head_of(network)
    logits = answers(network.model, photos) @ kernel + bias
    np.testing.assert_allclose(logits, answers(model, photos / np.float32(127.5) - 1), atol=2e-5)
    assert len(network.weights_id) == 64


@pytest.mark.slow  # builds a network twice
def test_a_file_without_the_last_layer_loads_without_a_head(tmp_path: Path) -> None:
    keras = tensorflow().keras
    model = keras.applications.MobileNet(
        alpha=0.25, input_shape=(128, 128, 3), weights=None, include_top=False, pooling="avg"
    )
    model.save_weights(tmp_path / "a.weights.h5")
    network = network_from_backbone(backbone_named(SMALL), tmp_path / "a.weights.h5")
    photos = photos_of(network)
    expected = answers(model, photos / np.float32(127.5) - 1)
    np.testing.assert_allclose(answers(network.model, photos), expected, atol=1e-5)
    assert network.imagenet_head is None


@pytest.mark.slow
def test_embedded_backbones_accept_only_files_with_their_layer_names(
    model_and_folder: tuple[Any, Path], lite0: Network, tmp_path: Path
) -> None:
    lite0.model.get_layer("efficientnet_lite0_base").save(tmp_path / "own.keras")
    again = network_from_backbone(lite0.backbone, tmp_path / "own.keras")
    photos = photos_of(lite0)
    np.testing.assert_array_equal(answers(again.model, photos), answers(lite0.model, photos))
    assert again.weights_id != lite0.weights_id
    theirs = tmp_path / "keras.weights.h5"
    model_and_folder[0].save_weights(theirs)
    with raises(BadInput, "TP2084", "mobilenet_v2", "'block_00_depthwise'") as caught:
        network_from_backbone(backbone_named("mobilenet_v2"), theirs)
    assert "names and shapes of mobilenet_v2.safetensors" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras"])
def test_weights_of_keras_mobilenet_v2_are_refused(ending: str, tmp_path: Path) -> None:
    """Its layers have our order and shapes, so Keras would load them, but its padding and scaling are others."""
    theirs = tensorflow().keras.applications.MobileNetV2(weights=None)
    path = tmp_path / f"theirs.{ending}"
    (theirs.save_weights if ending == "weights.h5" else theirs.save)(path)
    with raises(BadInput, "TP2084", "mobilenet_v2", "'block_00_depthwise'"):
        network_from_backbone(backbone_named("mobilenet_v2"), path)


@pytest.mark.parametrize(
    ("name", "content", "code", "value"),
    [
        ("a.h5", b"", "TP2081", "empty"),
        ("a.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "TP2084", "mobilenet_0.25_128"),
        ("a.keras", b"PK\x03\x04nothing", "TP2084", "mobilenet_0.25_128"),
        ("a.safetensors", b"\xff" * 64, "TP2088", "safetensors"),
        ("a.pth", b"\x80\x02", "TP2082", ".safetensors"),
        ("a", b"x", "TP2082", ".safetensors"),
    ],
)
def test_files_that_are_not_weight_files_are_refused(
    name: str, content: bytes, code: str, value: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with raises(BadInput, code, tmp_path / name, value) as caught:
        network_from_backbone(backbone_named(SMALL), tmp_path / name)
    assert caught.value.hint


def test_files_of_pytorch_that_do_not_fit(tmp_path: Path) -> None:
    row = backbone_named("mobilenet_v2")
    path = tmp_path / "a.pth"

    def refused(content: bytes, code: str, *values: object) -> None:
        path.write_bytes(content)
        with raises(BadInput, code, *values) as caught:
            network_from_backbone(row, path)
        assert "names and shapes of mobilenet_v2.safetensors" in caught.value.hint or code != "TP2154"

    refused(zip_file({"features.0.0.weight": np.zeros((32, 3, 3, 3), np.float32)}), "TP2085", "missing")
    refused(zip_file({"conv1.weight": np.zeros((32, 3, 3, 3), np.float32)}), "TP2154", "conv1", "mobilenet_v2")
    refused(zip_file({"a": np.zeros(2, np.float32)})[:-30], "TP2088", str(path))
    refused(b"", "TP2081", str(path))


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.h5"):
        with raises(BadInput, "TP2018"):
            network_from_backbone(backbone_named(SMALL), path)


@pytest.mark.parametrize("ending", [pytest.param("weights.h5", marks=pytest.mark.slow), "h5"])
def test_weights_of_another_width_do_not_fit(ending: str, tmp_path: Path) -> None:
    keras = tensorflow().keras
    other = keras.applications.MobileNet(alpha=0.5, input_shape=(128, 128, 3), weights=None)
    path = tmp_path / f"other.{ending}"
    (other.save_weights if ending == "weights.h5" else other.save)(path)
    with raises(BadInput, "TP2084", "mobilenet_0.25_128") as caught:
        network_from_backbone(backbone_named(SMALL), path)
    assert "keras.applications.MobileNet" in caught.value.hint


@pytest.mark.slow
def test_safetensors_that_do_not_fit(tmp_path: Path) -> None:
    row = backbone_named("mobilenet_v2")
    tensors = load_file(EMBEDDED["mobilenet_v2"].path)
    path = tmp_path / "a.safetensors"

    def refused(*values: object, error: type[TrtPoetsError] = BadInput) -> None:
        """`values` are texts that the message must contain."""
        save_file(tensors, path)
        with pytest.raises(error) as caught:
            network_from_backbone(row, path)
        assert all(str(value) in caught.value.message for value in values), caught.value.message

    good = tensors["stem/kernel"]
    tensors["stem/kernel"] = good[..., :3].copy()
    refused("stem/kernel", (3, 3, 3, 3), (3, 3, 3, 32))
    tensors["stem/kernel"] = good * np.float16(np.nan)
    refused("stem/kernel", error=BadArtefact)
    del tensors["stem/kernel"]
    refused("stem/kernel", "1 names missing, 0 unknown")
    tensors["stem/kernel"] = good
    tensors["other"] = good
    refused("other", "0 names missing, 1 unknown")
    del tensors["other"]
    bias = tensors[HEAD_BIAS]
    tensors[HEAD_BIAS] = bias[:10].copy()
    refused("1,000-class", (1280, 1000), (10,))
    del tensors[HEAD_BIAS]
    refused(HEAD_KERNEL)
    del tensors[HEAD_KERNEL]
    save_file(tensors, path)
    assert network_from_backbone(row, path).imagenet_head is None


def test_a_layer_that_keras_does_not_load_is_an_error(
    model_and_folder: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras may skip a layer with a warning only."""
    model, folder = model_and_folder
    path = folder / "complete.weights.h5"
    model.save_weights(path)
    keras = tensorflow().keras
    honest = keras.Model.load_weights

    def forgetful(self: Any, filepath: Path, **options: Any) -> None:
        before = self.get_layer("conv_dw_4").get_weights()
        honest(self, filepath, **options)
        self.get_layer("conv_dw_4").set_weights(before)

    monkeypatch.setattr(keras.Model, "load_weights", forgetful)
    with raises(BadInput, "TP2084", "mobilenet_0.25_128", "conv_dw_4/kernel"):
        network_from_backbone(backbone_named(SMALL), path)
