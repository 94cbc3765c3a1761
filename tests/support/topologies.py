"""Small networks with the structure of common classifiers: random weights, photos of 32 x 32 pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from tests.support.small_networks import LABELS, SIZE, Network, spec
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Precision


class Topology(Network):
    """A Network with the layers of more classifiers; each method returns the name of the tensor that it adds."""

    def normal(self, name: str, shape: tuple[int, ...], fan_in: int, gain: float = 2.0) -> str:
        return self.constant(name, self.random.normal(0, (gain / fan_in) ** 0.5, shape).astype(np.float32))

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.float32(value))

    def whole(self, name: str, values: list[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    def with_constant(self, kind: str, source: str, name: str, value: np.ndarray | float) -> str:
        constant = self.constant(f"{name}.1", np.asarray(value, np.float32))
        return self.op(kind, [source, constant], name, self.channels[source])

    def relu(self, source: str, name: str) -> str:
        return self.unary("Relu", source, name)

    def conv_relu(self, source: str, out: int, name: str, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        return self.relu(self.conv(source, out, name, kernel, stride, group), f"{name}_relu")

    def norm(self, source: str, name: str) -> str:
        """A batch norm that no convolution can absorb: Mul and Add."""
        size = self.channels[source]
        scaled = self.with_constant("Mul", source, f"{name}_mul", self.random.uniform(0.5, 1.5, (1, size, 1, 1)))
        return self.with_constant("Add", scaled, f"{name}_add", self.random.normal(0, 0.2, (1, size, 1, 1)))

    def smaller(self, kind: str, source: str, name: str) -> str:
        return self.unary(kind, source, name, kernel_shape=[2, 2], strides=[2, 2])

    def silu(self, source: str, name: str) -> str:
        return self.add(source, self.unary("Sigmoid", source, f"{name}_sigmoid"), name, "Mul")

    def hard_swish(self, source: str, name: str) -> str:
        gate = self.unary("HardSigmoid", source, f"{name}_gate", alpha=1 / 6, beta=0.5)
        return self.add(source, gate, name, "Mul")

    def clipped_swish(self, source: str, name: str) -> str:
        """HardSwish as x * clip(x + 3, 0, 6) / 6."""
        plus = self.with_constant("Add", source, f"{name}_plus", np.float32(3))
        bounds = [self.number(f"{name}.low", 0), self.number(f"{name}.high", 6)]
        gate = self.op("Clip", [plus, *bounds], f"{name}_clip", self.channels[source])
        return self.with_constant("Div", self.add(source, gate, f"{name}_gated", "Mul"), name, np.float32(6))

    def gelu(self, source: str, name: str) -> str:
        """GELU as 0.5 * x * (1 + erf(x / sqrt 2))."""
        erf = self.unary("Erf", self.with_constant("Div", source, f"{name}_div", 2**0.5), f"{name}_erf")
        one = self.with_constant("Add", erf, f"{name}_one", np.float32(1))
        return self.with_constant("Mul", self.add(source, one, f"{name}_mul", "Mul"), name, np.float32(0.5))

    def excited(self, source: str, name: str, gate: str = "Sigmoid") -> str:
        """Squeeze-and-excitation."""
        size = self.channels[source]
        squeezed = self.unary("GlobalAveragePool", source, f"{name}_squeeze")
        reduced = self.conv_relu(squeezed, 8, f"{name}_reduce", kernel=1)
        return self.add(
            source, self.unary(gate, self.conv(reduced, size, f"{name}_expand", 1), f"{name}_gate"), name, "Mul"
        )

    def dense(self, source: str, out: int, name: str, gain: float = 2.0) -> str:
        """A MatMul on the last axis and the Add of its bias."""
        size = self.channels[source]
        weight = self.normal(f"{name}.weight", (size, out), size, gain)
        product = self.op("MatMul", [source, weight], name, out)
        return self.with_constant("Add", product, f"{name}_bias", self.random.normal(0, 0.1, out))

    def gemm(self, source: str, out: int, name: str) -> str:
        size = self.channels[source]
        bias = self.constant(f"{name}.bias", self.random.normal(0, 0.1, out).astype(np.float32))
        return self.op("Gemm", [source, self.normal(f"{name}.weight", (out, size), size), bias], name, out, transB=1)

    def layer_norm(self, source: str, name: str) -> str:
        """LayerNormalization over the last axis."""
        size = self.channels[source]
        scale = self.constant(f"{name}.gain", self.random.uniform(0.5, 1.5, size).astype(np.float32))
        bias = self.constant(f"{name}.bias", self.random.normal(0, 0.2, size).astype(np.float32))
        return self.op("LayerNormalization", [source, scale, bias], name, size, axis=-1, epsilon=1e-5)

    def layer_norm_parts(self, source: str, name: str) -> str:
        """The same as a mean, a variance and pointwise operators, as exporters write it for opset 16 and earlier."""
        size = self.channels[source]
        centred = self.add(source, self.unary("ReduceMean", source, f"{name}_mean", axes=[-1]), f"{name}_sub", "Sub")
        square = self.with_constant("Pow", centred, f"{name}_pow", np.float32(2))
        variance = self.unary("ReduceMean", square, f"{name}_variance", axes=[-1])
        root = self.unary("Sqrt", self.with_constant("Add", variance, f"{name}_eps", np.float32(1e-5)), f"{name}_sqrt")
        scaled = self.with_constant(
            "Mul", self.add(centred, root, f"{name}_div", "Div"), f"{name}_scale", self.random.uniform(0.5, 1.5, size)
        )
        return self.with_constant("Add", scaled, name, self.random.normal(0, 0.2, size))

    def transposed(self, source: str, name: str, perm: list[int], channels: int) -> str:
        return self.op("Transpose", [source], name, channels, perm=perm)

    def reshaped(self, source: str, name: str, shape: list[int], channels: int) -> str:
        return self.op("Reshape", [source, self.whole(f"{name}.1", shape)], name, channels)

    def split(self, source: str, name: str) -> tuple[str, str]:
        """Split the channels of (N, C, H, W) in two halves."""
        half = self.channels[source] // 2
        outputs = [f"{name}:0", f"{name}:1"]
        sizes = self.whole(f"{name}.1", [half, half])
        self.nodes.append(helper.make_node("Split", [source, sizes], outputs, name=name, axis=1))
        self.channels.update(dict.fromkeys(outputs, half))
        return outputs[0], outputs[1]

    def sliced(self, source: str, name: str, start: int, stop: int) -> str:
        bounds = [self.whole(f"{name}.{i}", [value]) for i, value in enumerate((start, stop, 1), 1)]
        return self.op("Slice", [source, *bounds], name, stop - start)

    def shuffled(self, source: str, name: str, side: int) -> str:
        """ShuffleNet's channel shuffle with two groups: Reshape, Transpose, Reshape."""
        size = self.channels[source]
        apart = self.reshaped(source, f"{name}_apart", [-1, 2, size // 2, side, side], size)
        turned = self.transposed(apart, f"{name}_turn", [0, 2, 1, 3, 4], size)
        return self.reshaped(turned, name, [-1, size, side, side], size)

    def attention(self, source: str, name: str, tokens: int, heads: int = 2) -> str:
        """Multi-head self-attention on (N, T, D): two products of activations, and Softmax."""
        size = self.channels[source]
        depth = size // heads

        def split_heads(kind: str, perm: list[int]) -> str:
            projected = self.dense(source, size, f"{name}_{kind}", gain=1.0)
            apart = self.reshaped(projected, f"{name}_{kind}_apart", [-1, tokens, heads, depth], size)
            return self.transposed(apart, f"{name}_{kind}_heads", perm, depth)

        query, value = (split_heads(kind, [0, 2, 1, 3]) for kind in ("query", "value"))
        product = self.op("MatMul", [query, split_heads("key", [0, 2, 3, 1])], f"{name}_scores", tokens)
        scaled = self.with_constant("Mul", product, f"{name}_scaled", depth**-0.5)
        weights = self.unary("Softmax", scaled, f"{name}_softmax", axis=-1)
        mixed = self.op("MatMul", [weights, value], f"{name}_mix", depth)
        joined = self.reshaped(
            self.transposed(mixed, f"{name}_joined", [0, 2, 1, 3], depth), f"{name}_flat", [-1, tokens, size], size
        )
        return self.dense(joined, size, f"{name}_out", gain=1.0)

    def ended(self, logits: str) -> object:
        """Return the model whose scores are the softmax of (N, labels)."""
        self.nodes.append(helper.make_node("Softmax", [logits], [OUTPUT_NAME], name="softmax", axis=1))
        photos = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIZE, SIZE, 3])
        scores = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", len(LABELS)])
        graph = helper.make_graph(self.nodes, "small", [photos], [scores], self.constants)
        return finished(graph, 17, metadata_of_spec(spec(), Precision.FP32))

    def token_model(self, last: str) -> object:
        """Return the model whose features are the mean of the tokens (N, T, D)."""
        pooled = self.unary("ReduceMean", last, "pool", axes=[1], keepdims=0)
        return self.ended(self.gemm(pooled, len(LABELS), "head"))


