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


_REGNETS = {
    # depth, w_0, w_a, w_m, width of groups: table 8 of the paper's appendix, by the parameters of torchvision
    "regnet_x_400mf": (22, 24, 24.48, 2.54, 16),
    "regnet_x_800mf": (16, 56, 35.73, 2.28, 16),
    "regnet_y_400mf": (16, 48, 27.89, 2.09, 8),
    "regnet_y_800mf": (14, 56, 38.84, 2.4, 16),
}


def regnet(name: str, size: int = 224) -> tuple[TorchNetwork, str]:
    """torchvision's RegNet and the name of its features."""
    depth, first, slope, step, group = _REGNETS[name]
    net = TorchNetwork(size)

    def unit(x: str, module: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        return net.norm(net.conv(x, f"{module}.0", out, kernel, stride, groups), f"{module}.1")

    def excited(x: str, module: str, squeezed: int) -> str:
        hidden = net.relu(net.conv(net.average(x), f"{module}.fc1", squeezed, bias=True))
        factors = net.op("Sigmoid", [net.conv(hidden, f"{module}.fc2", net.channels(x), bias=True)], net.channels(x))
        return net.op("Mul", [x, factors], net.channels(x))

    linear = np.arange(depth) * slope + first
    steps = np.round(np.log(linear / first) / math.log(step))
    widths = (np.round(first * step**steps / 8) * 8).astype(int)
    x = net.relu(unit("x", "stem", 32, 3, 2))
    for stage, quantised in enumerate(sorted(set(widths)), 1):
        # Widths are rounded to whole groups, at least 0.9 of what they were.
        rounded = max(group, int(quantised + group / 2) // group * group)
        out = rounded + group if rounded < 0.9 * quantised else rounded
        for block in range(int((widths == quantised).sum())):
            module = f"trunk_output.block{stage}.block{stage}-{block}"
            inner, stride = net.channels(x), 2 if block == 0 else 1
            shortcut = unit(x, f"{module}.proj", out, 1, stride) if block == 0 or inner != out else x
            inside = net.relu(unit(x, f"{module}.f.a", out))
            inside = net.relu(unit(inside, f"{module}.f.b", out, 3, stride, out // group))
            if name.startswith("regnet_y"):
                inside = excited(inside, f"{module}.f.se", round(0.25 * inner))
            x = net.relu(net.add(shortcut, unit(inside, f"{module}.f.c", out)))
    net.add_head("fc", net.channels(x))
    return net, net.average(x)


_MOBILENETS_V4 = {
    # timm's notation: kind, repeats, kernel of the first depthwise convolution, kernel, stride, expansion, channels;
    # a semicolon ends a stage
    "mobilenet_v4_conv_small": """
        cn_r1_k3_s2_c32 cn_r1_k1_s1_c32 ;
        cn_r1_k3_s2_c96 cn_r1_k1_s1_c64 ;
        uir_r1_a5_k5_s2_e3_c96 uir_r4_a0_k3_s1_e2_c96 uir_r1_a3_k0_s1_e4_c96 ;
        uir_r1_a3_k3_s2_e6_c128 uir_r1_a5_k5_s1_e4_c128 uir_r1_a0_k5_s1_e4_c128 uir_r1_a0_k5_s1_e3_c128
        uir_r2_a0_k3_s1_e4_c128 ;
        cn_r1_k1_s1_c960
    """,
    "mobilenet_v4_conv_medium": """
        er_r1_k3_s2_e4_c48 ;
        uir_r1_a3_k5_s2_e4_c80 uir_r1_a3_k3_s1_e2_c80 ;
        uir_r1_a3_k5_s2_e6_c160 uir_r2_a3_k3_s1_e4_c160 uir_r1_a3_k5_s1_e4_c160 uir_r1_a3_k3_s1_e4_c160
        uir_r1_a3_k0_s1_e4_c160 uir_r1_a0_k0_s1_e2_c160 uir_r1_a3_k0_s1_e4_c160 ;
        uir_r1_a5_k5_s2_e6_c256 uir_r1_a5_k5_s1_e4_c256 uir_r2_a3_k5_s1_e4_c256 uir_r1_a0_k0_s1_e4_c256
        uir_r1_a3_k0_s1_e4_c256 uir_r1_a3_k5_s1_e2_c256 uir_r1_a5_k5_s1_e4_c256 uir_r2_a0_k0_s1_e4_c256
        uir_r1_a5_k0_s1_e2_c256 ;
        cn_r1_k1_s1_c960
    """,
}


def mobilenet_v4(name: str, size: int = 224) -> tuple[TorchNetwork, str]:
    """timm's MobileNetV4 and the name of its features."""
    net = TorchNetwork(size)

    def unit(x: str, module: str, norm: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        return net.norm(net.conv(x, module, out, kernel, stride, groups), norm)

    def part(x: str, module: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        return unit(x, f"{module}.conv", f"{module}.bn", out, kernel, stride, groups)

    def universal(x: str, module: str, first: int, kernel: int, stride: int, expansion: int, out: int) -> str:
        before, inner = x, net.channels(x)
        if first:
            x = part(x, f"{module}.dw_start", inner, first, 1 if kernel else stride, inner)
        wide = inner * expansion
        x = net.relu(part(x, f"{module}.pw_exp", wide))
        if kernel:
            x = net.relu(part(x, f"{module}.dw_mid", wide, kernel, stride, wide))
        x = part(x, f"{module}.pw_proj", out)
        return net.add(before, x) if stride == 1 and inner == out else x

    x = net.relu(unit("x", "conv_stem", "bn1", 32, 3, 2))
    for stage, rows in enumerate(_MOBILENETS_V4[name].split(";")):
        blocks = [row for row in rows.split() for _ in range(int(row.split("_r")[1][0]))]
        for number, row in enumerate(blocks):
            kind, *values = row.split("_")
            size_of = {value[0]: int(value[1:]) for value in values}
            module, out = f"blocks.{stage}.{number}", size_of["c"]
            if kind == "cn":
                x = net.relu(unit(x, f"{module}.conv", f"{module}.bn1", out, size_of["k"], size_of["s"]))
            elif kind == "er":
                wide = net.channels(x) * size_of["e"]
                x = net.relu(unit(x, f"{module}.conv_exp", f"{module}.bn1", wide, size_of["k"], size_of["s"]))
                x = unit(x, f"{module}.conv_pwl", f"{module}.bn2", out)
            else:
                x = universal(x, module, size_of["a"], size_of["k"], size_of["s"], size_of["e"], out)
    features = net.relu(unit(net.average(x), "conv_head", "norm_head", 1280))
    net.add_head("classifier", 1280)
    return net, features
