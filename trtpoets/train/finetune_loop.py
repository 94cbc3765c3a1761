"""The compiled TensorFlow step of fine-tuning: the last layers of a backbone and the head, trained with Adam.

Batch norms stay in inference mode: their statistics are those of the pretraining, which photos of a small set would
only make worse. So a norm does not compensate a change of the kernel before it, and where a channel has a small
variance it enlarges the change: with equal steps for all weights MobileNetV2 forgets within 20 steps what it knew. The
rate is therefore relative to the size of the weights of each channel. Adam's first steps change all n weights of a
channel by the same amount, in the direction of the gradient: these changes add up n times, the weights themselves by
chance sqrt(n) times. So the rate is also divided by sqrt(n).

On a GPU the arithmetic is mixed precision (float16 with float32 weights), with a constant loss scale. That has not run
on a GPU yet.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.optional import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trtpoets.train.finetune_layers import Layer
    from trtpoets.train.head import Head
    from trtpoets.train.networks import Network

_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-7
_LARGEST_GRADIENT = 1.0
"""Norm of all gradients together, above which they are scaled down."""

_SMALLEST_SIZE = 1e-4
"""The size of channels whose weights are all smaller, so that they can change at all."""

_LOSS_SCALE = 1024.0
"""The factor of the loss in mixed precision, which keeps small gradients from becoming 0 in float16."""


class FineTuningLoop:
    """Trains `layers` of `network`, which are its own variables, and a head that starts as `head`."""

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        head: Head,
        *,
        layer_rates: np.ndarray,
        label_smoothing: float,
        class_weights: np.ndarray,
        mixed_precision: bool = False,
        device: str | None = None,
    ) -> None:
        """`layer_rates` (len(layers),) multiply the learning rate, which is a share of the outputs' size.

        `class_weights` (C,) weight the loss. `device`, like "/CPU:0", is that of all operators; by default TensorFlow
        chooses.
        """
        tf = tensorflow()
        self._tf = tf
        self._mixed = mixed_precision
        self._network = network
        self._weights, self._bias = (
            tf.keras.Variable(values.astype(np.float32)) for values in (head.weights, head.bias)
        )
        self._variables = [*(variable for layer in layers for variable in layer), self._weights, self._bias]
        factors = [rate for layer, rate in zip(layers, layer_rates.tolist(), strict=True) for _ in layer] + [1.0, 1.0]
        rates = [
            tf.constant(factor * step_sizes(variable.numpy()))
            for factor, variable in zip(factors, self._variables, strict=True)
        ]
        zeros = [np.zeros(tuple(variable.shape), np.float32) for variable in self._variables]
        self._first, self._second = ([tf.Variable(values, trainable=False) for values in zeros] for _ in range(2))
        preprocess, classes = network.backbone.preprocess, len(class_weights)
        weight_of = tf.constant(class_weights.astype(np.float32))
        scale = _LOSS_SCALE if mixed_precision else 1.0

        def logits_of(photos: Any) -> Any:
            return network.model(photos, training=False) @ self._weights.value + self._bias.value

        def step(photos: Any, labels: Any, rate: Any, number: Any) -> tuple[Any, Any]:
            own = [variable.value for variable in self._variables]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(own)
                logits = logits_of(photos)
                target = tf.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
                losses = tf.nn.softmax_cross_entropy_with_logits(target, logits) * tf.gather(weight_of, labels)
                loss = scale * tf.reduce_mean(losses)
            gradients = [gradient / scale for gradient in tape.gradient(loss, own)]
            norm = tf.linalg.global_norm(gradients)
            # A gradient that is not finite, as an overflow of float16, changes nothing.
            factor = tf.where(
                tf.math.is_finite(norm), tf.minimum(1.0, _LARGEST_GRADIENT / tf.maximum(norm, 1e-12)), 0.0
            )
            corrected = rate * tf.sqrt(1 - _SECOND**number) / (1 - _FIRST**number)
            for place, (value, raw) in enumerate(zip(own, gradients, strict=True)):
                gradient = tf.where(factor > 0, raw * factor, tf.zeros_like(raw))
                first, second = self._first[place], self._second[place]
                first.assign(_FIRST * first + (1 - _FIRST) * gradient)
                second.assign(_SECOND * second + (1 - _SECOND) * tf.square(gradient))
                value.assign_sub(corrected * rates[place] * first / (tf.sqrt(second) + _EPSILON))
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
            return tf.reduce_sum(tf.cast(right, tf.float32)), tf.reduce_sum(nats)

        photos = tf.TensorSpec((None, preprocess.height, preprocess.width, 3), tf.uint8)
        number = tf.TensorSpec((), tf.float32)
        signature = [photos, tf.TensorSpec((None,), tf.int32), number, number]
        self._step = tf.function(self._placed(step, device), input_signature=signature)
        self._logits = tf.function(self._placed(logits_of, device), input_signature=[photos])

    def _placed(self, function: Callable[..., Any], device: str | None) -> Callable[..., Any]:
        """Return the same function, whose operators are placed on `device`."""
        if device is None:
            return function

        def on_device(*values: Any) -> Any:
            with self._tf.device(device):
                return function(*values)

        return on_device

    def train(self, photos: np.ndarray, labels: np.ndarray, rate: float, number: int) -> tuple[int, float]:
        """Take step `number`, from 1, on photos uint8 (N, H, W, 3) with labels int32 (N,).

        Returns the number of right answers before the step, and their cross-entropy in nats, summed over the photos.
        """
        with mixed_precision(self._mixed):
            right, nats = self._step(photos, labels, np.float32(rate), np.float32(number))
        return int(right), float(nats)

    def logits(self, photos: np.ndarray) -> np.ndarray:
        """Return float32 (N, C) for photos uint8 (N, H, W, 3)."""
        return np.asarray(self._logits(photos), dtype=np.float32)

    def values(self) -> list[np.ndarray]:
        """Return a copy of the trained variables; the last two are those of the head."""
        return [variable.numpy() for variable in self._variables]

    def assign(self, values: Sequence[np.ndarray]) -> None:
        """Set the trained variables to the result of `values`."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def moments(self) -> list[np.ndarray]:
        """Return a copy of the state of the optimizer."""
        return [moment.numpy() for moment in (*self._first, *self._second)]

    def assign_moments(self, values: Sequence[np.ndarray]) -> None:
        """Set the state of the optimizer to the result of `moments`."""
        for moment, value in zip((*self._first, *self._second), values, strict=True):
            moment.assign(value)


