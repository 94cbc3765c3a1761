"""Determines the pixel values that a TFLite file expects from its quantisation and its first operators."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trtpoets.adoption.contract import CENTRED, RAW, SIGNED, UNIT, Pixels
from trtpoets.adoption.foreign import FixedPixels, ForeignModel
from trtpoets.adoption.tflite.contents import Quantisation, Tensor, TfliteContents, read_contents
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.original import Channels, Evidence, Source

_RELATIVE = 0.006
"""How far a scale may be from that of a known range: 1/255 from 1/256, 1/127 and 1/128 from 1/127.5."""


def range_of_pixels(scale: float, zero_point: int, dtype: str) -> Pixels | None:
    """Return 0..1, -1..1, 0..255 or -128..127 if an 8-bit input of this quantisation stores pixels as they are.

    Its integers, uint8 or int8 as pixel - 128, then cover that range. For other scales, such as those of values
    normalised with ImageNet's statistics, the result is None.
    """
    lowest = int(np.iinfo(dtype).min)
    first, middle = zero_point == lowest, zero_point - lowest in (127, 128)
    if first and _close(scale, 1 / 255):
        return UNIT
    if first and _close(scale, 1):
        return RAW
    if middle and _close(scale, 1 / 127.5):
        return SIGNED
    if middle and _close(scale, 1):
        return CENTRED
    return None


def _close(scale: float, expected: float) -> bool:
    return abs(scale / expected - 1) <= _RELATIVE


def pixels_of_input(contents: TfliteContents) -> FixedPixels | None:
    """Return the values of the pixels that the file itself determines, None if it does not.

    An 8-bit input whose range is that of pixels takes them as they are; `pixels` are then the values that these
    integers stand for. Otherwise constants that the first operators multiply with or add, and the quantisation of a
    float input right after them, tell the range. The order of the channels is not determined: RGB is assumed, and grey
    for one channel.
    """
    tensor = contents.tensors[contents.inputs[0]]
    channels = Channels.GRAY if 1 in (tensor.shape[1], tensor.shape[-1]) else Channels.RGB
    fixed = _pixels_as_they_are(tensor) if tensor.dtype in ("uint8", "int8") else _by_first_operators(contents)
    if fixed is None:
        return None
    pixels, text = fixed
    pixels = Pixels(pixels.scale, pixels.offset, channels, pixels.name)
    return FixedPixels(pixels, Evidence("pixels", Source.GRAPH, text))


def _pixels_as_they_are(tensor: Tensor) -> tuple[Pixels, str] | None:
    if tensor.quantisation is None:
        if tensor.dtype != "uint8":
            return None
        return RAW, "The input is uint8 without quantisation, so it takes pixels of 0 to 255."
    scale, zero_point = tensor.quantisation.single
    meant = range_of_pixels(scale, zero_point, tensor.dtype)
    if meant is None:
        return None
    offset = (int(np.iinfo(tensor.dtype).min) - zero_point) * scale
    stored = "the pixel itself" if tensor.dtype == "uint8" else "the pixel minus 128"
    text = (
        f"The input is {tensor.dtype} with scale {scale:.6g} and zero point {zero_point}, "
        f"so its range is {meant.name} and it stores {stored}."
    )
    return Pixels((scale,) * 3, (offset,) * 3, name=meant.name), text


def _by_first_operators(contents: TfliteContents) -> tuple[Pixels, str] | None:
    """The range of a float input by the constants and the quantisation that come before all other operators."""
    current = contents.inputs[0]
    factor, offset = np.ones(1), np.zeros(1)
    steps: list[str] = []
    while True:
        users = [operator for operator in contents.operators if current in operator.inputs]
        if len(users) != 1:
            break
        (operator,) = users
        if operator.kind == "QUANTIZE":
            return _by_quantisation(contents.tensors[operator.outputs[0]], factor, offset)
        constants = [contents.tensors[index].real_data for index in operator.inputs if index != current]
        if operator.kind not in _ARITHMETIC or len(constants) != 1 or constants[0] is None:
            break
        constant = constants[0].astype(np.float64)
        if constant.size not in (1, 3) or (operator.inputs[0] != current and operator.kind in ("SUB", "DIV")):
            break
        constant = constant.reshape(-1)
        if operator.kind in ("MUL", "DIV"):
            with np.errstate(divide="ignore"):
                change = constant if operator.kind == "MUL" else 1 / constant
            factor, offset = factor * change, offset * change
        else:
            offset = offset + (constant if operator.kind == "ADD" else -constant)
        steps.append(f"{operator.kind} {', '.join(f'{value:.5g}' for value in constant)}")
        current = operator.outputs[0]
    return _by_constants(factor, offset, steps) if steps else None


_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")


def _by_quantisation(tensor: Tensor, factor: np.ndarray, offset: np.ndarray) -> tuple[Pixels, str] | None:
    if tensor.quantisation is None or tensor.dtype not in ("int8", "uint8") or factor.size > 1 or factor[0] == 0:
        return None
    scale, zero_point = tensor.quantisation.single
    meant = range_of_pixels(scale, zero_point, tensor.dtype)
    if meant is None or (factor[0], offset[0]) != (1, 0):
        return None
    text = (
        f"The float input is quantised to {tensor.dtype} with scale {scale:.6g} and zero point {zero_point}, "
        f"so its range is {meant.name}."
    )
    return meant, text


def _by_constants(factor: np.ndarray, offset: np.ndarray, steps: list[str]) -> tuple[Pixels, str] | None:
    """The range of x if the first operators compute `x * factor + offset`, as normalisations of pixels do."""
    factor, offset = np.broadcast_arrays(factor, offset)
    if not np.all(np.isfinite(factor)) or np.any(factor <= 0) or not np.all(np.isfinite(offset)):
        return None
    centre, steps_text = -offset / factor, " and ".join(steps)
    if not offset.any() and np.all(np.abs(factor * 255 - 1) <= _RELATIVE):
        return RAW, f"The graph begins with {steps_text}, so it takes values of {RAW.name}."
    for pixels, white in ((RAW, 255.0), (UNIT, 1.0)):
        # The mean that is subtracted is near the middle of the range; the result is within ±5, or not scaled.
        centred = np.all((centre >= 0.3 * white) & (centre <= 0.7 * white))
        scaled = np.all((factor * white >= 0.9) & (factor * white <= 10))
        if centred and (scaled or (pixels is RAW and np.all(factor == 1))):
            return pixels, f"The graph begins with {steps_text}, so it takes values of {pixels.name}."
    return None


def sibling_pixels(model: ForeignModel) -> FixedPixels | None:
    """Return the pixels of a float file by an integer TFLite file of the same network in the same folder.

    The sibling has the same sizes of input and output, a similar name, such as `net.h5` and
    `net_int8.tflite`, and an input scale that reveals the range of the pixels. None unless all siblings agree.
    """
    meanings = {}
    for path in sorted(model.path.resolve().parent.glob("*.tflite"))[:_MAX_SIBLINGS]:
        if path.name == model.path.name or not _similar(path.stem, model.path.stem):
            continue
        meaning = _pixels_of_sibling(path, model)
        if meaning is not None:
            meanings[meaning[0].name] = meaning
    if len(meanings) != 1:
        return None
    ((pixels, text),) = meanings.values()
    channels = Channels.GRAY if model.channels == 1 else Channels.RGB
    pixels = Pixels(pixels.scale, pixels.offset, channels, pixels.name)
    return FixedPixels(pixels, Evidence("pixels", Source.SIBLING, text))


_MAX_SIBLINGS = 200


def _pixels_of_sibling(path: Path, model: ForeignModel) -> tuple[Pixels, str] | None:
    try:
        contents = read_contents(path)
    except TrtPoetsError:
        return None
    if len(contents.inputs) != 1 or len(contents.outputs) != 1:
        return None
    tensor, output = contents.tensors[contents.inputs[0]], contents.tensors[contents.outputs[0]]
    quantisation: Quantisation | None = tensor.quantisation
    size = sorted((model.height, model.width, model.channels))
    if (
        tensor.dtype not in ("int8", "uint8")
        or quantisation is None
        or sorted(tensor.shape[1:]) != size
        or int(np.prod(output.shape[1:])) != model.output.size
    ):
        return None
    scale, zero_point = quantisation.single
    meant = range_of_pixels(scale, zero_point, tensor.dtype)
    if meant is None:
        return None
    text = (
        f"{path.name}, an integer file of the same network, has the input scale {scale:.6g} and zero point "
        f"{zero_point}, so the range is {meant.name}."
    )
    return meant, text


def _similar(first: str, second: str) -> bool:
    """Whether two file names are equal without the words for a type of numbers."""
    return _plain(first) == _plain(second) != ""


_TYPE_WORDS = re.compile(
    r"[-_. ]+(fp(32|16)|float(32|16)?|u?int8|i8|full|integer|dynamic|range|ptq|qat|q8|8bit"
    r"|quant(i[sz](ed|ation))?)(?![a-z0-9])"
)


def _plain(stem: str) -> str:
    return _TYPE_WORDS.sub("", stem.lower()).strip("-_. ")
