"""What ONNX Runtime computes in float between integer layers."""

from __future__ import annotations

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.convert.int8.forms import CPU
from trtpoets.convert.int8.fused import float_islands, fused_graph
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder


def test_a_layer_in_float_is_an_island() -> None:
    model = residual_network()
    prepared = CPU.prepared_from_onnx(model)
    view = GraphView(prepared)
    spans = dict.fromkeys(CPU.place(view, {}, ()).tensors, (-4.0, 4.0))
    version, placement = Int8GraphBuilder(model, Ranges(Method.MINMAX, spans, (), {}, ""), CPU).build(
        {"expand": "asked"}
    )
    assert placement.in_float["expand"] == "asked"
    file = finished(CPU.lowered(version).graph, 17, CPU.metadata)
    islands = dict(float_islands(fused_graph(file.SerializeToString())))
    assert "Conv" in {operator.replace("FusedConv", "Conv") for operator in islands.values()}
