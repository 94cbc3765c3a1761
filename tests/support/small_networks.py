"""Small ONNX networks for photos and scores, built layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtpoets.convert.graph.naming import finished
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.core.files import sha256_of_file
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, ModelSpec, OnnxModel, Photo, Precision, Preprocess, Split

SIZE = 32
LABELS = ("daisy", "rose", "tulip")


def spec(labels: tuple[str, ...] = LABELS) -> ModelSpec:
    preprocess = Preprocess(SIZE, SIZE, (1 / 127.5,) * 3, (-1.0,) * 3)
    return ModelSpec("small", "small", preprocess, labels, "made-for-a-test")


class Network:
    """Builds a graph node by node; each method returns the name of the tensor that it adds."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {}
        self.features = self.scaled()

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, inputs: list[str], name: str, channels: int, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}:0"], name=name, **attributes))
        self.channels[f"{name}:0"] = channels
        return f"{name}:0"

    def scaled(self) -> str:
        cast = self.op("Cast", [INPUT_NAME], "cast", 3, to=TensorProto.FLOAT)
        scale = self.constant("scale.1", np.float32(1 / 127.5))
        offset = self.constant("offset.1", np.float32(-1))
        scaled = self.op("Add", [self.op("Mul", [cast, scale], "scale", 3), offset], "offset", 3)
        return self.op("Transpose", [scaled], "nchw", 3, perm=[0, 3, 1, 2])

    def conv(self, source: str, out: int, name: str, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        into = self.channels[source] // group
        weight = self.random.normal(0, (2 / (into * kernel**2)) ** 0.5, (out, into, kernel, kernel))
        inputs = [
            source,
            self.constant(f"{name}.weight", weight.astype(np.float32)),
            self.constant(f"{name}.bias", self.random.normal(0, 0.1, out).astype(np.float32)),
        ]
        pad = [kernel // 2] * 4
        return self.op(
            "Conv", inputs, name, out, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pad, group=group
        )

    def unary(self, kind: str, source: str, name: str, **attributes: Any) -> str:
        return self.op(kind, [source], name, self.channels[source], **attributes)

    def pool(self, kind: str, source: str, name: str) -> str:
        return self.unary(kind, source, name, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])

    def add(self, first: str, second: str, name: str, kind: str = "Add") -> str:
        return self.op(kind, [first, second], name, self.channels[first])

    def concat(self, sources: list[str], name: str) -> str:
        return self.op("Concat", sources, name, sum(self.channels[s] for s in sources), axis=1)

    def model(
        self, last: str, labels: tuple[str, ...] = LABELS, precision: Precision = Precision.FP32
    ) -> onnx.ModelProto:
        flat = self.unary("Flatten", self.unary("GlobalAveragePool", last, "pool"), "flat")
        weight = self.random.normal(0, 0.5, (self.channels[last], len(labels))).astype(np.float32)
        bias = self.constant("head.bias", np.zeros(len(labels), np.float32))
        head = self.op("Gemm", [flat, self.constant("head.weight", weight), bias], "head", len(labels))
        self.nodes.append(helper.make_node("Softmax", [head], [OUTPUT_NAME], name="softmax", axis=1))
        photos = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIZE, SIZE, 3])
        scores = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", len(labels)])
        graph = helper.make_graph(self.nodes, "small", [photos], [scores], self.constants)
        return finished(graph, 17, metadata_of_spec(spec(labels), precision))


def residual_network(seed: int = 0) -> onnx.ModelProto:
    """Stem, depthwise, projection, and a residual block as MobileNetV2 has them."""
    net = Network(seed)
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    depthwise = net.unary("Relu", net.conv(stem, 16, "depthwise", group=16), "depthwise_relu")
    project = net.conv(depthwise, 16, "project", kernel=1)
    expand = net.unary("Relu", net.conv(project, 32, "expand", kernel=1), "expand_relu")
    block = net.add(project, net.conv(expand, 16, "back", kernel=1), "join")
    return net.model(net.unary("Relu", net.conv(block, 32, "top", kernel=1), "top_relu"))


def saved(model: object, path: Path, precision: Precision = Precision.FP32) -> OnnxModel:
    path.write_bytes(model.SerializeToString())  # type: ignore[attr-defined]
    return OnnxModel(path, precision, spec())


def photos_in(folder: Path, split: Split = Split.TRAIN) -> list[Photo]:
    """The photos that tests.support.photos.photo_folder wrote, all in one split."""
    return [Photo(f, f.parent.name, split, sha256_of_file(f)) for f in sorted(folder.rglob("*.jpg"))]
