"""Which nodes of an ONNX file are FP32."""

from __future__ import annotations

import pytest

from tests.support.named_network import named
from trtpoets.core.onnx_graph import fp32_nodes, read_graph
from trtpoets.core.types import Precision


def test_which_nodes_are_fp32() -> None:
    assert fp32_nodes(read_graph(named(Precision.INT8).SerializeToString())) == ()
    assert fp32_nodes(read_graph(named(Precision.INT8, "a", "b").SerializeToString())) == ("a", "b")
    assert fp32_nodes(read_graph(named(Precision.FP32).SerializeToString())) == ()
    broken = named(Precision.INT8, "a")
    broken.metadata_props[-1].value = '{"a": 1}'
    with pytest.raises(ValueError, match="is not a list of names"):
        fp32_nodes(read_graph(broken.SerializeToString()))
