"""`inspect` of files of other programs: invalid ONNX files, external weights, files of other frameworks."""

from __future__ import annotations

import gzip
import json
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import trtpoets
from tests.core.test_file_kinds import KINDS, POINTER
from tests.support.errors import raises
from tests.support.foreign_onnx import external
from tests.support.fuzz_files import damaged_bytes
from tests.support.tflite_files import tflite_classifier
from tests.support.tiny import tiny_graph
from trtpoets.convert.graph.onnx_facts import WorkFacts, facts_of_onnx
from trtpoets.convert.int8.tensorrt_cache import read_cache
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import read_json
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.tflite_file import read_tflite
from trtpoets.device.build.foreign_engine import engine_from_file
from trtpoets.pipeline.inspect_foreign import OtherFacts
from trtpoets.reporting.tables.inspection import inspection_parts
from trtpoets.reporting.tables.results import print_json, print_table
from trtpoets.train.backbones import BACKBONES
from trtpoets.train.weight_files import load_weights

MICROSOFT = helper.make_opsetid("com.microsoft", 1)
STANDARD = helper.make_opsetid("", 17)


def saved_graph(path: Path, nodes: list[Any], opsets: Any = (STANDARD, MICROSOFT), **given: Any) -> Path:
    """A graph of `nodes` from "x" (1, 3, 8, 8) to "y", with the constants in `given`."""
    constants = [numpy_helper.from_array(value, name) for name, value in given.pop("constants", {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        given.pop("inputs", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]),
        given.pop("outputs", [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]),
        constants,
    )
    model = helper.make_model(graph, opset_imports=list(opsets), ir_version=given.pop("ir_version", 8))
    path.write_bytes(model.SerializeToString())
    return path


def shown_of(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    inspection = trtpoets.inspect(path)
    print_json(inspection)
    assert json.loads(capsys.readouterr().out)["kind"] == inspection.kind
    print_table("inspection", inspection)
    return " ".join(capsys.readouterr().out.split())


def test_a_plugin_operator_is_described_with_the_checker_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"w": np.zeros((4, 3, 3, 3), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("EfficientNMS_TRT", ["c"], ["y"])]
    path = saved_graph(tmp_path / "x.onnx", nodes, constants=weights)
    facts = facts_of_onnx(path)
    assert facts.not_counted == {"EfficientNMS_TRT": 1}
    assert facts.multiply_adds == 4 * 6 * 6 * 27
    assert any("EfficientNMS_TRT" in complaint for complaint in facts.complaints)
    output = shown_of(path, capsys)
    assert "1 EfficientNMS_TRT" in output and "Errors of ONNX's checker" in output
    with raises(TrtPoetsError, "TP1038"):
        check_onnx(path)


def test_unknown_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    untyped = onnx.ValueInfoProto(name="y")
    path = saved_graph(tmp_path / "x.onnx", [helper.make_node("Relu", ["x"], ["y"])], inputs=[value], outputs=[untyped])
    facts = facts_of_onnx(path)
    assert (facts.inputs[0].shape, facts.outputs[0].dtype, facts.outputs[0].shape) == (None, "unknown", None)
    assert facts.complaints
    assert "x: fp32, of unknown shape" in shown_of(path, capsys)


@pytest.mark.parametrize(
    ("operator", "inputs", "constants", "cost", "kind"),
    [
        ("FusedConv", ["x", "w"], {"w": np.zeros((4, 3, 3, 3), np.float32)}, 4 * 36 * 27, "fp32"),
        ("FusedMatMul", ["x", "w"], {"w": np.zeros((8, 5), np.float32)}, 3 * 8 * 5 * 8, "fp32"),
        (
            "QLinearConv",
            ["x", "s", "z", "w", "s", "z", "s", "z"],
            {"w": np.zeros((4, 3, 3, 3), np.int8), "s": np.ones((), np.float32), "z": np.zeros((), np.int8)},
            4 * 36 * 27,
            "int8",
        ),
    ],
)
def test_fused_operators_are_counted(
    tmp_path: Path, operator: str, inputs: list[str], constants: dict[str, np.ndarray], cost: int, kind: str
) -> None:
    domain = "" if operator == "QLinearConv" else "com.microsoft"
    extra = {"activation": "Relu"} if operator == "FusedConv" else {}
    nodes = [
        helper.make_node(operator, inputs, ["c"], domain=domain, **extra),
        helper.make_node("QuickGelu", ["c"], ["y"], domain="com.microsoft"),
        helper.make_node("NhwcMaxPool", ["c"], ["p"], domain="com.microsoft"),
    ]
    number = TensorProto.INT8 if kind == "int8" else TensorProto.FLOAT
    inputs_told = [helper.make_tensor_value_info("x", number, [1, 3, 8, 8])]
    path = saved_graph(tmp_path / "x.onnx", nodes, constants=constants, inputs=inputs_told)
    facts = facts_of_onnx(path)
    assert facts.work == {kind: WorkFacts(1, cost)}
    assert (facts.sizes_unknown, facts.not_counted) == (0, {"com.microsoft.NhwcMaxPool": 1})


def test_subgraphs_other_domains_and_old_formats(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    nodes = [
        helper.make_node("If", ["flag"], ["c"], then_branch=body, else_branch=body),
        helper.make_node("Normalizer", ["c"], ["y"], domain="ai.onnx.ml"),
        helper.make_node("Frob", ["y"], ["z"], domain="nobody"),
    ]
    for ir_version, opsets in ((3, [helper.make_opsetid("", 7)]), (10, [STANDARD, helper.make_opsetid("other", 9)])):
        path = saved_graph(tmp_path / "x.onnx", nodes, opsets, ir_version=ir_version)
        facts = facts_of_onnx(path)
        assert facts.not_counted == {"MatMul": 2, "If": 1, "ai.onnx.ml.Normalizer": 1, "nobody.Frob": 1}
        assert facts.operators["MatMul"] == 2 and facts.complaints and facts.ir_version == ir_version


def test_damaged_onnx_files_are_described_or_raise_trtpoets_errors(tmp_path: Path) -> None:
    path = external(tmp_path)
    sources = (tiny_graph().SerializeToString(), path.read_bytes())
    described = 0
    for seed in (*range(200), 238, 1009):
        path.write_bytes(damaged_bytes(random.Random(seed), sources[seed % 2]))
        try:
            inspection_parts(trtpoets.inspect(path))
        except TrtPoetsError as error:
            assert error.message and error.hint, seed
        else:
            described += 1
    assert described > 10


def test_sequences_and_maps(tmp_path: Path) -> None:
    outputs = [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)]
    path = saved_graph(tmp_path / "x.onnx", [helper.make_node("SequenceConstruct", ["x"], ["y"])], outputs=outputs)
    (out,) = facts_of_onnx(path).outputs
    assert (out.dtype, out.shape) == ("sequence", None)


def test_external_weights_are_listed_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = external(tmp_path)
    inside = tmp_path / "inside.onnx"
    onnx.save(tiny_graph(), str(inside))
    facts, whole = facts_of_onnx(path), facts_of_onnx(inside)
    assert (facts.parameters, facts.multiply_adds, facts.complaints) == (whole.parameters, whole.multiply_adds, ())
    assert [(item.location, item.bytes, item.problem) for item in facts.external] == [("net.onnx.data", 968, "")]
    assert "net.onnx.data, 968 bytes: 4 tensors" in shown_of(path, capsys)
    (tmp_path / "net.onnx.data").unlink()
    assert "the weights file net.onnx.data is missing" in shown_of(path, capsys)


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"empty", "engine", "json", "calibration-cache", "text"}))
def test_files_of_other_programs_are_described(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("engine", "onnx", "h5"):
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(KINDS[name][0])
        inspection = trtpoets.inspect(path)
        assert (inspection.kind, inspection.of_ours) == (name, False)
        assert isinstance(inspection.facts, OtherFacts)
        assert inspection.facts.words in shown_of(path, capsys)


def test_an_engine_of_ultralytics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = json.dumps({"description": "Ultralytics YOLO11n-cls", "names": {"0": "daisy"}, "batch": 1}).encode()
    plan = struct.pack("<4sIQQ4B", b"ftrt", 0, 2, 500, 10, 3, 0, 30).ljust(500, b"\0")
    path = tmp_path / "yolo.engine"
    path.write_bytes(len(metadata).to_bytes(4, "little") + metadata + plan)
    output = shown_of(path, capsys)
    assert "Ultralytics YOLO11n-cls" in output and "tensorrt 10.3.0.30" in output
    assert f"tail -c +{len(metadata) + 5} " in output
    assert path.read_bytes()[len(metadata) + 4 :] == plan
    with raises(TrtPoetsError, "TP1011", "an engine preceded by Ultralytics' JSON metadata"):
        engine_from_file(path)


def test_a_saved_model_is_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "saved_model.pb").write_bytes(KINDS["saved-model"][0])
    assert "a TensorFlow SavedModel (a folder)" in shown_of(tmp_path / "net", capsys)
    # A folder with one classifier stands for it.
    assert "a TensorFlow SavedModel (a folder)" in shown_of(tmp_path, capsys)


