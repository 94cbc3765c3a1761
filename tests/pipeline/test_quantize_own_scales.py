"""INT8 of an adopted file that brings its own scales: int8.onnx has exactly these, and fp32.onnx does not round."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import trtpoets
from tests.support.foreign_onnx import colour_classifier, colour_folders
from trtpoets.adoption.contract_options import contract_options
from trtpoets.convert.int8.quantised_files import is_quantised, unsuitable_quantisation
from trtpoets.core.onnx_file import check_onnx, read_onnx
from trtpoets.core.types import BatchRange, Flavour, Precision
from trtpoets.core.workspace import Workspace, card_of, open_details
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.adopt import AdoptConfig, adopt
from trtpoets.pipeline.card_details import Int8Details

STATED = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))
SCALES = {"image": 0.0078, "clipped": 0.008}


def quantised_classifier(path: Path) -> Path:
    """The classifier of colours with pairs as a tool for quantisation-aware training writes them, and INT8 weights."""
    model = onnx.load(colour_classifier(path, batch="N"))
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kernel = numpy_helper.to_array(constants["kernel"])
    graph.initializer.remove(constants["kernel"])
    stored = np.rint(kernel * 127).astype(np.int8)
    graph.initializer.extend(
        [
            numpy_helper.from_array(stored, "kernel.int8"),
            numpy_helper.from_array(np.full(3, 1 / 127, np.float32), "kernel.scale"),
            numpy_helper.from_array(np.zeros(3, np.int8), "kernel.zero"),
            numpy_helper.from_array(np.int8(0), "zero"),
            *(numpy_helper.from_array(np.float32(scale), f"{name}.scale") for name, scale in SCALES.items()),
        ]
    )
    nodes = [helper.make_node("DequantizeLinear", ["kernel.int8", "kernel.scale", "kernel.zero"], ["kernel"], axis=0)]
    for name in SCALES:
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}.scale", "zero"], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.scale", "zero"], [f"{name}.dq"]))
    conv, clip, pool, *rest = (type(node).FromString(node.SerializeToString()) for node in graph.node)
    conv.input[0], pool.input[0] = "image.dq", "clipped.dq"
    del graph.node[:]
    graph.node.extend([*nodes[:3], conv, clip, *nodes[3:], pool, *rest])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of a quantised file, with fp16.onnx and int8.onnx."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "photos").mkdir()
    path = quantised_classifier(folder / "net" / "qat.onnx")
    adopt(path, "own", photos=colour_folders(folder / "photos", 12), config=STATED, engines=folder / "engines")
    trtpoets.quantize("own", engines=folder / "engines")
    return Workspace(folder / "engines", "own")


def scales_of(path: Path) -> set[float]:
    """The scales of activations of an ONNX file."""
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        round(float(constants[node.input[1]]), 6)
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and constants[node.input[1]].size == 1
    }


def test_the_scales_are_those_of_the_file(space: Workspace) -> None:
    model = read_onnx(space.onnx(Precision.INT8))
    assert model.precision is Precision.INT8
    assert scales_of(model.path) == set(SCALES.values())
    assert unsuitable_quantisation(check_onnx(model.path)) == ()
    assert not is_quantised(check_onnx(space.onnx(Precision.FP32)))
    details = open_details(card_of(model.path), Int8Details)
    assert details is not None and details.calibration is None
    assert details.notes.convolutions_int8 == 1 and details.notes.in_float == {"Gemm": "it has no pairs in the file"}


def test_int8_gives_the_scores_of_the_original(space: Workspace) -> None:
    from trtpoets.pipeline.artefacts import classifier_in

    photos = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    with open_runner(classifier_in(space)) as original, open_runner(read_onnx(space.onnx(Precision.INT8))) as int8:
        np.testing.assert_allclose(int8.infer(photos), original.infer(photos), atol=1e-4)
    with open_runner(read_onnx(space.onnx(Precision.FP32))) as fp32, open_runner(classifier_in(space)) as original:
        difference = np.abs(fp32.infer(photos) - original.infer(photos)).max()
    assert 1e-5 < difference < 0.05


def test_a_second_time_nothing_is_written(space: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    path = space.onnx(Precision.INT8)
    before = path.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        trtpoets.quantize("own", engines=space.engines)
    assert path.stat().st_mtime_ns == before
    with caplog.at_level(logging.INFO):
        trtpoets.quantize("own", precisions=[Precision.INT8], engines=space.engines, force=True)
    assert "qat.onnx brings its own INT8 scales, which are used as they are" in caplog.text


def test_the_report_names_the_origin_of_the_scales(space: Workspace) -> None:
    trtpoets.evaluate("own", engines=space.engines)
    trtpoets.report("own", engines=space.engines)
    page = (space.folder / "report.md").read_text()
    assert "Its scales are those of qat.onnx, used as they are." in page
    assert "biases corrected" not in page


def test_the_real_tensorrt_rtx_builds_it(space: Workspace) -> None:
    pytest.importorskip("tensorrt_rtx")
    (engine,) = trtpoets.build(
        "own",
        precisions=[Precision.INT8],
        flavour=Flavour.RTX,
        batch=BatchRange(1, 2, 4),
        workspace_mib=64,
        engines=space.engines,
    )
    assert engine.card.precision is Precision.INT8
