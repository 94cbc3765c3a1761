"""A loaded TensorFlow network runs any number of photos, even if its batch is fixed."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, retrain_graph
from tests.adoption.tensorflow.reading import read
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_a_fixed_batch_is_filled(tmp_path: Path) -> None:
    loaded = read(retrain_graph(), tmp_path)
    sizes: list[int] = []

    def run(values: np.ndarray) -> np.ndarray:
        sizes.append(len(values))
        return values.mean(axis=(1, 2))

    fixed = replace(loaded.model, input=replace(loaded.model.input, batch=4))
    values = np.random.default_rng(0).random((6, SIDE, SIDE, 3)).astype(np.float32)
    with TensorFlowNetwork(replace(loaded, model=fixed, run=run)) as network:
        np.testing.assert_allclose(network.infer(values), values.mean(axis=(1, 2)), rtol=1e-6)
    assert sizes == [4, 4]
    dynamic = replace(loaded.model, input=replace(loaded.model.input, batch=0))
    TensorFlowNetwork(replace(loaded, model=dynamic, run=run)).infer(values)
    assert sizes == [4, 4, 6]
