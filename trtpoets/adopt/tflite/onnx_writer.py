"""Writes the ONNX graph of a TFLite network: names, constants, layouts of tensors, and how integers saturate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trtpoets.adopt.tflite.contents import Operator, Tensor, TfliteContents
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import needs

FIRST = (0, 3, 1, 2)
"""The axes of NHWC in the order NCHW."""

LAST = (0, 2, 3, 1)
"""The axes of NCHW in the order NHWC."""

Interval = tuple[float, float]
EVERYTHING: Interval = (-math.inf, math.inf)

_RANGE_STEPS = 1.001
"""Values that exceed the range of a quantised tensor by at most this many steps are not clipped: the 1.0 of a softmax,
whose integers end at 255/256."""


class OnnxWriter:
    """Collects the nodes of a network, operator by operator, in float32.

    Each tensor of the file has a name in ONNX for the order of its axes in the file ("plain"), and tensors of four axes
    also for NCHW ("first"); one is computed from the other when it is needed. The first axis is that of the photos, of
    which there may be any number.

    If `rounded`, quantised tensors are rounded by QuantizeLinear and DequantizeLinear, and weights are stored as
    integers. Otherwise values are only clipped to the range of the integers, and weights are float.
    """

    def __init__(
        self, contents: TfliteContents, shapes: Mapping[int, tuple[int, ...]], opset: int, *, rounded: bool
    ) -> None:
        self.contents = contents
        self.opset = opset
        self.rounded = rounded
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.constants: dict[int, np.ndarray] = {}
        self._shapes = shapes
        self._names: dict[int, dict[bool, str]] = {}
        self._inside: dict[int, Interval] = {}

    # What handlers ask about tensors

    def tensor(self, index: int) -> Tensor:
        return self.contents.tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape for the batch of the file."""
        return self._shapes.get(index) or self.tensor(index).shape

    def constant(self, operator: Operator, place: int) -> np.ndarray | None:
        """The constant that an operator has as its input number `place`, None if it has no such input.

        Raises ConversionFailed if the input is computed.
        """
        index = operator.inputs[place] if place < len(operator.inputs) else -1
        if index == -1:
            return None
        if index not in self.constants:
            raise ConversionFailed(
                f"{self.contents.path} has the operator {operator.kind} with a computed input "
                f"{self.tensor(index).name}, where only constants can be converted",
                hint="give the file from which it was converted, such as a Keras file or a SavedModel",
                code="TP9350",
            )
        return self.constants[index]

    def needed_constant(self, operator: Operator, place: int) -> np.ndarray:
        """As `constant`, for an input that must be there."""
        constant = self.constant(operator, place)
        if constant is None:
            raise ConversionFailed(
                f"{self.contents.path} has the operator {operator.kind} without its input {place}",
                hint="give the file from which it was converted, such as a Keras file or a SavedModel",
                code="TP9351",
            )
        return constant

    def inside(self, index: int) -> Interval:
        """The interval in which a tensor's values are known to be."""
        return self._inside.get(index, EVERYTHING)

    def same_steps(self, one: int, other: int) -> bool:
        """Whether two tensors have the same quantisation, so that moving values between them changes nothing."""
        first, second = self.tensor(one), self.tensor(other)
        if first.quantisation is None or second.quantisation is None:
            return first.quantisation is second.quantisation
        return first.dtype == second.dtype and first.quantisation.single == second.quantisation.single

    # Names of tensors in ONNX

    def plain(self, index: int) -> str:
        """The name of a tensor in the order of its axes in the file."""
        names = self._names.setdefault(index, {})
        if False not in names:
            if index in self.constants:
                names[False] = self.store(self.constants[index])
            else:
                _, height, width, channels = self.shape(index)
                names[False] = self._moved(names[True], LAST, (height, width, channels))
        return names[False]

    def first(self, index: int) -> str:
        """The name of a tensor of four axes in the order NCHW."""
        names = self._names.setdefault(index, {})
        if True not in names:
            _, height, width, channels = self.shape(index)
            names[True] = self._moved(self.plain(index), FIRST, (channels, height, width))
        return names[True]

    def has_first(self, index: int) -> bool:
        """Whether a tensor exists in the order NCHW already."""
        return True in self._names.get(index, {})

    def in_order(self, index: int, first: bool) -> str:
        """The name of a tensor in one of the two orders."""
        return self.first(index) if first else self.plain(index)

    def flat(self, index: int) -> str:
        """The name of a tensor in an order in which its values follow one another as in the file."""
        shape = self.shape(index)
        if len(shape) == 4 and self.has_first(index) and (shape[3] == 1 or shape[1:3] == (1, 1)):
            return self.first(index)
        return self.plain(index)

    def _moved(self, name: str, order: tuple[int, ...], shape: Sequence[int]) -> str:
        """Move the axes of a tensor; `shape` is what follows the batch afterwards."""
        if sum(size > 1 for size in shape) <= 1 or (order == FIRST and shape[0] == 1) or (order == LAST and shape[2] == 1):
            return self.reshaped(name, shape)
        return self.add("Transpose", [name], perm=list(order))

    def reshaped(self, name: str, shape: Sequence[int]) -> str:
        """Return `name` with the given shape behind the first axis."""
        return self.add("Reshape", [name, self.store(np.array([-1, *shape], np.int64))])

    # Writing

    def store(self, array: np.ndarray) -> str:
        """Store a constant; returns its name."""
        name = f"c{len(self.initializers)}"
        self.initializers[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def number(self, value: float) -> str:
        """Store a float32 number."""
        return self.store(np.array(value, np.float32))

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; returns the name of that."""
        return self.add_many(kind, inputs, 1, **attributes)[0]

    def add_many(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs."""
        with needs("convert", reason="converting TFLite to ONNX"):
            from onnx import helper
        names = [f"t{len(self.nodes)}" + (f"_{number}" if count > 1 else "") for number in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"n{len(self.nodes)}", **attributes))
        return names

    def weights(self, index: int, arranged: Callable[[np.ndarray], np.ndarray], axis: int) -> str:
        """Store constant weights as `arranged` orders their axes; `axis` is that of their scales afterwards."""
        tensor = self.tensor(index)
        quantisation = tensor.quantisation
        if not self.rounded or tensor.data is None or quantisation is None or tensor.dtype not in ("int8", "uint8"):
            return self.store(arranged(self.constants[index]))
        integers = np.asarray(tensor.data, tensor.dtype)
        scale, zero = quantisation.scale, quantisation.zero_point.astype(tensor.dtype)
        if scale.size == 1:
            scale, zero = scale.reshape(()), zero.reshape(())
        inputs = [self.store(arranged(integers)), self.store(scale), self.store(zero)]
        return self.add("DequantizeLinear", inputs, axis=axis)

    def put(
        self,
        index: int,
        name: str,
        *,
        first: bool = False,
        limits: Interval = EVERYTHING,
        inside: Interval = EVERYTHING,
        moved: bool = False,
    ) -> None:
        """Make `name` the value of a tensor: limited by the activation `limits`, and as its integers store it.

        `inside` is where the values are already, by the operator. `moved` values come from tensors of the same
        quantisation, so they are neither rounded nor clipped again.
        """
        tensor = self.tensor(index)
        integers = tensor.integer_range
        low, high = limits
        if integers is not None and not moved:
            assert tensor.quantisation is not None
            scale, zero = tensor.quantisation.single
            smallest, largest = ((bound - zero) * scale for bound in integers)
            if self.rounded:
                name = self._rounded(self._clipped(name, limits), tensor, scale, zero)
                low, high = -math.inf, math.inf
            else:
                slack = _RANGE_STEPS * scale
                low = low if inside[0] >= smallest - slack else max(low, smallest)
                high = high if inside[1] <= largest + slack else min(high, largest)
            inside = max(inside[0], smallest), min(inside[1], largest)
        name = self._clipped(name, (low, high))
        self._inside[index] = max(inside[0], limits[0]), min(inside[1], limits[1])
        self._names[index] = {first: name}

    def alias(self, index: int, name: str, *, first: bool) -> None:
        """Make `name` the value of a tensor as it is."""
        self._names.setdefault(index, {})[first] = name

    def _rounded(self, name: str, tensor: Tensor, scale: float, zero: int) -> str:
        pair = [self.number(scale), self.store(np.array(zero, tensor.dtype))]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [name, *pair]), *pair])

    def _clipped(self, name: str, limits: Interval) -> str:
        low, high = limits
        if limits == EVERYTHING:
            return name
        if limits == (0, math.inf):
            return self.add("Relu", [name])
        bounds = [self.number(bound) if math.isfinite(bound) else "" for bound in (low, high)]
        return self.add("Clip", [name, *bounds] if bounds[1] else [name, bounds[0]])