def step_sizes(values: np.ndarray) -> np.ndarray:
    """Return the factors of the rate for `values`, float32, by output channel, to be multiplied with a direction of ±1.

    A factor is the root mean square of the channel's weights, divided by the square root of their number.
    A depthwise kernel (h, w, C, 1) has its channels on the third axis, other kernels on the last one; scales, shifts
    and biases, (C,), count as one channel.
    """
    if values.ndim < 2:
        axes = tuple(range(values.ndim))
    elif values.shape[-1] == 1:
        axes = tuple(axis for axis in range(values.ndim) if axis != values.ndim - 2)
    else:
        axes = tuple(range(values.ndim - 1))
    size = np.sqrt(np.square(values.astype(np.float64)).mean(axis=axes, keepdims=True))
    inputs = values.size / size.size if values.ndim > 1 else 1
    return np.asarray(np.maximum(size, _SMALLEST_SIZE) / np.sqrt(inputs), dtype=np.float32)


@contextmanager
def mixed_precision(wanted: bool) -> Iterator[None]:
    """Within the context, graphs for a GPU are compiled in mixed precision if `wanted`; weights stay float32."""
    if not wanted:
        yield
        return
    optimizer = tensorflow().config.optimizer
    before = optimizer.get_experimental_options().get("auto_mixed_precision", False)
    optimizer.set_experimental_options({"auto_mixed_precision": True})
    try:
        yield
    finally:
        optimizer.set_experimental_options({"auto_mixed_precision": before})
