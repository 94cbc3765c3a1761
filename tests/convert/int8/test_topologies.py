"""INT8 of networks with the structure of common classifiers: placement of pairs, quality, and what TensorRT accepts."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.small_networks import photos_in, residual_network, saved
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.fp16_remainder import remainder_notes, with_fp16_remainder
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.last_layer import last_layer
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.bias_correction import bias_shifts, reference_from_onnx, with_shifted_biases
from trtpoets.convert.int8.calibration import (
    CalibrationConfig,
    Method,
    Ranges,
    calibration_from_photos,
)
from trtpoets.convert.int8.fidelity import features_of
from trtpoets.convert.int8.gptq import gptq_weights
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.placement import Placement, placement_from_onnx
from trtpoets.convert.int8.qdq import channel_scales
from trtpoets.convert.int8.quantize_int8 import Int8Notes, best_ranges, int8_from_onnx
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.convert.int8.segments import SegmentRunner
from trtpoets.convert.opset_downgrade import onnx_for_older
from trtpoets.convert.precision import fp16_from_onnx
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session, unwanted_optimizers
from trtpoets.core.types import BatchRange, Flavour, OnnxModel, Photo
from trtpoets.device.build.engine import engine_from_onnx
from trtpoets.device.build.engine_config import EngineConfig


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    by_class = photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 14, "rose": 14, "tulip": 14}))
    return [by_class[index] for index in np.random.default_rng(0).permutation(len(by_class))]


def fixed_ranges(placement: Placement, sha256: str = "") -> Ranges:
    return Ranges(Method.MINMAX, dict.fromkeys(placement.tensors, (-2.0, 3.0)), (), {}, sha256)


def joins(name: str, inputs: int) -> set[tuple[str, int]]:
    return {(name, index) for index in range(inputs)}


# -- placement -----------------------------------------------------------------------------------------------------

HEAD = {"head"}
GATES = {f"{name}_se_{layer}" for name in ("one", "two") for layer in ("reduce", "expand")}
SHUFFLE = {
    *joins("one_join", 2),
    *joins("two_join", 2),
    ("one_shuffle_apart", 0),
    ("two_shuffle_apart", 0),
    ("pool", 0),
}
SPLITS = {("one_split", 0), ("two_split", 0)}
SLICES = {(f"{name}_{side}", 0) for name in ("one", "two") for side in ("left", "right")}
INCEPTION = {(f"{name}_{pool}", 0) for name in ("one", "two") for pool in ("average", "max")}
SE_NET = {("one_add", 1), ("two_add", 1), ("pool", 0)}
V3 = {("one_add", 0), ("two_add", 0), ("pool", 0)}

EXPECTED: dict[str, tuple[set[tuple[str, int]], set[str]]] = {
    "vgg": (set(), {"fc1", "fc2", "head"}),
    "resnet": ({("one_add", 1), ("two_add", 1), ("three_add", 1), ("pool", 0)}, HEAD),
    "resnet_v2": ({("one_add", 0), ("two_add", 0), ("pool", 0)}, HEAD),
    "resnext": ({("one_add", 1), ("two_add", 1), ("pool", 0)}, HEAD),
    "densenet": ({("transition_pool", 0)}, HEAD),
    "squeezenet": ({*joins("two_join", 2), *joins("three_join", 2), *joins("four_join", 2), ("pool", 0)}, set()),
    "shufflenet": (SHUFFLE | SPLITS, HEAD),
    "shufflenet_slices": (SHUFFLE - {("two_shuffle_apart", 0)} | SLICES | {("two_shuffle_apart", 0)}, HEAD),
    "inception": ({*joins("one_join", 4), *joins("two_join", 4), ("pool", 0)} | INCEPTION, HEAD),
    "xception": ({("two_add", 0), ("four_add", 1), ("pool", 0)}, HEAD),
    "mobilenet_v3": (V3, GATES | {"wide", "head"}),
    "mobilenet_v3_clip": (V3, GATES | {"wide", "head"}),
    "efficientnet": (SE_NET, GATES | HEAD),
    "silu_residual": (V3, HEAD),
    "regnet": (SE_NET, GATES | HEAD),
    "nasnet": ({("one_add1", 1), ("one_add3", 0), ("two_add1", 1), ("two_add3", 0)}, HEAD),
    **dict.fromkeys(("convnext", "convnext_parts", "vit", "vit_parts", "mlp_mixer", "flat_tokens"), (set(), HEAD)),
    "prelu": ({("join", 0), ("pool", 0)}, HEAD),
    "leaky_relu": ({("join", 0), ("pool", 0)}, HEAD),
    "group_norm": ({("join", 0)}, HEAD),
    "alexnet": (set(), {"fc1", "head"}),
}
"""For each topology: the pairs that are not before a layer with weights, and the layers in floating point."""


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_places_of_the_pairs(name: str) -> None:
    placement = placement_from_onnx(TOPOLOGIES[name]())
    layers = {weight.node for weight in placement.weights}
    others = {(use.node, use.index) for use in placement.inputs if use.node not in layers}
    assert (others, set(placement.in_float)) == EXPECTED[name]
    assert {use.node for use in placement.inputs if use.node in layers} == layers


def test_matrix_products_have_scales_for_each_output_channel() -> None:
    for name, layer, axis in (("vit", "one_wide", 1), ("vit", "patch", 0), ("flat_tokens", "wide", 0)):
        axes = {weight.node: weight.axis for weight in placement_from_onnx(TOPOLOGIES[name]()).weights}
        assert axes[layer] == axis


@pytest.mark.parametrize("name", ["shufflenet", "shufflenet_slices"])
def test_a_chain_of_shuffles_has_one_scale(name: str) -> None:
    (group,) = placement_from_onnx(TOPOLOGIES[name]()).same_scale
    read = {use.tensor for use in placement_from_onnx(TOPOLOGIES[name]()).inputs if use.node in ("one_a", "two_a")}
    assert {"stem_pool:0", "one_join:0", "one_shuffle:0", "one_c_relu:0", "two_c_relu:0", "two_shuffle:0"} < set(group)
    assert read < set(group), "the convolution after a Split has the scale of the Concat before it"


def test_each_concat_has_one_scale() -> None:
    assert placement_from_onnx(TOPOLOGIES["squeezenet"]()).same_scale == tuple(
        (f"{name}_1_relu:0", f"{name}_3_relu:0", f"{name}_join:0") for name in ("two", "three", "four")
    )
    # Batch norms, which stay in float, read the Concats of a DenseNet.
    assert placement_from_onnx(TOPOLOGIES["densenet"]()).same_scale == ()


def test_the_share_counts_products_of_activations() -> None:
    builders = {
        name: Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model)))
        for name, model in ((name, TOPOLOGIES[name]()) for name in ("vit", "flat_tokens"))
    }
    vit, flat = builders["vit"], builders["flat_tokens"]
    tokens, width, heads = 17, 32, 2
    attention = 2 * heads * tokens * tokens * width // heads
    assert vit.work["one_query"] == tokens * width * width
    assert vit.total == sum(vit.work.values()) + 2 * attention
    assert vit.share(vit.build()[1]) == pytest.approx((vit.total - 2 * attention - vit.work["head"]) / vit.total)
    assert flat.work["wide"] == 256 * 32 * 64, "all rows of a product on (N * T, D) count"


def test_features_include_the_error_of_the_last_layer_if_it_is_int8() -> None:
    names = {name: features_of(GraphView(TOPOLOGIES[name]())) for name in ("squeezenet", "mobilenet_v3", "vit")}
    assert names == {"squeezenet": "flat:0", "mobilenet_v3": "wide_swish:0", "vit": "first:0"}


def test_existing_networks_are_quantised_as_before() -> None:
    """MobileNets: the hash of the quantised graph before other topologies were supported."""
    model = residual_network()
    quantised, _ = Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model))).build()
    nodes = [(node.op_type, list(node.input), list(node.output)) for node in quantised.graph.node]
    assert hashlib.sha256(repr(nodes).encode()).hexdigest() == BEFORE


BEFORE = "f4636e5d32e8509de7b9e9203d0e5922a70b15ab7bf082efd6e1e4c9593b3e36"


# -- quality -------------------------------------------------------------------------------------------------------


def quantised(
    name: str, photos: list[Photo], folder: Path, method: Method, config: Int8Config
) -> tuple[OnnxModel, OnnxModel, Int8Notes]:
    model = saved(TOPOLOGIES[name](), folder / "fp32.onnx")
    validation = photos[-len(photos) * 3 // 8 :]
    calibration = photos[: -len(validation)]
    measured = calibration_from_photos(model, calibration, CalibrationConfig(method=method))
    candidates = measured.by_method
    if method is Method.AUTO:
        candidates = (*candidates, *search_ranges(model, measured, calibration))
    evaluator = Int8Evaluator(model, calibration, validation, config)
    ranges, _ = best_ranges(evaluator, candidates)
    int8, notes = int8_from_onnx(evaluator, ranges, folder / "int8.onnx")
    return model, int8, notes


@pytest.mark.parametrize(("name", "layers", "db"), [("flat_tokens", (1, 2), 50.0), ("shufflenet", (8, 0), 40.0)])
def test_quantisation_of_small_networks(
    name: str, layers: tuple[int, int], db: float, photos: list[Photo], tmp_path: Path
) -> None:
    config = Int8Config(rounding_photos=6, correction_photos=6, search_photos=2, max_float_layers=0)
    _, _, notes = quantised(name, photos[:20], tmp_path, Method.MINMAX, config)
    assert (notes.convolutions_int8, notes.products_int8) == layers
    assert notes.share > 0.9
    assert notes.final.features_db > db
    assert notes.final.agreement >= 0.9
    assert notes.rounded == sum(layers)
    assert notes.plain.features_db < notes.corrected.features_db < notes.together.features_db


@pytest.mark.slow
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_whole_quantisation(name: str, photos: list[Photo], tmp_path: Path) -> None:
    model, int8, notes = quantised(name, photos, tmp_path, Method.AUTO, Int8Config())
    assert notes.final.features_db > 28
    assert notes.final.agreement >= 14 / 16
    assert notes.share > 0.9
    assert remainder_notes(int8, with_fp16_remainder(int8, tmp_path / "mixed.onnx"), photos[26:]).mean_abs < 0.01
    _, fp16 = fp16_from_onnx(model, photos[:26], tmp_path / "fp16.onnx")
    assert fp16.max_abs < 0.01
    if EXPECTED[name][1] and name not in ("mobilenet_v3", "mobilenet_v3_clip"):
        assert last_layer(onnx.load(int8.path)).weights.shape[1] == 3
    else:
        with raises(ConversionFailed, "TP3004"):
            last_layer(onnx.load(int8.path))


def test_weights_and_biases_of_matrix_products_are_corrected(photos: list[Photo], tmp_path: Path) -> None:
    model = saved(TOPOLOGIES["mlp_mixer"](), tmp_path / "fp32.onnx")
    (ranges,) = calibration_from_photos(model, photos[:8], CalibrationConfig(method=Method.MINMAX)).by_method
    builder = Int8GraphBuilder(onnx.load(model.path), ranges)
    int8, placement = builder.build()
    pixels = next(photo_batches(photos[:8], model.spec.preprocess, 8))
    rounded = gptq_weights(int8, placement, pixels)
    assert set(rounded) == {weight.tensor for weight in placement.weights}
    view = GraphView(builder.model)
    for name, values in rounded.items():
        steps = values / channel_scales(view.array(name), 1)
        assert values.shape == view.array(name).shape
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        assert np.abs(steps - view.array(name) / channel_scales(view.array(name), 1)).max() > 0.5, "not the nearest"
    reference = reference_from_onnx(builder.model, pixels)
    clipped = builder.build_clipped(placement)
    shifts = bias_shifts(int8, clipped, reference, pixels, SegmentRunner())
    assert {name: len(shift) for name, shift in shifts.items()} == {
        weight.node: view.array(weight.tensor).shape[1] for weight in placement.weights
    }
    means = [
        open_session(with_outputs(graph, ["patch_bias:0"]).SerializeToString())
        .run(["patch_bias:0"], {"photos": pixels})[0]
        .mean(axis=(0, 1))
        for graph in (clipped, int8, with_shifted_biases(int8, shifts))
    ]
    assert np.abs(means[1] - means[0]).max() > 1e-3
    np.testing.assert_allclose(means[2], means[0], atol=1e-5)


def test_matrix_products_are_not_fused_by_onnx_runtime(tmp_path: Path) -> None:
    """Fused, they saturate on processors without VNNI."""
    model = TOPOLOGIES["mlp_mixer"]()
    int8, _ = Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model))).build()
    assert unwanted_optimizers(model.SerializeToString()) == ["WeightBiasQuantization"]  # type: ignore[attr-defined]
    content = int8.SerializeToString()
    assert unwanted_optimizers(content) == ["WeightBiasQuantization", "QDQSelectorActionTransformer"]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    optimised, written = (
        open_session(content, as_written=as_written).run(None, {"photos": pixels})[0] for as_written in (False, True)
    )
    np.testing.assert_allclose(optimised, written, atol=1e-3)
    convolutions = residual_network()
    int8, _ = Int8GraphBuilder(convolutions, fixed_ranges(placement_from_onnx(convolutions))).build()
    assert unwanted_optimizers(int8.SerializeToString()) == ["WeightBiasQuantization"]


def test_variances_stay_in_fp32_and_attention_does_not(photos: list[Photo], tmp_path: Path) -> None:
    model = saved(TOPOLOGIES["vit_parts"](), tmp_path / "fp32.onnx")
    _, notes = fp16_from_onnx(model, photos[:8], tmp_path / "fp16.onnx")
    parts = {f"one_norm1_{part}" for part in ("pow", "variance", "eps", "sqrt")}
    assert {name for name in notes.kept_fp32 if name.startswith("one_norm1")} == parts
    assert {name for name in notes.kept_fp32 if "softmax" in name} == {"softmax"}
    assert notes.max_abs < 0.01


def test_a_fixed_batch_counts_once() -> None:
    for name in ("flat_tokens", "vit", "resnet"):
        model = TOPOLOGIES[name]()
        builder = Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model)))
        for value in (*model.graph.input, *model.graph.output):  # type: ignore[attr-defined]
            value.type.tensor_type.shape.dim[0].dim_value = 8
        fixed = Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model)))
        assert (fixed.total, fixed.work) == (builder.total, builder.work)
        assert fixed.build()[1] == builder.build()[1]


@pytest.mark.slow
def test_the_search_may_return_layers_where_much_can_never_be_int8(photos: list[Photo], tmp_path: Path) -> None:
    """91 % of the ViT can be INT8: of those, 95 % must remain, not of all."""
    model = saved(TOPOLOGIES["vit"](), tmp_path / "fp32.onnx")
    (ranges,) = calibration_from_photos(model, photos[:8], CalibrationConfig(method=Method.MINMAX)).by_method
    config = Int8Config(correct_bias=False, target_db=90, search_photos=2, judged_photos=4, max_float_layers=1)
    evaluator = Int8Evaluator(model, photos[:8], photos[8:12], config)
    _, notes = int8_from_onnx(evaluator, ranges, tmp_path / "int8.onnx")
    assert len(notes.steps) == 1
    assert 0.91 * 0.95 <= notes.share < 0.91


# -- older opsets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vit", "convnext", "mlp_mixer", "shufflenet"])
def test_an_older_opset_computes_the_same(name: str, photos: list[Photo], tmp_path: Path) -> None:
    model = saved(TOPOLOGIES[name](), tmp_path / "fp32.onnx")
    older = onnx_for_older(model, tmp_path / "older.onnx", opset=13)
    assert onnx.load(older.path).opset_import[0].version == 13
    pixels = next(photo_batches(photos[:4], model.spec.preprocess, 4))
    expected, scores = (open_session(path.path).run(None, {"photos": pixels})[0] for path in (model, older))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


# -- TensorRT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shufflenet", "vit", "mobilenet_v3"])
def test_tensorrt_parses_the_quantised_network(name: str) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    model = TOPOLOGIES[name]()
    int8, _ = Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model))).build()
    logger = library.Logger(library.Logger.INTERNAL_ERROR)
    network = library.Builder(logger).create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    assert parser.parse(int8.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]


@pytest.mark.slow
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_tensorrt_builds_every_file(name: str, photos: list[Photo], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    config = Int8Config(max_float_layers=0, round_weights=False)
    model, int8, _ = quantised(name, photos, tmp_path, Method.MINMAX, config)
    fp16, _ = fp16_from_onnx(model, photos[:8], tmp_path / "fp16.onnx")
    mixed = with_fp16_remainder(int8, tmp_path / "mixed.onnx")
    engines = EngineConfig(Flavour.RTX, batch=BatchRange(1, 2, 4), workspace_mib=64)
    for file in (model, fp16, int8, mixed):
        engine = engine_from_onnx(file, engines, file.path.with_suffix(".engine"))
        assert engine.card.engine_bytes > 1000


# -- files that are quantised already ------------------------------------------------------------------------------


# -- shapes that the graph computes ----------------------------------------------------------------------------------
