"""TensorRT calibration cache: its scales equal those of the INT8 file, and invalid caches are rejected."""

from __future__ import annotations

import inspect
import logging
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.small_networks import Network, residual_network, saved
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.convert.int8.grid import SYMMETRIC
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.convert.int8.qdq import with_qdq
from trtpoets.convert.int8.tensorrt_cache import (
    ALGORITHM,
    TENSORRT,
    CalibrationCache,
    cache_from_ranges,
    cache_from_text,
    header_of,
    read_cache,
    text_of_cache,
)
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import from_json
from trtpoets.core.types import OnnxModel, Precision
from trtpoets.core.workspace import open_card, seal_card
from trtpoets.pipeline.calibration_cache_export import calibration_cache


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return saved(residual_network(), tmp_path / "fp32.onnx")


def ranges_of(model: OnnxModel) -> Ranges:
    """Return a range for each tensor that needs one."""
    random = np.random.default_rng(0)
    tensors = placement_from_onnx(onnx.load(model.path)).tensors
    spans = {name: (-float(random.uniform(0, 5)), float(random.uniform(0, 5))) for name in tensors}
    return Ranges(Method.MINMAX, spans, ("a photo",), {"daisy": 1}, sha256_of_file(model.path))


@pytest.fixture
def ranges(model: OnnxModel) -> Ranges:
    return ranges_of(model)


def scales_of_pairs(proto: onnx.ModelProto) -> dict[str, float]:
    """Return the scale of each computed tensor of a graph with Q/DQ pairs."""
    view = GraphView(proto)
    return {
        node.input[0]: float(numpy_helper.to_array(view.constants[node.input[1]]))
        for node in proto.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in view.constants
    }


@pytest.mark.parametrize(
    ("version", "number"),
    [("8.5.2", 8502), ("8.6.1", 8601), ("8.6", 8600), ("8.6.1.6", 8601), ("10.0.1", 100001), ("10.3.0", 100300)],
)
def test_the_header_has_the_version_number_of_tensorrt(version: str, number: int) -> None:
    assert header_of(version) == number
    text = text_of_cache(CalibrationCache(version, ALGORITHM, {"x": 1.0}))
    assert text == f"TRT-{number}-EntropyCalibration2\nx: 3f800000\n"


@pytest.mark.parametrize(
    ("version", "code", "value"),
    [
        ("11.0", "TP3035", "11.0"),
        ("7.2.3", "TP3035", "7.2.3"),
        ("8.16.1", "TP3036", "8.16.1"),
        ("ten", "TP3034", "'ten'"),
        ("", "TP3034", "''"),
        ("10", "TP3034", "'10'"),
        ("-8.5", "TP3034", "'-8.5'"),
        ("8.5\n", "TP3034", r"'8.5\n'"),
        ("\u0668.5", "TP3034", "'\u0668.5'"),
    ],
)
def test_invalid_versions_and_versions_without_caches_are_rejected(version: str, code: str, value: str) -> None:
    with raises(BadInput, code, value) as caught:
        header_of(version)
    assert caught.value.hint


def test_scales_equal_those_of_the_int8_file(model: OnnxModel, ranges: Ranges, tmp_path: Path) -> None:
    cache = cache_from_ranges(model, ranges, tmp_path / "a" / "cache.txt", "8.5.2")
    proto = onnx.load(model.path)
    quantisers = {name: SYMMETRIC.quantiser(low, high) for name, (low, high) in ranges.tensors.items()}
    paired = scales_of_pairs(with_qdq(proto, placement_from_onnx(proto), quantisers))
    assert cache.scales == pytest.approx(paired, rel=1e-6)
    for name, (low, high) in ranges.tensors.items():
        assert 127 * cache.scales[name] == pytest.approx(max(-low, high), rel=1e-6)
    lines = (tmp_path / "a" / "cache.txt").read_text().splitlines()
    assert lines[0] == "TRT-8502-EntropyCalibration2"
    assert len(lines) == 1 + len(cache.scales)
    name, _, digits = lines[1].rpartition(": ")
    assert struct.unpack("!f", bytes.fromhex(digits))[0] == cache.scales[name]
    back = read_cache(tmp_path / "a" / "cache.txt")
    assert (back.tensorrt, back.algorithm, back.scales) == ("8.5.2", "EntropyCalibration2", cache.scales)


