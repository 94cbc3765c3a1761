"""Networks of keras.applications in INT8: the layers that stay in float, and that TensorRT-RTX reads the result."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.convert.int8.test_topologies import fixed_ranges
from tests.support.own_networks import classifier_in_onnx
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.train.backbones import backbone_named
from trtpoets.train.networks import Network, graphs_of, with_scaling


@pytest.mark.slow  # exports the networks
@pytest.mark.parametrize(
    ("name", "in_int8", "in_float"),
    # In floating point: the last layer, and in EfficientNetV2 the two layers of 16 squeeze-and-excitations.
    [("efficientnet_v2_b0", 59, 33), ("convnext_tiny", 58, 1)],
)
def test_layers_in_int8(name: str, in_int8: int, in_float: int, tmp_path: Path) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    row = backbone_named(name)
    network = Network(row, with_scaling(row, graphs_of(row)[0]().base), "random", None)
    model = classifier_in_onnx(network, tmp_path)
    placement = placement_from_onnx(model)
    assert (len(placement.weights), len(placement.in_float)) == (in_int8, in_float)
    int8, _ = Int8GraphBuilder(model, fixed_ranges(placement)).build()
    logger = library.Logger(library.Logger.INTERNAL_ERROR)
    typed = library.Builder(logger).create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(typed, logger)
    assert parser.parse(int8.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