def vgg() -> object:
    """Convolutions, max pools and three dense layers; no batch norm."""
    net = Topology()
    block = net.smaller("MaxPool", net.conv_relu(net.conv_relu(net.features, 16, "a1"), 16, "a2"), "a_pool")
    block = net.smaller("MaxPool", net.conv_relu(net.conv_relu(block, 32, "b1"), 32, "b2"), "b_pool")
    flat = net.op("Flatten", [net.smaller("MaxPool", block, "c_pool")], "flat", 32 * 16)
    dense = net.relu(net.gemm(net.relu(net.gemm(flat, 64, "fc1"), "fc1_relu"), 32, "fc2"), "fc2_relu")
    return net.ended(net.gemm(dense, len(LABELS), "head"))


def _bottleneck(net: Topology, source: str, name: str, out: int, stride: int = 1, group: int = 1) -> str:
    block = net.conv_relu(source, 16, f"{name}_a", kernel=1)
    block = net.conv(net.conv_relu(block, 16, f"{name}_b", 3, stride, group), out, f"{name}_c", kernel=1)
    if net.channels[source] != out or stride > 1:
        source = net.conv(source, out, f"{name}_short", 1, stride)
    return net.relu(net.add(block, source, f"{name}_add"), f"{name}_out")


def resnet() -> object:
    """Stem with a max pool, bottlenecks with and without a convolution in the shortcut."""
    net = Topology()
    block = net.smaller("MaxPool", net.conv_relu(net.features, 16, "stem", stride=2), "stem_pool")
    block = _bottleneck(net, _bottleneck(net, block, "one", 32), "two", 32)
    return net.model(_bottleneck(net, block, "three", 64, stride=2))