def test_tensors_without_a_scale_are_listed(model: OnnxModel, ranges: Ranges, tmp_path: Path) -> None:
    cache = cache_from_ranges(model, ranges, tmp_path / "cache.txt")
    view = GraphView(onnx.load(model.path))
    computed = {name for node in view.nodes for name in node.output if view.is_float(name)}
    assert set(cache.without) | set(cache.scales) == computed
    assert not set(cache.without) & set(cache.scales)
    assert set(cache.without) & set(view.outputs)


def test_layers_kept_in_fp32_get_no_scale(model: OnnxModel, ranges: Ranges, tmp_path: Path) -> None:
    whole = cache_from_ranges(model, ranges, tmp_path / "cache.txt")
    first = next(node for node in onnx.load(model.path).graph.node if node.op_type == "Conv")
    cache = cache_from_ranges(model, ranges, tmp_path / "cache.txt", keep_float={first.name: "it is sensitive"})
    assert set(whole.scales) - set(cache.scales) == {first.input[0]}
    assert first.input[0] in cache.without


def test_a_tensor_that_is_always_zero_gets_no_scale(model: OnnxModel, ranges: Ranges, tmp_path: Path) -> None:
    dead = next(iter(ranges.tensors))
    changed = replace(ranges, tensors={**ranges.tensors, dead: (0.0, 0.0)})
    cache = cache_from_ranges(model, changed, tmp_path / "cache.txt")
    assert dead in cache.without
    assert dead not in cache.scales


def test_tensors_joined_by_a_concat_share_the_largest_scale(tmp_path: Path) -> None:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    branches = [
        net.unary("Relu", net.conv(stem, 16, name, kernel=k), f"{name}_relu") for name, k in (("a", 1), ("b", 3))
    ]
    model = saved(net.model(net.conv(net.concat(branches, "join"), 16, "top")), tmp_path / "fp32.onnx")
    ranges = ranges_of(model)
    (group,) = placement_from_onnx(onnx.load(model.path)).same_scale
    cache = cache_from_ranges(model, ranges, tmp_path / "cache.txt")
    shared = {cache.scales[name] for name in group if name in cache.scales}
    widest = max(max(-low, high) for name, (low, high) in ranges.tensors.items() if name in group)
    assert shared == {float(np.float32(widest / 127))}


def test_ranges_of_another_network_are_rejected(model: OnnxModel, ranges: Ranges, tmp_path: Path) -> None:
    with raises(BadArtefact, "TP3032"):
        cache_from_ranges(model, replace(ranges, onnx_sha256="0" * 64), tmp_path / "cache.txt")
    missing = dict(list(ranges.tensors.items())[1:])
    with raises(BadArtefact, "TP3039"):
        cache_from_ranges(model, replace(ranges, tensors=missing), tmp_path / "cache.txt")
    broken = {name: (float("-inf"), float("inf")) for name in ranges.tensors}
    with raises(BadArtefact, "TP3039"):
        cache_from_ranges(model, replace(ranges, tensors=broken), tmp_path / "cache.txt")
    assert not (tmp_path / "cache.txt").exists()


names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=30)
positive_float32 = st.floats(min_value=2.0**-126, max_value=float(np.finfo(np.float32).max), width=32)


@given(st.dictionaries(names, positive_float32), st.sampled_from(["8.4.1", "8.6.1", "9.3.0", "10.3.0", "10.16.1"]))
def test_a_cache_survives_the_round_trip(scales: dict[str, float], version: str) -> None:
    cache = CalibrationCache(version, ALGORITHM, scales)
    assert cache_from_text(text_of_cache(cache)) == cache


