"""Networks as PyTorch defines them, with random weights in PyTorch's names, run by ONNX Runtime.

They are written from the definitions of their publishers, independently of `trtpoets.train.own_networks`: with
PyTorch's padding and modes, channels first. A slow test compares them with torchvision and timm where these are
installed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from trtpoets.core.onnx_file import open_session


class TorchNetwork:
    """Builds a network node by node. `tensors` gets its random weights, in PyTorch's names and layout."""

    def __init__(self, size: int, epsilon: float = 1e-5, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: dict[str, np.ndarray] = {}
        self.size = size
        self._epsilon = epsilon
        self._nodes: list[Any] = []
        self._channels = {"x": 3}

    def op(self, kind: str, inputs: list[str], channels: int, **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self._channels[name] = channels
        return name

    def tensor(self, name: str, value: np.ndarray) -> str:
        self.tensors[name] = np.asarray(value, np.float32)
        return name

    def conv(
        self, x: str, module: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> str:
        """nn.Conv2d with padding kernel // 2."""
        inner = self._channels[x] // groups
        deviation = math.sqrt(2 / (inner * kernel * kernel))
        weight = self.random.normal(0, deviation, (out, inner, kernel, kernel))
        inputs = [x, self.tensor(f"{module}.weight", weight)]
        if bias:
            inputs.append(self.tensor(f"{module}.bias", self.random.normal(0, 0.1, out)))
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.op("Conv", inputs, out, group=groups, **sizes)

    def norm(self, x: str, module: str) -> str:
        """nn.BatchNorm2d in inference mode."""
        size = self._channels[x]
        values = {
            "weight": self.random.uniform(0.8, 1.2, size),
            "bias": self.random.normal(0, 0.1, size),
            "running_mean": self.random.normal(0, 0.1, size),
            "running_var": self.random.uniform(0.8, 1.2, size),
        }
        inputs = [x, *(self.tensor(f"{module}.{key}", value) for key, value in values.items())]
        self.tensors[f"{module}.num_batches_tracked"] = np.array(7)
        return self.op("BatchNormalization", inputs, size, epsilon=self._epsilon)

    def relu(self, x: str) -> str:
        return self.op("Relu", [x], self._channels[x])

    def max_pool(self, x: str, kernel: int, stride: int, padding: int = 0) -> str:
        """nn.MaxPool2d with ceil_mode."""
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
        return self.op("MaxPool", [x], self._channels[x], ceil_mode=1, **sizes)

    def concat(self, parts: list[str]) -> str:
        return self.op("Concat", parts, sum(self._channels[part] for part in parts), axis=1)

    def add(self, first: str, second: str) -> str:
        return self.op("Add", [first, second], self._channels[first])

    def average(self, x: str) -> str:
        return self.op("GlobalAveragePool", [x], self._channels[x])

    def channels(self, x: str) -> int:
        return self._channels[x]

    def add_head(self, module: str, width: int) -> None:
        self.tensor(f"{module}.weight", self.random.normal(0, 0.1, (1000, width)))
        self.tensor(f"{module}.bias", self.random.normal(0, 0.1, 1000))

    def run(self, output: str, photos: np.ndarray) -> np.ndarray:
        """float32 (N, H, W, 3), scaled -> the flat output, float32 (N, D)."""
        used = {name for node in self._nodes for name in node.input}
        constants = [numpy_helper.from_array(value, name) for name, value in self.tensors.items() if name in used]
        shape: list[str | int | None] = ["N", 3, self.size, self.size]
        graph = helper.make_graph(
            [*self._nodes, helper.make_node("Flatten", [output], ["y"])],
            "reference",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None])],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = open_session(model.SerializeToString(), threads=1)
        features: np.ndarray = session.run(["y"], {"x": np.ascontiguousarray(photos.transpose(0, 3, 1, 2))})[0]
        return features


def googlenet(size: int = 224) -> tuple[TorchNetwork, str]:
    """torchvision's GoogLeNet and the name of its features; its auxiliary heads have weights and are not computed."""
    net = TorchNetwork(size, epsilon=1e-3)

    def unit(x: str, module: str, out: int, kernel: int = 1, stride: int = 1) -> str:
        return net.relu(net.norm(net.conv(x, f"{module}.conv", out, kernel, stride), f"{module}.bn"))

    def inception(x: str, module: str, widths: tuple[int, ...]) -> str:
        one, three_in, three, five_in, five, pooled = widths
        branch1 = unit(x, f"{module}.branch1", one)
        branch2 = unit(unit(x, f"{module}.branch2.0", three_in), f"{module}.branch2.1", three, 3)
        branch3 = unit(unit(x, f"{module}.branch3.0", five_in), f"{module}.branch3.1", five, 3)
        branch4 = unit(net.max_pool(x, 3, 1, 1), f"{module}.branch4.1", pooled)
        return net.concat([branch1, branch2, branch3, branch4])

    x = net.max_pool(unit("x", "conv1", 64, 7, 2), 3, 2)
    x = net.max_pool(unit(unit(x, "conv2", 64), "conv3", 192, 3), 3, 2)
    x = inception(x, "inception3a", (64, 96, 128, 16, 32, 32))
    x = inception(x, "inception3b", (128, 128, 192, 32, 96, 64))
    x = net.max_pool(x, 3, 2)
    x = inception(x, "inception4a", (192, 96, 208, 16, 48, 64))
    auxiliary = [("aux1", x)]
    x = inception(x, "inception4b", (160, 112, 224, 24, 64, 64))
    x = inception(x, "inception4c", (128, 128, 256, 24, 64, 64))
    x = inception(x, "inception4d", (112, 144, 288, 32, 64, 64))
    auxiliary.append(("aux2", x))
    x = inception(x, "inception4e", (256, 160, 320, 32, 128, 128))
    x = net.max_pool(x, 2, 2)
    x = inception(x, "inception5a", (256, 160, 320, 32, 128, 128))
    x = inception(x, "inception5b", (384, 192, 384, 48, 128, 128))
    features = net.average(x)
    for module, source in auxiliary:
        unit(source, f"{module}.conv", 128)
        net.tensor(f"{module}.fc1.weight", np.zeros((1024, 2048)))
        net.tensor(f"{module}.fc1.bias", np.zeros(1024))
        net.add_head(f"{module}.fc2", 1024)
    net.add_head("fc", 1024)
    return net, features