def resnext() -> object:
    """ResNet with convolutions in two groups."""
    net = Topology()
    block = net.conv_relu(net.features, 16, "stem", stride=2)
    return net.model(_bottleneck(net, _bottleneck(net, block, "one", 32, group=2), "two", 32, group=2))


def resnet_v2() -> object:
    """ResNet with batch norms before the convolutions, where no convolution can absorb them."""
    net = Topology()
    block = net.conv(net.features, 32, "stem", stride=2)
    for name in ("one", "two"):
        inner = net.conv_relu(net.relu(net.norm(block, f"{name}_norm"), f"{name}_relu"), 16, f"{name}_a", 1)
        inner = net.conv_relu(inner, 16, f"{name}_b")
        block = net.add(block, net.conv(inner, 32, f"{name}_c", 1), f"{name}_add")
    return net.model(net.relu(net.norm(block, "last"), "last_relu"))


def densenet() -> object:
    """Concats of all earlier layers, each followed by a batch norm."""
    net = Topology()
    block = net.conv(net.features, 16, "stem", stride=2)
    for name in ("one", "two", "three"):
        inner = net.conv_relu(net.relu(net.norm(block, f"{name}_norm"), f"{name}_relu"), 32, f"{name}_a", 1)
        block = net.concat([block, net.conv(inner, 16, f"{name}_b")], f"{name}_join")
    block = net.conv(net.relu(net.norm(block, "transition"), "transition_relu"), 32, "reduce", 1)
    block = net.smaller("AveragePool", block, "transition_pool")
    return net.model(net.relu(net.norm(block, "last"), "last_relu"))


