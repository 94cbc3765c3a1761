"""TFLite networks of one or a few operators, and the comparison of their conversion with the interpreter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.tflite_files import TfliteFile
from trtpoets.adoption.tflite import network_from_tflite, read_tflite_classifier
from trtpoets.adoption.tflite.to_onnx import session_of
from trtpoets.device.original_tflite import TfliteNetwork


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def real_answers(path: Path, values: np.ndarray) -> np.ndarray:
    """What the interpreter answers, as real values."""
    model = read_tflite_classifier(path)
    with TfliteNetwork(path, model.input, model.output) as network:
        stored = network.infer(values)
    return (stored.astype(np.float32) - model.output.zero_point) * np.float32(model.output.scale)


def random_values(count: int = 4) -> np.ndarray:
    return np.random.default_rng(2).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)


class Network:
    """A network that begins with a convolution (1, 8, 8, 3) -> (1, 8, 8, 4), in float or int8."""

    def __init__(self, *, int8: bool = False) -> None:
        self.file, self.int8 = TfliteFile(), int8
        self.random = np.random.default_rng(5)
        photo = self.file.tensor("photo", (1, 8, 8, 3), "int8" if int8 else "float32", 2 / 255 if int8 else None, 0)
        self.file.inputs = [photo]
        self.start = self.tensor((1, 8, 8, 4))
        self.convolve(photo, self.start)

    def tensor(self, shape: tuple[int, ...], largest: float = 4.0) -> int:
        name = f"tensor {len(self.file._graph.tensors)}"
        return self.file.tensor(name, shape, *(("int8", 2 * largest / 255, 0) if self.int8 else ("float32",)))

    def weights(self, shape: tuple[int, ...], axis: int, scale: float = 0.5) -> int:
        real = self.random.normal(0, scale, shape).astype(np.float32)
        if not self.int8:
            return self.file.constant(real)
        others = tuple(number for number in range(len(shape)) if number != axis)
        step = abs(real).max(axis=others, keepdims=True) / 127
        return self.file.constant(np.rint(real / step).astype(np.int8), step.reshape(-1), axis=axis)

    def bias(self, source: int, kernel: int, channels: int) -> int:
        real = self.random.normal(0, 0.2, channels).astype(np.float32)
        if not self.int8:
            return self.file.constant(real)
        tensors = self.file._graph.tensors
        step = tensors[source].quantization.scale * tensors[kernel].quantization.scale
        return self.file.constant(np.rint(real / step).astype(np.int32), step)

    def convolve(self, source: int, target: int, **options: Any) -> None:
        channels = self.file._graph.tensors[source].shape[3]
        kernel = self.weights((self.file._graph.tensors[target].shape[3], 3, 3, options.pop("per_group", channels)), 0)
        defaults: dict[str, Any] = {
            "padding": 0,
            "strideH": 1,
            "strideW": 1,
            "dilationHFactor": 1,
            "dilationWFactor": 1,
        }
        bias = self.bias(source, kernel, self.file._graph.tensors[target].shape[3])
        self.file.operator("CONV_2D", [source, kernel, bias], [target], "Conv2DOptions", **{**defaults, **options})

    def constant(self, array: Any, dtype: str = "int32") -> int:
        return self.file.constant(np.asarray(array, dtype))

    def add(
        self,
        kind: str,
        inputs: list[int],
        shape: tuple[int, ...],
        options: str = "",
        largest: float = 4.0,
        **values: Any,
    ) -> int:
        target = self.tensor(shape, largest)
        self.file.operator(kind, inputs, [target], options, **values)
        return target

    def finish(self, current: int) -> TfliteFile:
        """Mean over the image if it still is one; that is the output."""
        shape = self.file._graph.tensors[current].shape
        if len(shape) == 4:
            current = self.add(
                "MEAN", [current, self.constant([1, 2])], (1, shape[3]), "ReducerOptions", keepDims=False
            )
        self.file.outputs = [current]
        return self.file


def unary_network(kind: str, options: str = "", *, int8: bool = False, **values: Any) -> TfliteFile:
    network = Network(int8=int8)
    return network.finish(network.add(kind, [network.start], (1, 8, 8, 4), options, **values))


def check(file: TfliteFile, path: Path, atol: float = 2e-5) -> tuple[Any, Any]:
    """Compare both networks with the interpreter; the float one may differ by rounding in int8."""
    file.write(path)
    rounded, smooth = network_from_tflite(path)
    values = random_values(12)
    expected = real_answers(path, values)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(session_of(rounded)(values), expected, rtol=1e-5, atol=atol)
    if rounded is not smooth:
        assert abs(session_of(smooth)(values) - expected).max() < 0.1 * max(1, expected.std())
    return rounded, smooth
