"""Fake quantisation: rounds in the forward pass as a Q/DQ pair does, and has the gradients of LSQ in the backward pass.

Source: Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned Step Size Quantization" (ICLR 2020), equations 1 to 3. The
gradient of the rounding is that of the straight-through estimator (Bengio, Léonard, Courville, 2013): 1 inside the
range. Outside it is 0, and the gradient of the scale moves the limit, which is the learned clipping of PACT (Choi et
al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks", 2018).
"""

from __future__ import annotations

from typing import Any

from trtpoets.core.optional import tensorflow


def fake_quantised(values: Any, scale: Any, low: float, high: float) -> Any:
    """Return clip(round half to even(values / scale), low, high) * scale, differentiable in `values` and `scale`.

    `scale` broadcasts against `values`, with the same number of axes or none. With v = values / scale, the gradient for
    a value is 1 where low <= v <= high, otherwise 0; the gradient for the scale is round(v) - v inside, `low` below and
    `high` above, summed over the values with this scale.
    """
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def quantised(numbers: Any, step: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            # Computed again, so that only the numbers are kept in memory until then.
            steps = numbers / step
            rounded = tf.clip_by_value(tf.round(steps), low, high)
            inside = tf.logical_and(steps >= low, steps <= high)
            by_value = tf.where(inside, upstream, tf.zeros_like(upstream))
            by_scale = upstream * tf.where(inside, rounded - steps, rounded)
            return by_value, _summed_like(by_scale, step)

        return tf.clip_by_value(tf.round(numbers / step), low, high) * step, gradients

    return quantised(values, scale)


def _summed_like(tensor: Any, scale: Any) -> Any:
    """Return the sum of a tensor over the axes along which a scale has one number."""
    tf = tensorflow()
    if not len(scale.shape):
        return tf.reduce_sum(tensor)
    axes = [axis for axis, size in enumerate(scale.shape) if size == 1]
    return tf.reduce_sum(tensor, axis=axes, keepdims=True)
