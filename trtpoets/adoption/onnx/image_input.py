"""Finds the image input of an ONNX graph: its layout, size, channels, type and quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtpoets.adoption.onnx.tensors import described, dtype_of, quantisation, shape_of
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.core.errors import BadArtefact
from trtpoets.core.original import Layout, OriginalInput
from trtpoets.core.types import LARGEST_SIDE

_TYPES = ("float32", "float16", "float64", "uint8", "int8")
_CHANNELS = (1, 3)
_LARGEST_BATCH = 1 << 28
"""Largest number of values of an input, which is 1 GiB in float32."""

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "position_ids")
_ON_THE_WAY = (
    *("Cast", "Identity", "QuantizeLinear", "DequantizeLinear", "Sub", "Add", "Mul", "Div", "Pad", "Clip"),
    *("BatchNormalization", "Resize", "Upsample", "Split", "Slice", "Gather", "Concat"),
)
_ONE_INPUT = "export it with the image as its only input"


@dataclass(frozen=True)
class ImageInput:
    """The image input of a graph. `height` and `width` are 0 where the file does not fix them."""

    input: OriginalInput
    height: int
    width: int
    channels: int


def image_input(path: Path, view: GraphView) -> ImageInput:
    """Return the only input of a graph. Raises BadArtefact, saying what the file is, if it is not one image."""
    value = _only_input(path, view)
    shape = shape_of(value)
    dtype = dtype_of(value)
    if shape is None or len(shape) != 4:
        raise BadArtefact(
            f"{path} is not an image classifier: its input is {described(value)}, and a batch of images with 4 axes "
            "was expected",
            hint="export it with an input such as (1, 3, 224, 224)",
            code="TP9210",
        )
    if dtype not in _TYPES:
        raise BadArtefact(
            f"{path} can't be used: its input is {described(value)}, and {', '.join(_TYPES)} are supported",
            hint="export it with a float32 input",
            code="TP9211",
        )
    layout, channels = _layout(path, view, value, shape)
    height, width = shape[2:] if layout is Layout.NCHW else shape[1:3]
    if max(height, width) > LARGEST_SIDE:
        raise BadArtefact(
            f"{path} can't be used: its input is {height} x {width} pixels, and at most {LARGEST_SIDE:,} are supported",
            hint="export it with a smaller input",
            code="TP9212",
        )
    if max(shape[0], 1) * max(height, 1) * max(width, 1) * channels > _LARGEST_BATCH:
        raise BadArtefact(
            f"{path} can't be used: its input {described(value)} is larger than 1 GiB",
            hint="export it with a batch of 1",
            code="TP9219",
        )
    scale, zero_point = _input_quantisation(view, value.name, dtype)
    return ImageInput(
        OriginalInput(value.name, dtype, layout, scale, zero_point, batch=shape[0]), height, width, channels
    )


def _only_input(path: Path, view: GraphView) -> Any:
    inputs = list(view.graph.input)
    if len(inputs) == 1:
        return inputs[0]
    if not inputs:
        raise BadArtefact(f"{path} has no input", hint=_ONE_INPUT, code="TP9213")
    text = ", ".join(map(described, inputs))
    names = {value.name for value in inputs}
    if names & set(_TEXT_INPUTS):
        raise BadArtefact(
            f"{path} is a language model or reads text: its inputs are {text}",
            hint="give an image classifier with one input",
            code="TP9214",
        )
    images = [value for value in inputs if len(shape_of(value) or ()) == 4]
    if len(images) > 1:
        raise BadArtefact(
            f"{path} takes several images: its inputs are {text}",
            hint="give an image classifier with one input",
            code="TP9215",
        )
    raise BadArtefact(f"{path} has several inputs: {text}", hint=_ONE_INPUT, code="TP9216")


def _layout(path: Path, view: GraphView, value: Any, shape: tuple[int, ...]) -> tuple[Layout, int]:
    """Return the layout, and the number of channels, by the axis of length 1 or 3, else by the readers."""
    by_reader, weights = _first_reader(view, value.name)
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first != last and not (by_reader and not shape[1 if by_reader is Layout.NCHW else 3]):
        layout = Layout.NCHW if first else Layout.NHWC
    elif by_reader is not None:
        layout = by_reader
    else:
        raise BadArtefact(
            f"{path} can't be used: its input is {described(value)}, and an axis of 1 or 3 channels was expected",
            hint="export it with an input such as (1, 3, 224, 224) or (1, 224, 224, 3)",
            code="TP9217",
        )
    channels = shape[1 if layout is Layout.NCHW else 3] or weights
    if channels not in _CHANNELS:
        raise BadArtefact(
            f"{path} can't be used: its input {described(value)} has {channels or 'an unknown number of'} channels, "
            "and 1 or 3 were expected",
            hint="give a classifier of colour or grey photos",
            code="TP9218",
        )
    return layout, channels


def _first_reader(view: GraphView, name: str) -> tuple[Layout | None, int]:
    """Return the layout that the first Conv or Transpose after the input expects, and the Conv's channels."""
    pending: list[tuple[str, tuple[int, ...]]] = [
        (name, (0, 1, 2, 3))
    ]  # a tensor, and the axes of the input that its axes are
    seen = {name}
    layout = None
    while pending:
        tensor, axes = pending.pop(0)
        for reader in view.readers.get(tensor, ()):
            node = reader.node
            now = axes
            if node.op_type == "Conv" and reader.index == 0:
                weights = view.shape(node.input[1])
                count = int(weights[1] or 0) * attribute(node, "group", 1) if weights and len(weights) == 4 else 0
                return (Layout.NCHW if axes[1] == 1 else Layout.NHWC), count
            if node.op_type == "Transpose" and sorted(attribute(node, "perm", ())) == [0, 1, 2, 3]:
                now = tuple(axes[axis] for axis in attribute(node, "perm", ()))
                layout = Layout.NHWC if now == (0, 3, 1, 2) else layout
            elif node.op_type not in _ON_THE_WAY:
                continue
            fresh = [output for output in node.output if output not in seen]
            seen.update(fresh)
            pending.extend((output, now) for output in fresh)
    return layout, 0


def _input_quantisation(view: GraphView, name: str, dtype: str) -> tuple[float, int]:
    """Return scale and zero point of an integer input: those of the DequantizeLinear that reads it, else 1 and 0."""
    if dtype not in ("uint8", "int8"):
        return 1.0, 0
    for reader in view.readers.get(name, ()):
        if reader.node.op_type == "DequantizeLinear" and reader.index == 0:
            numbers = quantisation(view, reader.node)
            if numbers is not None and numbers[0].size == 1:
                return float(numbers[0].reshape(-1)[0]), int(numbers[1].reshape(-1)[0])
    return 1.0, 0