def _fire(net: Topology, source: str, name: str, squeeze: int, expand: int) -> str:
    squeezed = net.conv_relu(source, squeeze, f"{name}_squeeze", kernel=1)
    sides = [net.conv_relu(squeezed, expand, f"{name}_{size}", kernel=size) for size in (1, 3)]
    return net.concat(sides, f"{name}_join")


def squeezenet() -> object:
    """Fire modules; the last layer is a convolution before global average pooling."""
    net = Topology()
    block = net.smaller("MaxPool", net.conv_relu(net.features, 16, "stem", stride=2), "pool1")
    block = net.smaller("MaxPool", _fire(net, _fire(net, block, "two", 16, 16), "three", 16, 16), "pool2")
    last = net.conv_relu(_fire(net, block, "four", 16, 32), len(LABELS), "head", kernel=1)
    return net.ended(net.unary("Flatten", net.unary("GlobalAveragePool", last, "pool"), "flat"))


def shufflenet(slices: bool = False) -> object:
    """Half of the channels pass each unit unchanged; Split (or two Slices), Concat and channel shuffle."""
    net = Topology()
    block = net.smaller("MaxPool", net.conv_relu(net.features, 32, "stem"), "stem_pool")
    for name in ("one", "two"):
        if slices:
            left, right = net.sliced(block, f"{name}_left", 0, 16), net.sliced(block, f"{name}_right", 16, 32)
        else:
            left, right = net.split(block, f"{name}_split")
        right = net.conv_relu(right, 16, f"{name}_a", kernel=1)
        right = net.conv_relu(net.conv(right, 16, f"{name}_b", group=16), 16, f"{name}_c", kernel=1)
        block = net.shuffled(net.concat([left, right], f"{name}_join"), f"{name}_shuffle", 16)
    return net.model(net.conv_relu(block, 32, "top", kernel=1))


def inception() -> object:
    """Branches with pools, joined by a Concat."""
    net = Topology()
    block = net.conv_relu(net.features, 16, "stem", stride=2)
    for name in ("one", "two"):
        branches = [
            net.conv_relu(block, 16, f"{name}_a", kernel=1),
            net.conv_relu(net.conv_relu(block, 16, f"{name}_b1", kernel=1), 16, f"{name}_b2"),
            net.conv_relu(net.pool("AveragePool", block, f"{name}_average"), 16, f"{name}_c", kernel=1),
            net.pool("MaxPool", block, f"{name}_max"),
        ]
        block = net.concat(branches, f"{name}_join")
    return net.model(net.conv_relu(block, 32, "top", kernel=1))


def _separable(net: Topology, source: str, out: int, name: str) -> str:
    size = net.channels[source]
    return net.conv(net.conv(source, size, f"{name}_deep", group=size), out, f"{name}_point", kernel=1)


def xception() -> object:
    """Separable convolutions with activations before them, a max pool and a convolution as shortcut."""
    net = Topology()
    block = net.conv_relu(net.features, 16, "stem", stride=2)
    inner = net.relu(_separable(net, block, 32, "one"), "one_relu")
    inner = net.smaller("MaxPool", _separable(net, inner, 32, "two"), "two_pool")
    block = net.add(inner, net.conv(block, 32, "short", 1, 2), "two_add")
    inner = _separable(net, net.relu(block, "three_relu"), 32, "three")
    block = net.add(_separable(net, net.relu(inner, "four_relu"), 32, "four"), block, "four_add")
    return net.model(net.relu(_separable(net, block, 64, "top"), "top_relu"))


