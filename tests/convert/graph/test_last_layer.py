"""The last layer of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.small_networks import SIZE, Network, photos_in, residual_network, saved
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.last_layer import base_of, last_layer, with_head, with_last_layer
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session, read_onnx, write_onnx
from trtpoets.core.types import INPUT_NAME
from trtpoets.train.head import Head, head_scores


def test_the_last_layer_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    paths = [p.path for p in photos_in(photo_folder(tmp_path / "photos", {"ant": 3}))]
    proto = residual_network()
    model = saved(proto, tmp_path / "a.onnx")
    layer = last_layer(proto)
    base = base_of(proto, "features")
    (batch,) = photo_batches(paths, model.spec.preprocess, 8)
    assert batch.shape == (3, SIZE, SIZE, 3)
    seen = open_session(base).run(["features"], {INPUT_NAME: batch})[0]
    assert seen.shape == (3, len(layer.weights))
    random = np.random.default_rng(0)
    head = Head(
        random.normal(size=layer.weights.shape).astype(np.float32),
        random.normal(size=layer.bias.shape).astype(np.float32),
    )
    write_onnx(with_last_layer(proto, head.weights, head.bias), tmp_path / "b.onnx")
    assert read_onnx(tmp_path / "b.onnx").spec == model.spec
    scores = open_session(tmp_path / "b.onnx").run(None, {INPUT_NAME: batch})[0]
    assert np.allclose(scores, head_scores(head, seen), atol=1e-5)
    changed = with_last_layer(proto, head.weights, head.bias)
    assert base_of(changed, "features") == base
    again = with_last_layer(changed, layer.weights, layer.bias)
    assert again.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_a_head_is_put_on_a_base(tmp_path: Path) -> None:
    (path,) = (photo.path for photo in photos_in(photo_folder(tmp_path / "photos", {"ant": 1})))
    proto = residual_network()
    model = saved(proto, tmp_path / "a.onnx")
    layer = last_layer(proto)
    base = onnx.load_from_string(base_of(proto, "features"))
    base.graph.node[0].name = f"resnet/{base.graph.node[0].op_type}"
    metadata = {entry.key: entry.value for entry in onnx.load(model.path).metadata_props}
    whole = with_head(base, layer.weights, layer.bias, "resnet", metadata)
    assert base.graph.output[0].name == "features", "the base is not changed"
    assert whole.graph.node[0].name.startswith("classifier/")
    assert [(node.name, node.op_type) for node in whole.graph.node][-2:] == [
        ("scores/Gemm", "Gemm"),
        ("scores/Softmax", "Softmax"),
    ]
    write_onnx(whole, tmp_path / "b.onnx")
    assert read_onnx(tmp_path / "b.onnx").spec == model.spec
    (batch,) = photo_batches([path], model.spec.preprocess, 8)
    first, second = (open_session(tmp_path / name).run(None, {INPUT_NAME: batch})[0] for name in ("a.onnx", "b.onnx"))
    assert np.allclose(first, second, atol=1e-6)


def test_a_last_layer_that_is_none_of_ours() -> None:
    net = Network()
    proto = net.model(net.conv(net.features, 8, "stem"))
    with raises(ConversionFailed, "TP3006", "(2, 2)", "(2,)"):
        with_last_layer(proto, np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
    shared = Network()
    proto = shared.model(shared.conv(shared.features, 8, "stem"))
    head = GraphView(proto).producer[GraphView(proto).producer["scores"].input[0]]
    head.input[2] = "stem.bias"
    with raises(ConversionFailed, "TP3005"):
        last_layer(proto)
    GraphView(proto).producer["scores"].op_type = "Sigmoid"
    with raises(ConversionFailed, "TP3004"):
        last_layer(proto)
