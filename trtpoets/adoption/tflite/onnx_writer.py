"""Writes the ONNX graph of a TFLite network: names, constants, layouts of tensors, and how integers saturate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtpoets.adoption.tflite.contents import GIVE_SOURCE, Operator, Tensor, TfliteContents, is_hybrid
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import needs

FIRST = (0, 3, 1, 2)
"""The axes of NHWC in the order NCHW."""

LAST = (0, 2, 3, 1)
"""The axes of NCHW in the order NHWC."""

Interval = tuple[float, float]
EVERYTHING: Interval = (-math.inf, math.inf)

LARGEST_SUM = float(1 << 24)
"""Up to here float32 holds all integers."""

_RANGE_STEPS = 1.001
"""Values that exceed the range of a quantised tensor by at most this many steps are not clipped: the 1.0 of a softmax,
whose integers end at 255/256."""


class OnnxWriter:
    """Collects the nodes of a network, operator by operator, in float32.

    Each tensor of the file has a name in ONNX for the order of its axes in the file ("plain"), and tensors of four axes
    also for NCHW ("first"); one is computed from the other when it is needed. The first axis is that of the photos, of
    which there may be any number.

    If `rounded`, each quantised tensor is rounded by QuantizeLinear. Its values are then computed from its steps,
    `q - zero_point` as float32, and convolutions compute with the steps of input and weights, because float32 holds
    sums of integers exactly. Otherwise values are only clipped to the range of the integers.
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
        self._steps: dict[int, dict[bool, str]] = {}
        self._inside: dict[int, Interval] = {}

    # What handlers ask about tensors

    def tensor(self, index: int) -> Tensor:
        """The tensor with this number in the file."""
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
                hint=GIVE_SOURCE,
                code="TP9350",
            )
        return self.constants[index]

    def needed_constant(self, operator: Operator, place: int) -> np.ndarray:
        """As `constant`, for an input that must be there."""
        constant = self.constant(operator, place)
        if constant is None:
            raise ConversionFailed(
                f"{self.contents.path} has the operator {operator.kind} without its input {place}",
                hint=GIVE_SOURCE,
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
        return self.in_order(index, False)

    def first(self, index: int) -> str:
        """The name of a tensor of four axes in the order NCHW."""
        return self.in_order(index, True)

    def has_first(self, index: int) -> bool:
        """Whether a tensor exists in the order NCHW already."""
        return True in self._names.get(index, {}) or True in self._steps.get(index, {})

    def in_order(self, index: int, first: bool) -> str:
        """The name of a tensor in one of the two orders."""
        names = self._names.setdefault(index, {})
        if index in self.constants and not names:
            names[False] = self.store(self.constants[index])
        elif not names:
            # Multiplied here and not by DequantizeLinear, of which ONNX Runtime would make integer layers.
            scale, _ = self._quantised(index)
            order, name = next(iter(self._steps[index].items()))
            names[order] = self.add("Mul", [name, self.number(scale)])
        return self._ordered(names, index, first)

    def steps(self, index: int, first: bool = False) -> str:
        """The name of the steps, `q - zero_point`, of a quantised tensor in a `rounded` network."""
        names = self._steps.setdefault(index, {})
        if not names:
            scale, zero = self._quantised(index)
            data = self.tensor(index).data
            if data is None:  # its values were moved from another tensor, so rounding is exact
                order = True in self._names[index]
                names[order] = self._integers(self._names[index][order], self.tensor(index).dtype, scale, zero)
            else:
                names[False] = self.store(data.astype(np.float32) - zero)
        return self._ordered(names, index, first)

    def _ordered(self, names: dict[bool, str], index: int, first: bool) -> str:
        if first not in names:
            _, height, width, channels = self.shape(index)
            if first:
                names[True] = self._moved(names[False], FIRST, (channels, height, width))
            else:
                names[False] = self._moved(names[True], LAST, (height, width, channels))
        return names[first]

    def _quantised(self, index: int) -> tuple[float, int]:
        quantisation = self.tensor(index).quantisation
        assert quantisation is not None
        return quantisation.single

    def flat(self, index: int, *, steps: bool = False) -> str:
        """The name of a tensor, or of its steps, whose values, flattened, are in the order of the file."""
        shape = self.shape(index)
        first = len(shape) == 4 and self.has_first(index) and (shape[3] == 1 or shape[1:3] == (1, 1))
        return self.steps(index, first) if steps else self.in_order(index, first)

    def _moved(self, name: str, order: tuple[int, ...], shape: Sequence[int]) -> str:
        """Move the axes of a tensor; `shape` is what follows the batch afterwards."""
        if (
            sum(size > 1 for size in shape) <= 1
            or (order == FIRST and shape[0] == 1)
            or (order == LAST and shape[2] == 1)
        ):
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

    def in_integers(self, *indices: int) -> bool:
        """Whether to compute with the steps of these tensors: the network is `rounded`, and all of them have 8 bits."""
        tensors = [self.tensor(index) for index in indices]
        return self.rounded and all(tensor.quantisation and tensor.dtype in ("int8", "uint8") for tensor in tensors)

    def is_hybrid(self, operator: Operator) -> bool:
        """Whether an operator quantises its float input itself, for weights of 8 bits, in a `rounded` network."""
        return self.rounded and is_hybrid(self.contents, operator)

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

        `inside` is the interval in which the operator itself keeps the values. `moved` values come from tensors of the
        same quantisation, so they are neither rounded nor clipped again.
        """
        tensor = self.tensor(index)
        integers = tensor.integer_range
        low, high = limits
        if integers is not None and not moved:
            scale, zero = self._quantised(index)
            if self.rounded and tensor.dtype != "int16":
                self._steps[index] = {first: self._integers(self._clipped(name, limits), tensor.dtype, scale, zero)}
                return
            smallest, largest = ((bound - zero) * scale for bound in integers)
            slack = _RANGE_STEPS * scale
            low = low if inside[0] >= smallest - slack else max(low, smallest)
            high = high if inside[1] <= largest + slack else min(high, largest)
            inside = max(inside[0], smallest), min(inside[1], largest)
        self._inside[index] = max(inside[0], limits[0]), min(inside[1], limits[1])
        self._names[index] = {first: self._clipped(name, (low, high))}

    def put_steps(
        self, index: int, name: str, *, factor: np.ndarray, first: bool = False, limits: Interval = EVERYTHING
    ) -> None:
        """Make the integers `name` times `factor` the steps of a tensor, rounded to even, as XNNPACK does.

        `factor` has one element or one for each channel; `limits` are those of the activation, in real values.
        """
        tensor = self.tensor(index)
        scale, zero = self._quantised(index)
        if factor.size > 1 and first:
            factor = factor.reshape(-1, 1, 1)
        # Sums beyond 2^24 are not exact. Without this Clip, ONNX Runtime would multiply the weights by the factor.
        name = self.add("Clip", [name, self.number(-LARGEST_SUM), self.number(LARGEST_SUM)])
        name = self.add("Mul", [name, self.store(factor.astype(np.float32))])
        bounds = tuple(float(np.rint(np.float32(bound) / np.float32(scale))) for bound in limits)
        self._steps[index] = {
            first: self._integers(self._clipped(name, (bounds[0], bounds[1])), tensor.dtype, 1.0, zero)
        }

    def _integers(self, name: str, dtype: str, scale: float, zero: int) -> str:
        """Round values to the integers of a type, and return the name of their steps."""
        zero_point = self.store(np.array(zero, dtype))
        integers = self.add("QuantizeLinear", [name, self.number(scale), zero_point])
        return self.add("DequantizeLinear", [integers, self.number(1), zero_point])

    def _clipped(self, name: str, limits: Interval) -> str:
        low, high = limits
        if low == -math.inf and high == math.inf:
            return name
        if low == 0 and high == math.inf:
            return self.add("Relu", [name])
        bounds = [self.number(bound) if math.isfinite(bound) else "" for bound in (low, high)]
        return self.add("Clip", [name, *bounds] if bounds[1] else [name, bounds[0]])