def mobilenet_v3(clipped: bool = False) -> object:
    """HardSwish, as HardSigmoid or as Clip, and squeeze-and-excitation; the last layers are convolutions."""
    net = Topology()
    swish = net.clipped_swish if clipped else net.hard_swish
    block = swish(net.conv(net.features, 16, "stem", stride=2), "stem_swish")
    for name in ("one", "two"):
        inner = swish(net.conv(block, 32, f"{name}_expand", 1), f"{name}_swish")
        inner = swish(net.conv(inner, 32, f"{name}_deep", group=32), f"{name}_swish2")
        inner = net.conv(net.excited(inner, f"{name}_se", "HardSigmoid"), 16, f"{name}_project", 1)
        block = net.add(block, inner, f"{name}_add")
    last = net.unary("GlobalAveragePool", swish(net.conv(block, 32, "top", 1), "top_swish"), "pool")
    last = swish(net.conv(last, 32, "wide", 1), "wide_swish")
    return net.ended(net.unary("Flatten", net.conv(last, len(LABELS), "head", 1), "flat"))


def efficientnet() -> object:
    """SiLU and squeeze-and-excitation in inverted residuals."""
    net = Topology()
    block = net.silu(net.conv(net.features, 16, "stem", stride=2), "stem_silu")
    for name in ("one", "two"):
        inner = net.silu(net.conv(block, 32, f"{name}_expand", 1), f"{name}_silu")
        inner = net.silu(net.conv(inner, 32, f"{name}_deep", group=32), f"{name}_silu2")
        block = net.add(net.conv(net.excited(inner, f"{name}_se"), 16, f"{name}_project", 1), block, f"{name}_add")
    return net.model(net.silu(net.conv(block, 64, "top", 1), "top_silu"))


def silu_residual() -> object:
    """Residual Adds after SiLU, as in CSP networks."""
    net = Topology()
    block = net.silu(net.conv(net.features, 32, "stem", stride=2), "stem_silu")
    for name in ("one", "two"):
        inner = net.silu(net.conv(block, 16, f"{name}_a", 1), f"{name}_silu")
        block = net.add(block, net.silu(net.conv(inner, 32, f"{name}_b"), f"{name}_silu2"), f"{name}_add")
    return net.model(net.silu(net.conv(block, 32, "top", 1), "top_silu"))


def regnet() -> object:
    """Group convolutions, squeeze-and-excitation and a residual Add."""
    net = Topology()
    block = net.conv_relu(net.features, 32, "stem", stride=2)
    for name, stride in (("one", 2), ("two", 1)):
        inner = net.conv_relu(block, 32, f"{name}_a", 1)
        inner = net.excited(net.conv_relu(inner, 32, f"{name}_b", 3, stride, group=4), f"{name}_se")
        short = net.conv(block, 32, f"{name}_short", 1, stride) if stride > 1 else block
        block = net.relu(net.add(net.conv(inner, 32, f"{name}_c", 1), short, f"{name}_add"), f"{name}_out")
    return net.model(block)


def nasnet() -> object:
    """Cells whose Adds join separable convolutions and pools, then a Concat."""
    net = Topology()
    before = block = net.conv(net.features, 16, "stem", stride=2)
    for name in ("one", "two"):
        left, right = (
            net.conv(net.relu(source, f"{name}_{side}_relu"), 16, f"{name}_{side}", 1)
            for side, source in (("left", before), ("right", block))
        )
        sums = [
            net.add(_separable(net, net.relu(right, f"{name}_r1"), 16, f"{name}_s1"), left, f"{name}_add1"),
            net.add(net.pool("AveragePool", right, f"{name}_average"), left, f"{name}_add2"),
            net.add(
                _separable(net, net.relu(left, f"{name}_r2"), 16, f"{name}_s2"),
                _separable(net, net.relu(right, f"{name}_r3"), 16, f"{name}_s3"),
                f"{name}_add3",
            ),
        ]
        before, block = block, net.concat(sums, f"{name}_join")
    return net.model(net.relu(block, "last"))


