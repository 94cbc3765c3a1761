"""Tests every command on a run of a network that only takes batches of one size."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import trtpoets
from tests.support.errors import raises
from tests.support.foreign_onnx import colour_classifier, colour_folders
from trtpoets.adoption.contract_options import contract_options
from trtpoets.core.errors import BadInput
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.onnx_metadata import fixed_batch
from trtpoets.core.types import BatchRange, Flavour, Precision
from trtpoets.core.workspace import Workspace
from trtpoets.device.runners import open_runner
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.pipeline.adopt import AdoptConfig, adopt
from trtpoets.pipeline.artefacts import classifier_in, dataset_in
from trtpoets.pipeline.bench import _for_fixed_batch
from trtpoets.pipeline.result_status import artefacts_in

INT8 = {"onnxruntime-int8", "onnxruntime-int8-cpu"}
"""The runners of both INT8 files."""

STATED = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))


def fixed_classifier(path: Path, batch: int) -> Path:
    """Write a classifier of colours that only takes batches of this size, and return its path.

    Its first nodes need the size: for one photo it selects the first of the batch, for more it joins the two halves.
    Three convolutions widen the 3 channels to 8 and back, so that the middle one can be quantised to INT8.
    """
    model = onnx.load(colour_classifier(path, batch=batch))
    graph = model.graph
    if batch == 1:
        constants = {"index": np.array(0), "axis": np.array([0])}
        nodes = [
            helper.make_node("Gather", ["image", "index"], ["photo"], name="photo", axis=0),
            helper.make_node("Unsqueeze", ["photo", "axis"], ["photos"], name="batch"),
        ]
    else:
        constants = {"sizes": np.array([batch // 2] * 2), "zero": np.float32(0)}
        nodes = [
            helper.make_node("Split", ["image", "sizes"], ["a", "b"], name="split", axis=0),
            helper.make_node("Max", ["a", "zero"], ["a0"], name="a0"),
            helper.make_node("Max", ["b", "zero"], ["b0"], name="b0"),
            helper.make_node("Concat", ["a0", "b0"], ["photos"], name="joined", axis=0),
        ]
    wide = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0, 1]][:, :, None, None]
    constants |= {"wide": wide, "square": np.eye(8, dtype=np.float32)[:, :, None, None]}
    constants["narrow"] = np.eye(3, 8, dtype=np.float32)[:, :, None, None]
    for source, weights in (("photos", "wide"), ("wide.out", "square"), ("square.out", "narrow")):
        nodes.append(helper.make_node("Conv", [source, weights], [f"{weights}.out"], name=weights))
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    old = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    old[0].input[0] = "narrow.out"
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module", params=[1, pytest.param(64, marks=pytest.mark.slow)])
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("fixed")
    (folder / "photos").mkdir()
    path = fixed_classifier(folder / "net" / "net.onnx", request.param)
    adopt(path, "fixed", photos=colour_folders(folder / "photos", 16), config=STATED, engines=folder / "engines")
    trtpoets.quantize("fixed", cpu_form=True, engines=folder / "engines")
    return Workspace(folder / "engines", "fixed")


def batch_of(space: Workspace) -> int:
    original = classifier_in(space).spec.original
    assert original is not None
    return original.input.batch


def test_every_precision_has_the_batch_and_the_scores_of_the_original(space: Workspace) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    with open_runner(classifier_in(space)) as original:
        expected = original.infer(photos)
    for precision, tolerance in ((Precision.FP32, 1e-5), (Precision.FP16, 0.02), (Precision.INT8, 0.1)):
        path = space.onnx(precision)
        assert fixed_batch(path) == batch_of(space)
        with open_runner(read_onnx(path)) as runner:
            np.testing.assert_allclose(runner.infer(photos), expected, atol=tolerance)
            np.testing.assert_allclose(runner.infer(photos[:1]), expected[:1], atol=tolerance)


def test_evaluate_label_and_report(space: Workspace) -> None:
    result = trtpoets.evaluate("fixed", engines=space.engines)
    accuracies = {entry.runner.name: entry.accuracy for entry in result.evaluations}
    assert set(accuracies) == {"original", "onnxruntime-fp32", "onnxruntime-fp16", *INT8}
    assert accuracies["original"] == accuracies["onnxruntime-fp32"]
    photos = [photo.path for photo in dataset_in(space).photos[:3]]
    assert len(trtpoets.label("fixed", photos, engines=space.engines)) == 3
    assert trtpoets.report("fixed", engines=space.engines).baseline_text == "the original file"


def test_other_batches_are_refused(space: Workspace) -> None:
    size = batch_of(space)
    pytest.importorskip("tensorrt_rtx")
    with raises(BadInput, "TP4056", size, "1:8:32") as caught:
        trtpoets.build("fixed", flavour=Flavour.RTX, batch=BatchRange(), engines=space.engines)
    assert f"--batch {size}" in caught.value.hint
    if size > 1:
        of_run = replace(BenchConfig(), batches=(1,), wall_seconds=1.0)  # not chosen by the user
        assert _for_fixed_batch(of_run, artefacts_in(space)).batches == (size,)
        with raises(BadInput, "TP8201", f"{size} photos", 3) as caught:
            trtpoets.bench("fixed", BenchConfig(batches=(3,)), engines=space.engines)
        assert caught.value.hint == f"give --batch {size}"
    with raises(BadInput, "TP8202"):
        trtpoets.bundle("fixed", "triton", engines=space.engines)


@pytest.mark.slow
def test_the_real_tensorrt_rtx_builds_it_for_its_batch(space: Workspace) -> None:
    pytest.importorskip("tensorrt_rtx")
    size = batch_of(space)
    engines = trtpoets.build("fixed", flavour=Flavour.RTX, workspace_mib=64, engines=space.engines)
    assert {engine.card.batch for engine in engines} == {BatchRange(size, size, size)}
    assert f"--batch {size}:{size}:{size}" in engines[0].card.command


def test_a_bundle_classifies_with_the_batch(space: Workspace, tmp_path: Path) -> None:
    trtpoets.bundle("fixed", "onnxruntime", out=tmp_path / "bundle", engines=space.engines)
    assert f"uint8 `({batch_of(space)}, 16, 16, 3)`" in (tmp_path / "bundle" / "README.md").read_text()
    result = subprocess.run(
        [sys.executable, "selftest.py"], cwd=tmp_path / "bundle", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_bench_measures_the_batch(space: Workspace) -> None:
    config = BenchConfig(min_seconds=0.05, min_count=5, rounds=2, max_seconds=5.0)
    result = trtpoets.bench("fixed", config, engines=space.engines)
    assert {row.batch for row in result.measurements} == {batch_of(space)}
    assert result.measurements and not any(row.fault for row in result.measurements)
