"""Replaces the decoder of a graph that takes encoded photos, and measures what it does to them.

Graphs decode photos in many forms: one photo, a loop over a batch (tf.map_fn of TensorFlow 1 and 2), in base64. None of
them is parsed. The decoder is run on photos made for the purpose, and what it returns for uniform colours shows the
values, and for two ramps which part of a photo it keeps. A decoder that does anything else is refused.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.facts import nearly_same_values
from trtpoets.adoption.foreign import FixedGeometry, FixedPixels
from trtpoets.adoption.tensorflow.graph import (
    Graph,
    Nodes,
    ancestors,
    attribute,
    consumers_of,
    data_inputs,
    node_of,
    pruned,
    replaced_by_placeholder,
)
from trtpoets.core.errors import BadArtefact, first_line
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Channels, Evidence, Source
from trtpoets.core.types import LARGEST_SIDE, Resize

DECODERS = ("DecodeJpeg", "DecodeImage", "DecodePng", "DecodeBmp", "DecodeAndCropJpeg", "DecodeWebP", "DecodeGif")
"""Operators that decode photos."""

EXPORT_PIXELS = "export it with an input of pixels, float32 [None, height, width, 3]"

NOT_ANTIALIASED = (
    "the graph resizes photos without antialiasing: it reads a few pixels around each place, none of those between. "
    "trtpoets averages all of them, so that answers for photos much larger than the input may differ from those of the "
    "whole graph. They are the same for photos of the size of the input"
)
"""The warning where the resize of a graph that decodes photos is not that of core/images.py."""

_SMOOTHING = 4
"""Factor between the sides of a photo of noise and those of the input. Averaging leaves a fifth of its deviation."""

_LARGEST_DEVIATION = 0.35
"""Share of the deviation of such noise that is left with antialiasing; bilinear samples of 2 x 2 pixels keep a half."""

_MAX_PLACES = 200
"""Tensors that are tried as the output of the decoder, the first after it first."""

_LINEAR = 2e-3
"""Largest deviation from a linear function of the pixels, relative to the span of the values."""

_SAME = 1e-4
"""Largest difference of scores for encoded photos and for their pixels, relative to the largest score."""

_NEARLY = 0.02
"""Shares of a photo that differ by less are the same: a ramp has 256 steps, and resizing moves it by half a pixel."""

_TIMEOUT_MS = 60_000
"""Time for decoding one small photo."""

_COLOURS = (
    *((value, value, value) for value in (0, 1, 17, 64, 100, 128, 200, 254, 255)),
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (12, 130, 240), (200, 90, 30)),
)


@dataclass(frozen=True)
class Decoded:
    """A graph with an input of pixels in place of encoded photos, and what the decoder did.

    `geometry` is None if it did not resize them.
    """

    definition: Any
    pixels: FixedPixels
    geometry: FixedGeometry | None


def without_decoder(definition: Any, output: str, source: str) -> Decoded:
    """Return a graph without the decoder of its one input, a text with encoded photos.

    The graph gives the scores of the original for encoded photos, which is checked. Raises BadArtefact that says what
    of the decoder is not understood.
    """
    if not any(node.op in DECODERS for node in _all_nodes(definition)):
        raise BadArtefact(
            f"{source} takes text and has no decoder of photos (DecodeJpeg or DecodeImage)",
            hint=EXPORT_PIXELS,
            code="TP9146",
        )
    bytes_input = next(node.name for node in definition.node if node.op == "Placeholder")
    decoder = _Decoder(definition, bytes_input, source)
    place, height, width = decoder.place(output)
    pixels = _pixels_of(decoder.of_colours(place, height, width), source)
    geometry = _geometry_of(decoder, place, height, width, pixels, source)
    shape: list[int | None] = [None if decoder.takes_batches else 1, height, width, 3]
    cut = pruned(replaced_by_placeholder(definition, place, decoder.dtype_of(place), shape), [output])
    _require_same_scores(decoder, cut, place, output, height, width, source)
    how = "the graph decodes photos itself; run on uniform and on uneven photos, its decoder gives"
    text = f"{how} {pixels.text}, at {place}, which is the input now"
    resizes = sorted({node.op for node in _all_nodes(definition) if node.op.startswith(("Resize", "CropAndResize"))})
    smooth = _is_antialiased(decoder, place, height, width, pixels)
    about = f"{how} {geometry.text}" + (f" ({', '.join(resizes)})" if resizes else "")
    about += "" if smooth else ", without antialiasing"
    return Decoded(
        cut,
        FixedPixels(pixels, Evidence("pixels", Source.GRAPH, text), channels_known=True),
        FixedGeometry(geometry, Evidence("resize", Source.GRAPH, about), "" if smooth else NOT_ANTIALIASED),
    )


class _Decoder:
    """Runs the part of a graph that decodes photos, on photos that are encoded as PNG."""

    def __init__(self, definition: Any, bytes_input: str, source: str) -> None:
        tf = tensorflow()
        self._input, self._source, self._definition = bytes_input, source, definition
        self._nodes: Nodes = {node.name: node for node in definition.node}
        self._graph = tf.Graph()
        try:
            with self._graph.as_default():
                tf.import_graph_def(definition, name="")
        except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            raise self._failed(error) from error
        self._session = tf.compat.v1.Session(graph=self._graph)
        shape = attribute(self._nodes[bytes_input], "shape").shape
        self.takes_batches = shape.unknown_rank or len(shape.dim) > 0
        self._base64 = any(node.op == "DecodeBase64" for node in _all_nodes(definition))

    def place(self, output: str) -> tuple[str, int, int]:
        """Return the node after which all photos have one size, and that height and width."""
        names = self._places(output)
        small, large = _noise(40, 60), _noise(90, 70)
        pair = [self.run([image], names) for image in (small, large)]
        for name, first, second in zip(names, *pair, strict=True):
            if first.shape == second.shape and first.ndim == 4 and first.shape[0] == 1 and first.shape[3] == 3:
                height, width = first.shape[1:3]
                if 0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE:
                    return name, height, width
        raise BadArtefact(
            f"{self._source} takes encoded photos, and no tensor behind its decoder has the shape [photos, height, "
            f"width, 3] with one size for all photos; tensors there: {self._listed(names, pair[0])}",
            hint=EXPORT_PIXELS,
            code="TP9105",
        )

    def _places(self, output: str) -> list[str]:
        """Return the nodes that all paths from the encoded photos to the output lead through, in their order."""
        inside = _in_loops(self._nodes)
        needed = ancestors(self._nodes, [output])
        consumers = consumers_of(node for node in self._nodes.values() if node.name in needed)
        behind = _reachable(consumers, [self._input])
        order = [node.name for node in _sorted(self._nodes, needed) if node.name in behind - inside]
        places = []
        for name in order[:_MAX_PLACES]:
            blocked = {key: [user for user in users if user.name != name] for key, users in consumers.items()}
            if node_of(output) not in _reachable(blocked, [self._input]) and self.dtype_of(name) in _NUMBERS:
                places.append(name)
        return places

    def dtype_of(self, name: str) -> int:
        """Return TensorFlow's number of the type of the first output of a node; 0 if it has none."""
        outputs = self._graph.get_operation_by_name(name).outputs
        return int(outputs[0].dtype.as_datatype_enum) if len(outputs) == 1 else 0

    def of_colours(self, place: str, height: int, width: int) -> np.ndarray:
        """Return the values in the middle of uniform photos of each of `_COLOURS`, by channel."""
        images = [np.full((height, width, 3), colour, np.uint8) for colour in _COLOURS]
        values = np.concatenate([self.run([image], [place])[0] for image in images]).astype(float)
        return values[:, height // 2, width // 2]

    def run(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Return the tensors of these nodes for photos, uint8 (H, W, 3)."""
        tf = tensorflow()
        contents = [tf.io.encode_png(image).numpy() for image in images]
        if self._base64:
            contents = [base64.urlsafe_b64encode(content) for content in contents]
        feed = np.array(contents, object) if self.takes_batches else contents[0]
        try:
            tensors = [f"{name}:0" for name in names]
            options = tf.compat.v1.RunOptions(timeout_in_ms=_TIMEOUT_MS)  # a loop of a malicious graph may be endless
            return list(self._session.run(tensors, {f"{self._input}:0": feed}, options=options))
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> BadArtefact:
        return BadArtefact(
            f"{self._source} takes encoded photos, and its decoder can't be run on a PNG file: {first_line(error)}",
            hint=EXPORT_PIXELS,
            code="TP9147",
        )

    @staticmethod
    def _listed(names: Sequence[str], values: Sequence[np.ndarray]) -> str:
        shown = [f"{name} {list(value.shape)}" for name, value in zip(names, values, strict=True)]
        return ", ".join(shown[:4]) or "none"


_NUMBERS = (1, 2, 3, 4, 6, 14, 19)
"""TensorFlow's numbers of the types float32, float64, int32, uint8, int8, bfloat16 and float16 (types.proto)."""


def _all_nodes(definition: Any) -> Iterable[Any]:
    """Yield the nodes of a graph and of its functions, such as the bodies of loops."""
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def _in_loops(nodes: Nodes) -> set[str]:
    """Return the nodes inside the loops of TensorFlow 1, between Enter and Exit, whose tensors can't be fetched."""
    consumers = consumers_of(node for node in nodes.values() if node.op not in ("Exit", "RefExit"))
    return _reachable(consumers, [node.name for node in nodes.values() if node.op in ("Enter", "RefEnter")])


def _reachable(consumers: dict[str, list[Any]], starts: Sequence[str]) -> set[str]:
    reachable: set[str] = set()
    pending = list(starts)
    while pending:
        name = pending.pop()
        if name not in reachable:
            reachable.add(name)
            pending += [user.name for user in consumers.get(name, [])]
    return reachable


def _sorted(nodes: Nodes, needed: set[str]) -> list[Any]:
    """Return the needed nodes, each after its inputs. Those of a loop have any order among themselves."""
    done: set[str] = set()
    result = []
    pending = [(name, False) for name in sorted(needed, reverse=True)]
    while pending:
        name, finished = pending.pop()
        if finished:
            result.append(nodes[name])
        elif name not in done:
            done.add(name)
            pending.append((name, True))
            pending += [(node_of(tensor), False) for tensor in data_inputs(nodes[name])]
    return result


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _pixels_of(values: np.ndarray, source: str) -> Pixels:
    """Return the linear function of RGB that gives these values for `_COLOURS`. Raises BadArtefact if there is none."""
    colours = np.array(_COLOURS, float)
    span = float(np.ptp(values)) or 1.0
    deviations = []
    for channels, order in ((Channels.RGB, [0, 1, 2]), (Channels.BGR, [2, 1, 0])):
        fits = [np.polyfit(colours[:, at], values[:, number], 1) for number, at in enumerate(order)]
        fitted = np.stack([np.polyval(fit, colours[:, at]) for fit, at in zip(fits, order, strict=True)], axis=1)
        deviations.append(float(np.abs(fitted - values).max()) / span)
        if deviations[-1] <= _LINEAR and all(fit[0] > 0 for fit in fits):
            of_rgb = [fits[order.index(at)] for at in range(3)]
            scale, offset = ((float(a[n]), float(b[n]), float(c[n])) for a, b, c in [of_rgb] for n in (0, 1))
            return _named(Pixels(scale, _without_noise(offset, span), channels))
    raise BadArtefact(
        f"{source} takes encoded photos, and its decoder gives values that are not a linear function of red, green and "
        f"blue: for {len(_COLOURS)} uniform photos they deviate by {min(deviations):.1%} of their range. It may "
        "normalise each photo by its own pixels, change colours, or crop at random",
        hint=EXPORT_PIXELS,
        code="TP9148",
    )


def _without_noise(offset: tuple[float, float, float], span: float) -> tuple[float, float, float]:
    first, second, third = (0.0 if abs(value) < 1e-5 * span else value for value in offset)
    return first, second, third


def _named(pixels: Pixels) -> Pixels:
    """Return the pixels under their usual name, with exact numbers; else with the numbers as their name."""
    for usual in (RAW, UNIT, SIGNED):
        if nearly_same_values(pixels, usual) and all(
            math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3 * usual.scale[0])
            for a, b in zip((*pixels.scale, *pixels.offset), (*usual.scale, *usual.offset), strict=True)
        ):
            return Pixels(usual.scale, usual.offset, pixels.channels, usual.name)
    scale, offset = ("(" + ", ".join(f"{value:.4g}" for value in part) + ")" for part in (pixels.scale, pixels.offset))
    return Pixels(pixels.scale, pixels.offset, pixels.channels, f"x * {scale} + {offset}")


def _geometry_of(decoder: _Decoder, place: str, height: int, width: int, pixels: Pixels, source: str) -> Geometry:
    """Return the part of wide and tall photos that the decoder keeps, as a geometry. Raises BadArtefact for others."""
    geometries = []
    kept = []
    side = max(256, 4 * max(height, width))
    for tall in (False, True):
        rows, columns = (side * 2, side) if tall else (side, side * 2)
        down, across = _shares(decoder, place, rows, columns, pixels)
        kept.append(f"{across:.0%} of the width and {down:.0%} of the height of a photo of {columns} x {rows}")
        geometries.append(_geometry(down, across, rows, columns, height, width))
    if geometries[0] is not None and geometries[0] == geometries[1]:
        return geometries[0]
    raise BadArtefact(
        f"{source} takes encoded photos, and its decoder keeps {'; '.join(kept)}. trtpoets stretches whole photos, "
        "crops the middle, or adds black borders (letterbox)",
        hint=EXPORT_PIXELS,
        code="TP9149",
    )


def _is_antialiased(decoder: _Decoder, place: str, height: int, width: int, pixels: Pixels) -> bool:
    """Return whether the decoder averages the pixels of a large photo, as core/images.py does."""
    image = _noise(_SMOOTHING * height, _SMOOTHING * width)
    (value,) = decoder.run([image], [place])
    left = (value[0].astype(float) / np.array(pixels.scale)).std(axis=(0, 1)).mean()
    return bool(left <= _LARGEST_DEVIATION * image.std())


def _shares(decoder: _Decoder, place: str, rows: int, columns: int, pixels: Pixels) -> tuple[float, float]:
    """Return the shares of the height and the width of a photo that its result covers: above 1 with borders.

    The photo has a ramp from top to bottom in red and one from left to right in green. A share is 0 if the result is
    not a window in the middle of the photo.
    """
    down = np.linspace(0, 255, rows)[:, None] + np.zeros((1, columns))
    across = np.linspace(0, 255, columns)[None, :] + np.zeros((rows, 1))
    image = np.rint(np.stack([down, across, np.full_like(down, 128)], axis=2)).astype(np.uint8)
    (value,) = decoder.run([image], [place])
    values = value[0].astype(float)
    values = values[..., ::-1] if pixels.channels is Channels.BGR else values
    ramps = (values - np.array(pixels.offset)) / np.array(pixels.scale) / 255
    middle_row, middle_column = len(ramps) // 2, ramps.shape[1] // 2
    return _share(ramps[:, middle_column, 0]), _share(ramps[middle_row, :, 1])


def _share(line: np.ndarray) -> float:
    """Return the share of a ramp that a line of values covers."""
    count = len(line)
    places = (np.arange(count) + 0.5) / count
    inside = (line > 0.02) & (line < 0.98) & (np.abs(places - 0.5) < 0.45)
    if inside.sum() < 4:
        return 0.0
    slope, offset = np.polyfit(places[inside], line[inside], 1)
    straight = float(np.abs(slope * places[inside] + offset - line[inside]).max()) < max(_NEARLY, 1.5 * slope / count)
    centred = abs(slope * 0.5 + offset - 0.5) < max(_NEARLY, slope / count)
    return float(slope) if straight and centred and slope > 0 else 0.0


def _geometry(down: float, across: float, rows: int, columns: int, height: int, width: int) -> Geometry | None:
    """Return the geometry that covers these shares of a photo; None if it is not a usual one."""

    def near(first: float, second: float) -> bool:
        return abs(first - second) < _NEARLY * max(1.0, second)

    if near(down, 1) and near(across, 1):
        return Geometry(Resize.STRETCH)
    # With the aspect ratio kept, as many pixels of the photo are in one pixel of the result down as across.
    if not near(down * rows * width / (height * columns), across):
        return None
    if near(max(down * rows / height, across * columns / width), max(rows / height, columns / width)) and not near(
        max(down, across), 1
    ):
        return Geometry(Resize.LETTERBOX)
    fraction = max(down, across)
    if not 0 < fraction < 1 + _NEARLY:
        return None
    return Geometry(Resize.CROP, 1.0 if near(fraction, 1) else round(fraction, 3))


def _require_same_scores(
    decoder: _Decoder, cut: Any, place: str, output: str, height: int, width: int, source: str
) -> None:
    """Raise BadArtefact unless the cut graph returns for decoded photos what the whole one returns for their bytes."""
    from trtpoets.adoption.tensorflow.execution import function_of

    run = function_of(Graph(cut, place, output))
    worst = 0.0
    for image in (_noise(height, width), _noise(2 * height, width), _noise(height, 3 * width)):
        value, scores = decoder.run([image], [place, node_of(output)])
        largest = max(1e-9, float(np.abs(scores).max()))
        worst = max(worst, float(np.abs(run(value).astype(float) - scores).max()) / largest)
    if not worst <= _SAME:
        raise BadArtefact(
            f"{source} takes encoded photos, and its scores differ by {worst:.1%} if their pixels are given instead: "
            f"the network after {place} uses other data of the photos than these pixels",
            hint=EXPORT_PIXELS,
            code="TP9106",
        )
