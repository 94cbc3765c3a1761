"""INT8 of a network for a race: the file that is timed, and the features that are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.support.photos import photo_folder
from tests.support.small_networks import LABELS, photos_in, residual_network, saved
from trtpoets.convert.graph.last_layer import base_of, last_layer
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import FORM_KEY, check_onnx, metadata_of, open_session
from trtpoets.core.types import Int8Form, Split
from trtpoets.pipeline.race_int8 import RaceNetwork, int8_features, int8_for_timing
from trtpoets.train.backbones import backbone_named
from trtpoets.train.head import Head


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RaceNetwork:
    """The base of a small network."""
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    model = saved(residual_network(), tmp_path / "whole.onnx")
    base = tmp_path / "base.onnx"
    base.write_bytes(base_of(check_onnx(model.path), "features"))
    width = len(last_layer(check_onnx(model.path)).weights)
    backbone = replace(backbone_named("mobilenet_v2"), preprocess=model.spec.preprocess, feature_width=width)
    return RaceNetwork(backbone, base, "w", LABELS)


def test_the_timed_file_is_int8_for_cpus(network: RaceNetwork, tmp_path: Path) -> None:
    photos = photos_in(photo_folder(tmp_path / "photos", dict.fromkeys(LABELS, 4)))
    timed = check_onnx(int8_for_timing(network, photos, tmp_path / "timed.onnx"))
    assert metadata_of(timed)[FORM_KEY] == Int8Form.CPU.value
    integers = [tensor for tensor in timed.graph.initializer if tensor.data_type == TensorProto.INT8]
    layers = sum(node.op_type == "Conv" for node in timed.graph.node)
    assert layers and sum(len(tensor.dims) == 4 for tensor in integers) == layers
    assert open_session(tmp_path / "timed.onnx").get_outputs()[0].shape[1] == len(LABELS)


@pytest.mark.parametrize("for_cpu", [False, True])
def test_features_in_int8_are_near_those_of_fp32(network: RaceNetwork, tmp_path: Path, for_cpu: bool) -> None:
    photos = photos_in(photo_folder(tmp_path / "photos", dict.fromkeys(LABELS, 12)))
    rng = np.random.default_rng(0)
    head = Head(
        rng.normal(size=(network.backbone.feature_width, len(LABELS))).astype(np.float32), np.zeros(3, np.float32)
    )
    fp32 = network.classifier(head, tmp_path / "fp32.onnx")
    validation = [replace(photo, split=Split.VALIDATION) for photo in photos[24:]]
    features, share, time = int8_features(
        fp32, photos[:24], validation, photos, tmp_path / "int8.onnx", for_cpu=for_cpu
    )
    assert share > 0.9
    assert (time is None) == for_cpu
    (pixels,) = photo_batches(photos, network.backbone.preprocess, len(photos))
    (exact,) = open_session(network.base).run(None, {"photos": pixels})
    assert features.shape == exact.shape
    assert 0 < np.square(features - exact).mean() < 0.05 * exact.var()