def convnext(parts: bool = False) -> object:
    """7 x 7 depthwise, LayerNorm and pointwise MatMuls on (N, H, W, C), GELU, scaled residuals."""
    net = Topology()
    layer_norm = net.layer_norm_parts if parts else net.layer_norm
    stem = net.transposed(net.conv(net.features, 32, "stem", kernel=3, stride=2), "stem_last", [0, 2, 3, 1], 32)
    block = net.transposed(layer_norm(stem, "stem_norm"), "stem_first", [0, 3, 1, 2], 32)
    for name in ("one", "two"):
        inner = net.transposed(net.conv(block, 32, f"{name}_deep", 7, 1, 32), f"{name}_last", [0, 2, 3, 1], 32)
        inner = net.gelu(net.dense(layer_norm(inner, f"{name}_norm"), 64, f"{name}_wide"), f"{name}_gelu")
        inner = net.with_constant("Mul", net.dense(inner, 32, f"{name}_narrow"), f"{name}_gamma", np.full(32, 0.5))
        block = net.add(block, net.transposed(inner, f"{name}_first", [0, 3, 1, 2], 32), f"{name}_add")
    return net.model(block)


def vit(parts: bool = False) -> object:
    """Patches by a convolution, a class token, attention and two dense layers with GELU in each block."""
    net = Topology()
    layer_norm = net.layer_norm_parts if parts else net.layer_norm
    weight = net.normal("patch.weight", (32, 3, 8, 8), 3 * 64)
    bias = net.constant("patch.bias", net.random.normal(0, 0.1, 32).astype(np.float32))
    patches = net.op("Conv", [net.features, weight, bias], "patch", 32, kernel_shape=[8, 8], strides=[8, 8])
    tokens = net.transposed(net.reshaped(patches, "tokens", [-1, 32, 16], 32), "tokens_last", [0, 2, 1], 32)
    count = net.op("Slice", [net.unary("Shape", tokens, "shape"), net.whole("s.1", [0]), net.whole("s.2", [1])], "n", 0)
    shape = net.op("Concat", [count, net.whole("c.1", [1, 32])], "class_shape", 0, axis=0)
    token = net.normal("token", (1, 1, 32), 1, 1.0)
    block = net.op("Concat", [net.op("Expand", [token, shape], "class_token", 32), tokens], "with_token", 32, axis=1)
    block = net.with_constant("Add", block, "positions", net.random.normal(0, 0.3, (1, 17, 32)))
    for name in ("one", "two"):
        block = net.add(block, net.attention(layer_norm(block, f"{name}_norm1"), name, 17), f"{name}_add1")
        inner = net.gelu(net.dense(layer_norm(block, f"{name}_norm2"), 64, f"{name}_wide"), f"{name}_gelu")
        block = net.add(block, net.dense(inner, 32, f"{name}_narrow"), f"{name}_add2")
    first = net.op("Gather", [layer_norm(block, "norm"), net.constant("first.1", np.int64(0))], "first", 32, axis=1)
    return net.ended(net.gemm(first, len(LABELS), "head"))


def mlp_mixer() -> object:
    """Patches by Reshape, then dense layers over tokens and over channels; no convolution."""
    net = Topology()
    apart = net.reshaped(net.features, "apart", [-1, 3, 4, 8, 4, 8], 3)
    patches = net.reshaped(net.transposed(apart, "turn", [0, 2, 4, 1, 3, 5], 3), "patches", [-1, 16, 192], 192)
    block = net.dense(patches, 32, "patch")
    for name in ("one", "two"):
        turned = net.transposed(net.layer_norm(block, f"{name}_norm1"), f"{name}_turn", [0, 2, 1], 16)
        inner = net.dense(net.gelu(net.dense(turned, 32, f"{name}_t1"), f"{name}_gelu1"), 16, f"{name}_t2")
        block = net.add(block, net.transposed(inner, f"{name}_back", [0, 2, 1], 32), f"{name}_add1")
        inner = net.gelu(net.dense(net.layer_norm(block, f"{name}_norm2"), 64, f"{name}_c1"), f"{name}_gelu2")
        block = net.add(block, net.dense(inner, 32, f"{name}_c2"), f"{name}_add2")
    return net.token_model(block)


