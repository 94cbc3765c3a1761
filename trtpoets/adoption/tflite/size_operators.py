"""Converts TFLite's operators that change sizes to ONNX: RESIZE, TILE and PACK."""

from __future__ import annotations

import numpy as np

from trtpoets.adoption.tflite.contents import GIVE_SOURCE, Operator
from trtpoets.adoption.tflite.onnx_writer import FIRST, OnnxWriter
from trtpoets.core.errors import ConversionFailed


def resize(writer: OnnxWriter, operator: Operator) -> None:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR to a constant size."""
    source, target = operator.inputs[0], operator.outputs[0]
    sizes = writer.needed_constant(operator, 1).reshape(-1)
    before = writer.shape(source)[1:3]
    nearest = operator.kind == "RESIZE_NEAREST_NEIGHBOR"
    half, ends = operator.options.halfPixelCenters, operator.options.alignCorners
    attributes = {
        "mode": "nearest" if nearest else "linear",
        "coordinate_transformation_mode": "align_corners" if ends else "half_pixel" if half else "asymmetric",
    }
    if nearest:
        attributes["nearest_mode"] = "round_prefer_ceil" if half or ends else "floor"
    scales = [1.0, 1.0, *(_scale(int(size), int(old)) for size, old in zip(sizes, before, strict=True))]
    name = writer.add("Resize", [writer.first(source), "", writer.store(np.array(scales, np.float32))], **attributes)
    writer.put(
        target, name, first=True, inside=writer.inside(source), moved=nearest and writer.same_steps(source, target)
    )


def _scale(size: int, before: int) -> np.float32:
    """The factor from which ONNX computes exactly this size, by rounding down."""
    scale = np.float32(size / before)
    larger: np.float32 = np.nextafter(scale, np.float32(np.inf))
    return scale if np.floor(before * scale) == size else larger


def tile(writer: OnnxWriter, operator: Operator) -> None:
    """TILE by constants; the photos' axis stays."""
    source, target = operator.inputs[0], operator.outputs[0]
    repeats = writer.needed_constant(operator, 1).reshape(-1).astype(np.int64)
    if repeats[0] != 1:
        raise ConversionFailed(
            f"{writer.contents.path} has the operator TILE that repeats the photos of a batch",
            hint=GIVE_SOURCE,
            code="TP9596",
        )
    first = len(repeats) == 4 and writer.has_first(source)
    ordered = repeats[list(FIRST)] if first else repeats
    name = writer.add("Tile", [writer.in_order(source, first), writer.store(ordered)])
    writer.put(target, name, first=first, inside=writer.inside(source), moved=writer.same_steps(source, target))


def pack(writer: OnnxWriter, operator: Operator) -> None:
    """PACK: tensors of equal shapes along a new axis, which is not that of the photos."""
    target = operator.outputs[0]
    rank = len(writer.shape(target))
    axis = operator.options.axis % rank
    if axis == 0:
        raise ConversionFailed(
            f"{writer.contents.path} has the operator PACK that changes the axis of the photos",
            hint=GIVE_SOURCE,
            code="TP9597",
        )
    axes = writer.store(np.array([axis], np.int64))
    names = [writer.add("Unsqueeze", [writer.plain(index), axes]) for index in operator.inputs]
    ends = [writer.inside(index) for index in operator.inputs]
    writer.put(
        target,
        writer.add("Concat", names, axis=axis),
        inside=(min(low for low, _ in ends), max(high for _, high in ends)),
        moved=all(writer.same_steps(index, target) for index in operator.inputs),
    )
