"""The compiled TensorFlow training loop of the head: many steps per call, the whole training set on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.optional import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable

_ROWS = 4096
"""Number of photos that are standardised at a time: 20 MiB of 1,280 features."""

_MIN_DEVIATION = 1e-6
"""Features with a smaller standard deviation are not used: they do not distinguish the photos."""


class TrainingLoop:
    """Softmax regression on standardised features, starting from zero weights. Deterministic."""

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        *,
        optimizer: str,
        learning_rate: float,
        l2: float,
        label_smoothing: float,
        class_weights: np.ndarray,
    ) -> None:
        """`features` float32 (N, D), `labels` int32 (N,), `class_weights` (C,): the weight of each class's photos."""
        tf = tensorflow()
        self._tf = tf
        self._mean, self._scale = standardisation(features)
        self._weights = tf.keras.Variable(np.zeros((features.shape[1], len(class_weights)), np.float32))
        self._bias = tf.keras.Variable(np.zeros(len(class_weights), np.float32))
        variables = [self._weights, self._bias]
        if optimizer == "sgd":
            rule: Any = tf.keras.optimizers.SGD(learning_rate, momentum=0.9)
        else:
            rule = tf.keras.optimizers.Adam(learning_rate)
        rule.build(variables)
        x_all, y_all = tf.convert_to_tensor(features), tf.convert_to_tensor(labels)
        weight_of = tf.convert_to_tensor(class_weights.astype(np.float32))
        mean, scale = tf.convert_to_tensor(self._mean), tf.convert_to_tensor(self._scale)
        classes = len(class_weights)

        def step(rows: Any, x_all: Any, y_all: Any) -> None:
            with tf.name_scope("bottlenecks"):
                x = (tf.gather(x_all, rows) - mean) * scale
            with tf.name_scope("labels"):
                y = tf.gather(y_all, rows)
                target = tf.one_hot(y, classes) * (1 - label_smoothing) + label_smoothing / classes
            with tf.GradientTape() as tape:
                with tf.name_scope("head"):
                    logits = x @ self._weights.value + self._bias.value
                with tf.name_scope("loss"):
                    losses = tf.nn.softmax_cross_entropy_with_logits(target, logits) * tf.gather(weight_of, y)
                    loss = tf.reduce_mean(losses) + l2 * tf.reduce_sum(tf.square(self._weights.value))
            rule.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)

        def steps(order: Any, x_all: Any, y_all: Any) -> None:
            for number in tf.range(tf.shape(order)[0]):
                step(order[number], x_all, y_all)

        compiled = tf.function(
            steps,
            input_signature=[
                tf.TensorSpec((None, None), tf.int32),
                tf.TensorSpec(features.shape, tf.float32),
                tf.TensorSpec(labels.shape, tf.int32),
            ],
        )
        self._steps: Callable[[Any], None] = lambda order: compiled(order, x_all, y_all)
        self._compiled = compiled

    @property
    def graph(self) -> Any:
        """The TensorFlow graph of the training, for TensorBoard."""
        return self._compiled.get_concrete_function().graph

    def run(self, order: np.ndarray) -> None:
        """Run a training step for each row of `order`, int32 (steps, batch): the indices of its photos."""
        self._steps(self._tf.convert_to_tensor(order))

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (D, C) and bias (C,) for raw features: the standardisation is folded in."""
        weights = np.asarray(self._weights.value, dtype=np.float64) * self._scale[:, None]
        bias = np.asarray(self._bias.value, dtype=np.float64) - self._mean @ weights
        return weights.astype(np.float32), bias.astype(np.float32)


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's mean (D,) and reciprocal standard deviation, 0 if it is tiny. Does not copy `features`."""
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(features), _ROWS):
        squares += np.square(features[start : start + _ROWS] - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(features))
    scale = np.where(deviation > _MIN_DEVIATION, 1 / np.maximum(deviation, _MIN_DEVIATION), 0)
    return mean.astype(np.float32), scale.astype(np.float32)
