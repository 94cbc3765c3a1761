"""Puts the nodes before a network that compute its values from photos, as `core/original.values_from_photos` does."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_edits import replace_nodes
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.core.original import LUMA, Channels, Layout, Original
from trtpoets.core.types import INPUT_NAME, ModelSpec, Preprocess


class _Chain:
    """Appends nodes one after the other; `tensor` is the last result."""

    def __init__(self, model: Any, tensor: str, prefix: str) -> None:
        self.tensor = tensor
        self.nodes: list[Any] = []
        self._model = model
        self._prefix = prefix

    def add(self, operator: str, *constants: Any, **attributes: Any) -> None:
        """Append a node that reads the last result and constants."""
        from onnx import helper, numpy_helper

        name = f"{self._prefix}{len(self.nodes)}"
        inputs = [self.tensor]
        for index, value in enumerate(constants):
            inputs.append(f"{name}.{index}")
            self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), inputs[-1]))
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}:0"], name=name, **attributes))
        self.tensor = f"{name}:0"


def add_photo_nodes(model: Any, spec: ModelSpec, original: Original, layout: Layout) -> None:
    """Replace the only input of a network, float, by `photos`, uint8 (N, H, W, 3) in RGB."""
    from onnx import TensorProto, helper

    (value,) = model.graph.input
    preprocess, channels = spec.preprocess, original.channels
    batch = value.type.tensor_type.shape.dim[0].dim_value
    chain = _Chain(model, INPUT_NAME, "trtpoets_photos_")
    chain.add("Cast", to=TensorProto.FLOAT)
    if channels.number == 1:
        _grey(chain, preprocess, channels)
    else:
        _scaled(chain, preprocess.scale, preprocess.offset)
        if channels is Channels.BGR and not _reverse_first_weights(model, value.name):
            chain.add("Gather", np.array([2, 1, 0]), axis=3)
    if original.input.dtype in ("uint8", "int8"):
        _rounded(chain, preprocess, original)
    if layout is Layout.NCHW:
        chain.add("Transpose", perm=[0, 3, 1, 2])
    for node in model.graph.node:
        node.input[:] = [chain.tensor if name == value.name else name for name in node.input]
    replace_nodes(model, [*chain.nodes, *model.graph.node])
    del model.graph.input[:]
    sizes: list[str | int | None] = [batch or "N", preprocess.height, preprocess.width, 3]
    model.graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, sizes))


def _scaled(chain: _Chain, scale: tuple[float, ...], offset: tuple[float, ...]) -> None:
    """Append `x * scale + offset`, without what changes nothing, with one number where all channels have the same."""
    if set(scale) != {1.0}:
        chain.add("Mul", np.asarray(scale if len(set(scale)) > 1 else scale[0], np.float32))
    if set(offset) != {0.0}:
        chain.add("Add", np.asarray(offset if len(set(offset)) > 1 else offset[0], np.float32))


def _grey(chain: _Chain, preprocess: Preprocess, channels: Channels) -> None:
    scale, offset = preprocess.scale[0], preprocess.offset[0]
    if channels is Channels.INVERTED_GRAY:  # (255 - grey) * scale + offset
        scale, offset = -scale, offset + 255 * scale
    chain.add("Mul", np.asarray(LUMA, np.float32) * np.float32(scale))
    chain.add("ReduceSum", np.array([3]), keepdims=1)
    _scaled(chain, (1.0,), (offset,))


def _rounded(chain: _Chain, preprocess: Preprocess, original: Original) -> None:
    """Append the rounding to the integers that the file takes, unless every pixel already has such a value."""
    facts, limits = original.input, np.iinfo(original.input.dtype)
    low, high = (float((limit - facts.zero_point) * facts.scale) for limit in (limits.min, limits.max))
    pixels = np.arange(256, dtype=np.float32)[:, None]
    values = pixels * np.asarray(preprocess.scale, np.float32) + np.asarray(preprocess.offset, np.float32)
    steps = values / facts.scale
    inside = np.all((values >= low - facts.scale / 100) & (values <= high + facts.scale / 100))
    if original.channels.number == 3 and inside and np.all(np.abs(steps - np.rint(steps)) < 0.01):
        return
    _scaled(chain, (1 / facts.scale,), (0.0,))
    chain.add("Round")
    lowest, highest = (float(limit - facts.zero_point) for limit in (limits.min, limits.max))
    chain.add("Clip", np.float32(lowest), np.float32(highest))
    _scaled(chain, (facts.scale,), (0.0,))


def _reverse_first_weights(model: Any, name: str) -> bool:
    """Reverse the input channels of the first convolution, so that it takes RGB; False if something else reads them."""
    from onnx import numpy_helper

    view = GraphView(model)
    tensor, channels = name, 1
    while True:
        readers = view.readers.get(tensor, [])
        if len(readers) != 1:
            return False
        node = readers[0].node
        if node.op_type == "Transpose" and list(attribute(node, "perm", ())) == [0, 3, 1, 2]:
            tensor, channels = node.output[0], 1
            continue
        break
    if node.op_type != "Conv" or readers[0].index != 0 or attribute(node, "group", 1) != 1:
        return False
    weights = view.constants.get(node.input[1])
    if weights is None or len(view.readers[node.input[1]]) != 1 or weights.dims[channels] != 3:
        return False
    reversed_weights = np.ascontiguousarray(numpy_helper.to_array(weights)[:, ::-1])
    weights.CopyFrom(numpy_helper.from_array(reversed_weights, weights.name))
    return True
