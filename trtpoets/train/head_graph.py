"""The loss of a head as a TensorFlow graph: what TensorBoard shows, and what tests compare the training loop with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.optional import tensorflow

if TYPE_CHECKING:
    import numpy as np

    from trtpoets.core.training import HeadConfig


def loss_function(config: HeadConfig, class_weights: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Any:
    """Return a tf.function: features (N, D), labels (N,), weights (D, C), bias (C,) to the loss that training reduces.

    `class_weights` are (C,), `mean` and `scale` (D,). Weights and bias are those for standardised features.
    """
    tf = tensorflow()
    classes = len(class_weights)
    signature = [
        tf.TensorSpec((None, len(mean)), tf.float32, "features"),
        tf.TensorSpec((None,), tf.int32, "classes"),
        tf.TensorSpec((len(mean), classes), tf.float32, "weights"),
        tf.TensorSpec((classes,), tf.float32, "bias"),
    ]

    def loss(features: Any, labels: Any, weights: Any, bias: Any) -> Any:
        with tf.name_scope("bottlenecks"):
            x = (features - mean) * scale
        with tf.name_scope("labels"):
            target = tf.one_hot(labels, classes) * (1 - config.label_smoothing) + config.label_smoothing / classes
            weight = tf.gather(class_weights.astype("float32"), labels)
        with tf.name_scope("head"):
            logits = x @ weights + bias
        with tf.name_scope("loss"):
            losses = tf.nn.softmax_cross_entropy_with_logits(target, logits) * weight
            return tf.reduce_mean(losses) + config.l2 * tf.reduce_sum(tf.square(weights))

    return tf.function(loss, input_signature=signature)


def loss_graph(config: HeadConfig, class_weights: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Any:
    """Return the graph of `loss_function`."""
    return loss_function(config, class_weights, mean, scale).get_concrete_function().graph
