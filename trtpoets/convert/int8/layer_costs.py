"""Estimates how long the layers of a network take in INT8 and in FP16 on a GPU, by a roofline.

A layer takes the longer of two times: that of its multiply-adds, and that of the bytes which it reads and writes
(Williams, Waterman, Patterson, "Roofline", CACM 2009); and each kernel has a fixed cost. A depthwise convolution has
few multiply-adds for each byte, so the bytes decide: on a small map it costs nothing in FP16, on a large map more than
its multiply-adds suggest, because its neighbours write and read 2 bytes as well. The estimate compares forms of one
network; it does not predict milliseconds. Elementwise layers and pools that TensorRT does not fuse are left out, and
the inputs of residual additions: they cost nearly the same in each form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute, multiply_adds
from trtpoets.convert.int8.placement import Placement

_UNFUSED = {
    *("Concat", "Split", "Slice", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Reshape", "Transpose"),
    *("Flatten", "Squeeze", "Unsqueeze", "Gather", "DepthToSpace", "SpaceToDepth", "Softmax", "LayerNormalization"),
}
"""Operators that are kernels of their own: they are not fused into the layer before them."""


@dataclass(frozen=True)
class GpuClass:
    """A class of GPUs: bytes per second of its memory, and multiply-adds per second by the width of the type in bytes.

    `tensor` is for products of matrices (tensor cores), `vector` for depthwise convolutions, which do not use them.
    `kernel` are the seconds that each kernel takes besides; `batch` is the number of photos at once.
    """

    name: str
    bandwidth: float
    tensor: Mapping[int, float]
    vector: Mapping[int, float]
    kernel: float
    batch: int


T4 = GpuClass(
    name="NVIDIA T4",
    bandwidth=320e9,
    tensor={1: 65e12, 2: 32.5e12},
    vector={1: 16.2e12, 2: 8.1e12},
    kernel=2e-6,
    batch=8,
)
"""NVIDIA T4 data sheet: 320 GB/s, 130 TOPS in INT8 and 65 TFLOPS in FP16 on tensor cores, 8.1 TFLOPS in FP32; CUDA
cores run FP16 at twice the rate of FP32, and INT8 (DP4A) at four times. A multiply-add counts as two operations. INT8
is twice as fast as FP16, as on later GPUs with INT8 tensor cores and on Jetson Xavier and Orin. Two microseconds for a
kernel in a CUDA graph and a batch of 8 are assumptions."""


@dataclass(frozen=True)
class LayerShape:
    """The size of a layer for one photo: `work` in multiply-adds, the values `read` and `written`, and its `weights`.

    A layer is `depthwise` if each of its channels reads one channel.
    """

    work: int
    read: int
    written: int
    weights: int
    depthwise: bool = False


def layer_seconds(shape: LayerShape, gpu: GpuClass, *, width: int, read_width: int, written_width: int) -> float:
    """Return the estimated seconds of a layer whose products have a `width` of 1 (INT8) or 2 (FP16) bytes.

    Its input has `read_width` bytes for each value, its output `written_width`.
    """
    rate = (gpu.vector if shape.depthwise else gpu.tensor)[width]
    moved = gpu.batch * (shape.read * read_width + shape.written * written_width)
    return gpu.kernel + max(gpu.batch * shape.work / rate, (moved + shape.weights * width) / gpu.bandwidth)


class _Read(Enum):
    """How a tensor is read: through a Q/DQ pair, through one after an operator with two inputs, or as it is."""

    INT8 = "int8"
    AFTER_JOIN = "after join"
    FLOAT = "float"


class LayerCosts:
    """Estimates the time of versions of one FP32 network, given as a GraphView, with any placement of Q/DQ pairs."""

    def __init__(self, view: GraphView, gpu: GpuClass = T4) -> None:
        self.view = view
        self.gpu = gpu
        self.layers = {node.name: node for node in (*view.weighted(), *view.products())}
        self.shapes = {name: self._shape_of(node) for name, node in self.layers.items()}
        self.fp16 = sum(
            layer_seconds(shape, gpu, width=2, read_width=2, written_width=2) for shape in self.shapes.values()
        )

    def relative(self, placement: Placement) -> float:
        """Return the estimated time of a version with these pairs, relative to the same network in FP16."""
        return self.seconds(placement) / self.fp16 if self.fp16 else 1.0

    def seconds(self, placement: Placement) -> float:
        """Return the estimated seconds of all layers with weights, and of the conversions between them.

        A tensor that an INT8 layer writes and only Q/DQ pairs read has 1 byte for each value; others have 2. Where
        what a layer writes in FP16 is read as INT8, a kernel of its own converts it, unless an operator with two inputs
        lies between, which converts it without one.
        """
        int8 = {weight.node for weight in placement.weights}
        pairs = {(use.node, use.index) for use in placement.inputs}
        total = 0.0
        for name, shape in self.shapes.items():
            reads = self._reads_of(self.layers[name].output[0], pairs)
            narrow = name in int8 and _Read.FLOAT not in reads
            total += layer_seconds(
                shape,
                self.gpu,
                width=1 if name in int8 else 2,
                read_width=1 if (name, 0) in pairs else 2,
                written_width=1 if narrow else 2,
            )
            if _Read.INT8 in reads and not narrow:
                # 2 bytes are read and 1 is written for each value.
                total += self.gpu.kernel + 3 * self.gpu.batch * shape.written / self.gpu.bandwidth
        return total

    def _reads_of(self, tensor: str, pairs: set[tuple[str, int]]) -> set[_Read]:
        """Return how a layer's output is read, after the operators that are fused into the layer."""
        reads: set[_Read] = set()
        pending, passed = [(tensor, False)], set()
        while pending:
            name, joined = pending.pop()
            if name in self.view.outputs:
                reads.add(_Read.FLOAT)
            for reader in self.view.readers.get(name, []):
                node = reader.node
                if (node.name, reader.index) in pairs:
                    reads.add(_Read.AFTER_JOIN if joined else _Read.INT8)
                elif node.name in self.layers or node.op_type in _UNFUSED:
                    reads.add(_Read.FLOAT)
                elif node.name not in passed:
                    passed.add(node.name)
                    joins = joined or len(self.view.activations(node)) > 1
                    pending.extend((output, joins) for output in node.output)
        return reads

    def _shape_of(self, node: Any) -> LayerShape:
        weights = self._count(node.input[1])
        constant = node.input[1] in self.view.constants
        groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
        return LayerShape(
            work=multiply_adds(self.view, node),
            read=self._count(node.input[0]) + (0 if constant else weights),
            written=self._count(node.output[0]),
            weights=weights if constant else 0,
            depthwise=groups > 1 and constant and self.view.constants[node.input[1]].dims[1] == 1,
        )

    def _count(self, tensor: str) -> int:
        shape = self.view.shape_for_one_photo(tensor)
        return int(np.prod([size or 1 for size in shape], dtype=np.int64)) if shape else 0
