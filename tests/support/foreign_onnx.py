"""An ONNX classifier of another program whose answers depend on how its photos are prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.support.tiny import tiny_graph

SIDE = 16
LABELS = ("ant", "bee", "cow", "dog", "eel")
"""The labels, in the order of the scores."""

_COLOURS = ((40, 40, 40), (100, 60, 40), (200, 180, 160), (80, 110, 60), (150, 150, 220))
"""The colours of the labels. Some differ in brightness only, so that the range of the pixels matters."""

_CENTRES = np.array(_COLOURS) / 255


def colour_folders(folder: Path, count: int) -> Path:
    """Write `count` photos of each label, each with a colour that is shifted at random; returns the folder."""
    random = np.random.default_rng(1)
    for label, colour in zip(LABELS, _COLOURS, strict=True):
        (folder / label).mkdir()
        for number in range(count):
            pixels = np.array(colour) + random.normal(0, 15, 3) + random.normal(0, 8, (16, 24, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / label / f"{number:04}.png")
    return folder


def colour_classifier(path: Path, labels: tuple[str, ...] = LABELS, batch: str | int = 1) -> Path:
    """Write a classifier that takes (N, 3, 16, 16), RGB, 0..1, and returns logits: the label of the nearest colour.

    Values are clipped to 0..1 before, as a network saturates.

    A file labels.txt is written beside it.
    """
    weights = (40 * 2 * _CENTRES).astype(np.float32)
    bias = (-40 * (_CENTRES**2).sum(axis=1)).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    constants.append(numpy_helper.from_array(np.eye(3, dtype=np.float32)[:, :, None, None], "kernel"))
    constants += [numpy_helper.from_array(np.float32(value), name) for name, value in (("low", 0), ("high", 1))]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["same"], name="conv"),
        helper.make_node("Clip", ["same", "low", "high"], ["clipped"], name="clip"),
        helper.make_node("GlobalAveragePool", ["clipped"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], name="gemm", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(_CENTRES)])
    graph = helper.make_graph(nodes, "colours", [image], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    (path.parent / "labels.txt").write_text("\n".join(labels), encoding="utf-8")
    return path


def external(folder: Path, scale: float = 1.0, location: str = "net.onnx.data") -> Path:
    """A tiny network whose head is `scale` times the usual, every weight in `location`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_graph()
    for tensor in model.graph.initializer:
        if tensor.name == "fc":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(scale), "fc"))
    path = folder / "net.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    return path