def test_a_keras_file_names_its_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"name": "cat_or_dog"}}))
        archive.writestr("model.weights.h5", b"")
    output = shown_of(path, capsys)
    assert "Keras 3.5.0" in output and "Functional cat_or_dog" in output


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (POINTER.encode(), "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (gzip.compress(b"net", mtime=0), "gzip"),
    ],
)
def test_every_reader_gives_the_same_answer(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    weights = tmp_path / "x.h5"
    weights.write_bytes(content)
    backbone = next(iter(BACKBONES.values()))
    readers: list[Any] = [check_onnx, engine_from_file, read_cache, read_json, read_tflite]
    readers += [lambda file: trtpoets.build(str(file)), lambda file: trtpoets.plan_build(str(file))]
    readers.append(lambda file: load_weights(weights, backbone, ()))
    for read in readers:
        with pytest.raises(TrtPoetsError) as caught:
            read(path)
        if caught.value.code != "TP8009":  # no TensorRT library can build on this machine
            assert caught.value.code in ("TP1011", "TP2081") and kind in caught.value.message


def test_a_tflite_file_of_another_program_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tflite_classifier(dtype="int8", zero_point=-128).write(tmp_path / "net.tflite")
    (tmp_path / "labels.txt").write_text("ant\nbee\ncow\ndog\n")
    output = shown_of(path, capsys)
    for part in (
        *("written by made by a test", "input photo: int8 (1, 8, 8, 3)", "output scores: int8 (1, 4)"),
        *("labels ant, bee, cow, dog", "labels from labels.txt beside the file", "scale 0.00392157, zero point -128"),
        *("adoption nothing in the file forbids it", "CONV_2D 1", "next make a run of it"),
    ):
        assert part in output
    print_json(trtpoets.inspect(path))
    network = json.loads(capsys.readouterr().out)["facts"]["network"]
    assert network["inputs"] == [{"name": "photo", "dtype": "int8", "shape": [1, 8, 8, 3]}]
    assert network["labels"] == ["ant", "bee", "cow", "dog"]


def test_a_network_that_is_refused_has_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert")
    file = tflite_classifier()
    file.outputs = [*file.outputs, file.inputs[0]]
    output = shown_of(file.write(tmp_path / "net.tflite"), capsys)
    assert "adoption refused: " in output and "next give a classifier" in output


def test_weights_without_a_network_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.create_dataset("kernel", data=np.zeros(3, np.float32))
    assert "weights without an architecture" in shown_of(tmp_path / "w.h5", capsys)
