"""Fixtures of the tests of networks and of their weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtpoets.core.optional import tensorflow
from trtpoets.train.backbones import backbone_named
from trtpoets.train.networks import Network, network_from_backbone


@pytest.fixture(scope="session")
def lite0() -> Network:
    return network_from_backbone(backbone_named("efficientnet_lite0"))


@pytest.fixture(scope="session")
def model_and_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A MobileNet of keras.applications with random weights and live batch norms, and a folder for its files."""
    keras = tensorflow().keras
    keras.utils.set_random_seed(7)
    model = keras.applications.MobileNet(
        alpha=0.25, input_shape=(128, 128, 3), weights=None, classifier_activation=None
    )
    rng = np.random.default_rng(7)
    for variable in model.variables:
        if variable.path.endswith(("moving_mean", "beta")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model, tmp_path_factory.mktemp("weights")
