"""Layers that distillation does not support are named."""

from __future__ import annotations

import pytest

from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.convert.int8.fidelity import features_of
from trtpoets.core.errors import ConversionFailed

UNSUPPORTED = {"vit": "Shape", "vit_parts": "Shape", "group_norm": "InstanceNormalization", "alexnet": "LRN"}


@pytest.mark.parametrize(("name", "operator"), UNSUPPORTED.items())
def test_an_operator_that_is_not_supported_is_named(name: str, operator: str) -> None:
    model = TOPOLOGIES[name]()
    with pytest.raises(ConversionFailed, match=f"the operator {operator} of node"):
        DifferentiableNetwork(model, features_of(GraphView(model)), {})