@given(st.one_of(st.text(max_size=200), st.text("TRT-810:0aEf \n\r", max_size=80).map("TRT-8502-A\n".__add__)))
def test_random_text_is_rejected_with_a_hint(text: str) -> None:
    try:
        cache = cache_from_text(text)
    except BadArtefact as error:
        assert error.code == "TP3041"
        assert error.hint
    else:
        assert all(np.isfinite(scale) and scale > 0 for scale in cache.scales.values())
        assert cache_from_text(text_of_cache(cache)) == cache


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"", ("first line", "''")),
        (b"TRT-8502\nx: 3f800000\n", ("first line", "'TRT-8502'")),
        (b"TRT-7203-EntropyCalibration2\n", ("7203",)),
        (b"TRT-110000-EntropyCalibration2\n", ("110000",)),
        (b"TRT-8502-A\nx 3f800000\n", ("line 2", "'x 3f800000'")),
        (b"TRT-8502-A\nx: 3f8000\n", ("line 2", "'x: 3f8000'")),
        (b"TRT-8502-A\nx: 3f80000g\n", ("line 2", "'x: 3f80000g'")),
        (b"TRT-8502-A\nx: 3f800000\n\nx: 3f800000\n", ("line 4", "'x'")),
        (b"TRT-8502-A\nx: 7fc00000\n", ("scale nan",)),
        (b"TRT-8502-A\nx: 7f800000\n", ("scale inf",)),
        (b"TRT-8502-A\nx: 00000000\n", ("scale 0.0",)),
        (b"TRT-8502-A\nx: bf800000\n", ("scale -1.0",)),
        (b"\xff\xfe", ("UTF-8",)),
    ],
)
def test_errors_name_the_line_and_the_fault(content: bytes, values: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "cache.txt"
    path.write_bytes(content)
    with raises(BadArtefact, "TP3041", path, *values):
        read_cache(path)


def test_caches_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cache.txt"
    path.write_bytes(
        b"TRT-8601-MinMaxCalibration\r\nconv1/convolution:0: 3c010204\r\n(Unnamed Layer* 4) [x]: y: 3F800000"
    )
    cache = read_cache(path)
    assert (cache.tensorrt, cache.algorithm) == ("8.6.1", "MinMaxCalibration")
    assert cache.scales["conv1/convolution:0"] == pytest.approx(1 / 127, rel=1e-6)
    assert cache.scales["(Unnamed Layer* 4) [x]: y"] == 1.0
    with raises(MissingArtefact, "TP3038"):
        read_cache(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("name", "scale", "code", "value"),
    [
        ("a\nb", 1.0, "TP3037", r"'a\nb'"),
        ("", 1.0, "TP3037", "''"),
        *[("a", scale, "TP3040", scale) for scale in (0.0, -1.0, 1e39, 1e-60)],
    ],
)
def test_invalid_names_and_scales_are_not_written(name: str, scale: float, code: str, value: str | float) -> None:
    with raises(BadInput, code, value):
        text_of_cache(CalibrationCache("8.5.2", ALGORITHM, {name: scale}))


def test_the_cache_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = bundle_run(tmp_path, in_float={"conv": "sensitive"})
    with caplog.at_level(logging.INFO):
        cache = calibration_cache("tiny", tmp_path / "cache.txt", tensorrt="8.6.1", engines=space.engines)
    assert read_cache(tmp_path / "cache.txt").scales == cache.scales
    assert "x" not in cache.scales  # what the first convolution reads
    counts = f"{len(cache.scales)} tensors, for TensorRT 8.6.1 and fp32.onnx; {len(cache.without)} tensors have none"
    assert counts in caplog.text


def test_a_cache_needs_the_ranges_of_the_current_int8_file(tmp_path: Path) -> None:
    space = bundle_run(tmp_path)
    ranges = dict(open_card(space.ranges) or {})
    others = from_json(Ranges, ranges, "ranges.json")
    others = replace(others, tensors={name: (2 * low, 2 * high) for name, (low, high) in others.tensors.items()})
    seal_card(space.ranges, key="k", files=[], details=others)
    with raises(MissingArtefact, "TP8015") as caught:
        calibration_cache("tiny", tmp_path / "cache.txt", engines=space.engines)
    assert caught.value.hint == space.command("quantize", "--precision", "int8", "--force")
    space.onnx(Precision.INT8).unlink()
    with raises(MissingArtefact, "TP8015", "tiny") as caught:
        calibration_cache("tiny", tmp_path / "cache.txt", engines=space.engines)
    assert caught.value.hint == space.command("quantize", "--precision", "int8")


def test_the_command_line_has_the_default_of_the_library() -> None:

    from trtpoets.cli import main

    assert inspect.signature(main.quantize).parameters["tensorrt"].default == TENSORRT
