"""Names and layouts of PyTorch's tensors in Keras."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.train.own_networks.table import OWN_NETWORKS
from trtpoets.train.own_networks.torch_names import TorchNames
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL


def test_names_and_layouts_become_those_of_keras() -> None:
    tensors = {
        "_conv_stem.weight": np.arange(2 * 3 * 5 * 5, dtype=np.float32).reshape(2, 3, 5, 5),
        "_blocks.3._depthwise_conv.weight": np.arange(4 * 9, dtype=np.float32).reshape(4, 1, 3, 3),
        "_blocks.3._bn1.running_mean": np.zeros(4, np.float32),
        "_blocks.3._bn1.running_var": np.ones(4, np.float32),
        "_blocks.3._bn1.num_batches_tracked": np.array(7),
        "_bn1.running_mean": np.ones(4, np.float32),
        "_bn1.bias": np.ones(4, np.float32),
        "_fc.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    ours = OWN_NETWORKS["efficientnet_lite0"].torch_names.keras_tensors(tensors)
    assert set(ours) == {
        "stem/kernel",
        "block_03_depthwise/kernel",
        "block_03_depthwise_norm/moving_mean",
        "block_03_depthwise_norm/moving_variance",
        "top_norm/moving_mean",
        "top_norm/beta",
        HEAD_KERNEL,
    }
    assert ours["stem/kernel"][4, 1, 2, 0] == tensors["_conv_stem.weight"][0, 2, 4, 1]
    assert ours["block_03_depthwise/kernel"][2, 1, 3, 0] == tensors["_blocks.3._depthwise_conv.weight"][3, 0, 2, 1]
    assert ours[HEAD_KERNEL][1, 2] == tensors["_fc.weight"][2, 1]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("features.0.0.weight", "stem/kernel"),
        ("features.0.1.running_mean", "stem_norm/moving_mean"),
        ("features.1.conv.0.0.weight", "block_00_depthwise/kernel"),
        ("features.1.conv.1.weight", "block_00_project/kernel"),
        ("features.1.conv.2.bias", "block_00_project_norm/beta"),
        ("features.4.conv.0.1.weight", "block_03_expand_norm/gamma"),
        ("features.4.conv.1.1.running_var", "block_03_depthwise_norm/moving_variance"),
        ("features.4.conv.2.weight", "block_03_project/kernel"),
        ("features.4.conv.3.weight", "block_03_project_norm/gamma"),
        ("features.18.1.bias", "top_norm/beta"),
        ("features.18.1.num_batches_tracked", None),
        ("classifier.1.bias", HEAD_BIAS),
    ],
)
def test_names_of_mobilenet_v2(theirs: str, ours: str | None) -> None:
    is_norm = ours is not None and "_norm" in ours
    module = theirs.rpartition(".")[0]
    statistics = {f"{module}.running_mean": np.zeros(1)} if is_norm else {}
    named = OWN_NETWORKS["mobilenet_v2"].torch_names.keras_tensors({theirs: np.zeros(1), **statistics})
    assert set(named) - {ours} <= {f"{(ours or '').partition('/')[0]}/moving_mean"}
    assert (ours in named) == (ours is not None)


def test_unused_modules_are_left_out_and_unknown_ones_named() -> None:
    names = OWN_NETWORKS["googlenet"].torch_names
    assert names.keras_tensors({"aux1.fc1.bias": np.zeros(1)}) == {}
    with pytest.raises(KeyError, match="_swish"):
        OWN_NETWORKS["efficientnet_lite0"].torch_names.keras_tensors({"_swish.weight": np.zeros(1)})
    with pytest.raises(KeyError, match="anchors"):
        TorchNames("fc").keras_tensors({"net.anchors": np.zeros(1)})


def test_a_bias_is_that_of_a_norm_only_beside_its_statistics() -> None:
    value = np.zeros(2)
    tensors = {"a.bias": value, "b.bias": value, "b.running_mean": value}
    assert set(TorchNames("fc").keras_tensors(tensors)) == {"a/bias", "b/beta", "b/moving_mean"}
