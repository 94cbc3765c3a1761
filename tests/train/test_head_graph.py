"""The graph that TensorBoard shows computes the loss that the training loop reduces."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.clouds import CLASSES, clouds
from trtpoets.core.optional import tensorflow
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.train.head_graph import loss_function, loss_graph
from trtpoets.train.head_loop import TrainingLoop, standardisation

CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0])


@pytest.mark.parametrize("optimizer", Optimizer)
def test_a_training_is_that_of_keras(optimizer: Optimizer) -> None:
    """Steps of the loop are those of a Keras optimizer along TensorFlow's gradient of the loss."""
    tf = tensorflow()
    features, labels = clouds(200, 4)
    config = HeadConfig(learning_rate=0.02, optimizer=optimizer, l2=0.01, label_smoothing=0.1)
    order = np.random.default_rng(5).integers(0, len(features), (30, 50))
    loop = TrainingLoop(features, labels, [config], CLASS_WEIGHTS)
    loop.run(order)
    mean, scale = standardisation(features)
    loss = loss_function(config, CLASS_WEIGHTS, mean, scale)
    weights = tf.keras.Variable(np.zeros((features.shape[1], CLASSES), np.float32))
    bias = tf.keras.Variable(np.zeros(CLASSES, np.float32))
    rule = tf.keras.optimizers.SGD(0.02, momentum=0.9) if optimizer is Optimizer.SGD else tf.keras.optimizers.Adam(0.02)
    for rows in order:
        with tf.GradientTape() as tape:
            value = loss(features[rows], labels[rows].astype(np.int32), weights.value, bias.value)
        rule.apply(tape.gradient(value, [weights.value, bias.value]), [weights, bias])
    own_weights, own_bias = loop.parameters()[0]
    of_keras = np.asarray(weights.value) * scale[:, None].astype(np.float64)
    used = np.abs(of_keras).max(axis=1) > 0
    largest = np.abs(of_keras[used]).max(axis=1, keepdims=True)
    np.testing.assert_allclose(own_weights[used] / largest, of_keras[used] / largest, atol=1e-4)
    assert not own_weights[~used].any()
    np.testing.assert_allclose(own_bias, np.asarray(bias.value) - mean @ of_keras, rtol=1e-4, atol=1e-4)


def test_the_graph_has_a_scope_for_each_part() -> None:
    mean, scale = standardisation(clouds(50, 4)[0])
    names = [node.name for node in loss_graph(HeadConfig(), CLASS_WEIGHTS, mean, scale).as_graph_def().node]
    assert {"bottlenecks", "labels", "head", "loss"} <= {name.partition("/")[0] for name in names}