def flat_tokens() -> object:
    """Dense layers of tokens as Gemm on (N * T, D), as TensorFlow's tensordot and torch.addmm are exported."""
    net = Topology()
    patches = net.conv_relu(net.features, 32, "patch", kernel=3, stride=2)
    block = net.reshaped(net.transposed(patches, "last", [0, 2, 3, 1], 32), "rows", [-1, 32], 32)
    block = net.relu(net.gemm(block, 64, "wide"), "wide_relu")
    block = net.reshaped(net.gemm(block, 32, "narrow"), "tokens", [-1, 256, 32], 32)
    return net.token_model(block)


def _plain(activation: Callable[[Topology, str, str], str]) -> object:
    net = Topology()
    block = activation(net, net.conv(net.features, 16, "one", stride=2), "one_act")
    inner = activation(net, net.conv(block, 16, "two"), "two_act")
    block = net.add(block, net.conv(inner, 16, "three"), "join")
    return net.model(activation(net, net.conv(activation(net, block, "join_act"), 32, "top", 1), "top_act"))


def prelu() -> object:
    def activation(net: Topology, source: str, name: str) -> str:
        slopes = net.random.uniform(0.05, 0.4, (net.channels[source], 1, 1))
        return net.with_constant("PRelu", source, name, slopes)

    return _plain(activation)


def leaky_relu() -> object:
    return _plain(lambda net, source, name: net.unary("LeakyRelu", source, name, alpha=0.1))


def group_norm() -> object:
    """GroupNorm as Reshape, InstanceNormalization, Reshape, Mul and Add."""

    def activation(net: Topology, source: str, name: str) -> str:
        size = net.channels[source]
        side = SIZE // 2
        apart = net.reshaped(source, f"{name}_apart", [0, 4, -1], 4)
        ones = net.constant(f"{name}.ones", np.ones(4, np.float32))
        zeros = net.constant(f"{name}.zeros", np.zeros(4, np.float32))
        normed = net.op("InstanceNormalization", [apart, ones, zeros], f"{name}_norm", size)
        return net.relu(net.norm(net.reshaped(normed, f"{name}_back", [-1, size, side, side], size), name), name)

    return _plain(activation)


def alexnet() -> object:
    """LRN after the activations, Dropout before the dense layers."""
    net = Topology()
    block = net.unary(
        "LRN", net.conv_relu(net.features, 16, "one", 5, 2), "lrn1", size=5, alpha=1e-2, beta=0.75, bias=1.0
    )
    block = net.smaller("MaxPool", block, "pool1")
    block = net.unary("LRN", net.conv_relu(block, 32, "two"), "lrn2", size=5, alpha=1e-2, beta=0.75, bias=1.0)
    block = net.smaller("MaxPool", net.conv_relu(net.conv_relu(block, 32, "three", group=2), 32, "four"), "pool2")
    flat = net.unary("Dropout", net.op("Flatten", [block], "flat", 32 * 16), "drop")
    return net.ended(net.gemm(net.relu(net.gemm(flat, 32, "fc1"), "fc1_relu"), len(LABELS), "head"))


TOPOLOGIES: dict[str, Callable[[], object]] = {
    "vgg": vgg,
    "resnet": resnet,
    "resnet_v2": resnet_v2,
    "resnext": resnext,
    "densenet": densenet,
    "squeezenet": squeezenet,
    "shufflenet": shufflenet,
    "shufflenet_slices": lambda: shufflenet(slices=True),
    "inception": inception,
    "xception": xception,
    "mobilenet_v3": mobilenet_v3,
    "mobilenet_v3_clip": lambda: mobilenet_v3(clipped=True),
    "efficientnet": efficientnet,
    "silu_residual": silu_residual,
    "regnet": regnet,
    "nasnet": nasnet,
    "convnext": convnext,
    "convnext_parts": lambda: convnext(parts=True),
    "vit": vit,
    "vit_parts": lambda: vit(parts=True),
    "mlp_mixer": mlp_mixer,
    "flat_tokens": flat_tokens,
    "prelu": prelu,
    "leaky_relu": leaky_relu,
    "group_norm": group_norm,
    "alexnet": alexnet,
}
"""Each topology by name; a function that returns its ModelProto."""
