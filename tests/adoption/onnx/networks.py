"""Small ONNX classifiers as other programs write them: conv, relu, pool, gemm, and an end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIDE, CLASSES = 16, 3


class Foreign:
    """Builds a graph node by node; each method returns the name of the tensor that it adds."""

    def __init__(self, opset: int = 17, dtype: Any = np.float32, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.opset = opset
        self.dtype = np.dtype(dtype)

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, value: Any) -> str:
        return self.constant(np.asarray(value, self.dtype))

    def op(self, kind: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        outputs = list(outputs) or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=f"/{outputs[0]}/{kind}", **attributes))
        return outputs[0]

    def logits(self, image: str, channels: int = 3, classes: int = CLASSES, scale: float = 1.0) -> str:
        """Conv, Relu, GlobalAveragePool, Flatten, Gemm on (N, C, H, W)."""
        weights = self.number(self.random.normal(0, 0.3, (8, channels, 3, 3)) * scale)
        relu = self.op("Relu", self.op("Conv", image, weights, self.number(self.random.normal(0, 0.1, 8))))
        flat = self.op("Flatten", self.op("GlobalAveragePool", relu))
        return self.op("Gemm", flat, self.number(self.random.normal(0, 1, (8, classes))), self.number([0.1] * classes))

    def model(
        self, inputs: Sequence[Any], outputs: Sequence[Any], ir_version: int = 8, **metadata: str
    ) -> onnx.ModelProto:
        """`inputs` and `outputs` are ValueInfoProtos."""
        graph = helper.make_graph(self.nodes, "main_graph", list(inputs), list(outputs), self.constants)
        domains = [helper.make_opsetid("", self.opset)]
        domains += [helper.make_opsetid(d, 1) for d in sorted({n.domain for n in self.nodes} - {""})]
        model = helper.make_model(graph, opset_imports=domains, ir_version=ir_version, producer_name="pytorch")
        model.producer_version = "2.1.0"
        helper.set_model_props(model, metadata)
        return model


def image(shape: Sequence[Any] = ("N", 3, SIDE, SIDE), name: str = "input", dtype: Any = np.float32) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def scores(shape: Sequence[Any] | None = ("N", CLASSES), name: str = "output", dtype: Any = np.float32) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def plain(path: Path, **given: Any) -> Path:
    """A classifier that ends in logits."""
    net = Foreign(given.pop("opset", 17))
    net.op("Identity", net.logits("input", scale=given.pop("scale", 1.0)), outputs=["output"])
    return saved(net.model([image()], [scores()], **given), path)
