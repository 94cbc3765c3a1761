"""How near the outputs of an INT8 network are to those in FP32."""

import numpy as np
import onnx
import pytest

from tests.support.quantised_networks import tensors
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.fidelity import (
    HIGHEST_DB,
    features_of,
    fidelity_from_outputs,
    outputs_from_onnx,
    sqnr_db,
)
from trtpoets.convert.int8.sensitivity import SearchLimits
from trtpoets.core.network_notes import Fidelity
from trtpoets.core.types import OnnxModel


def test_sqnr() -> None:
    signal = np.array([3.0, -4.0])
    assert sqnr_db(signal, signal * 1.1) == pytest.approx(20.0)
    assert sqnr_db(signal, signal) == HIGHEST_DB
    assert sqnr_db(signal * 0, signal) == -HIGHEST_DB
    assert sqnr_db(signal, signal * np.nan) == -HIGHEST_DB


def test_outputs_and_fidelity(model: OnnxModel, batch: np.ndarray) -> None:
    proto = onnx.load(model.path)
    name = features_of(GraphView(proto))
    assert name == "flat:0"
    outputs = outputs_from_onnx(proto, name, [batch[:5], batch[5:]])
    np.testing.assert_allclose(outputs.features, tensors(proto, [name], batch)[0], atol=1e-5)
    same = fidelity_from_outputs(outputs, outputs)
    assert (same.photos, same.features_db, same.agreement, same.distance) == (12, HIGHEST_DB, 1.0, 0.0)


@pytest.mark.parametrize(
    ("photos", "wrong", "met"), [(120, 0, True), (120, 3, True), (120, 4, False), (1000, 12, True), (1000, 20, False)]
)
def test_agreement_below_the_target_by_chance_is_accepted(photos: int, wrong: int, met: bool) -> None:
    """If 1 % of 120 photos may differ, 4 or more differ with a probability of 3 %, and 3 or more with one of 12 %."""
    limits = SearchLimits(target_db=20, target_agreement=0.99, least_share=0.9, most_layers=None)
    assert limits.met(Fidelity(photos, 21.0, 30.0, 1 - wrong / photos, 0.01)) is met
    assert not limits.met(Fidelity(photos, 19.0, 30.0, 1.0, 0.01))
