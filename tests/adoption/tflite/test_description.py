"""TFLite files are described by their contents, also those that are no classifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tflite_files import tflite_classifier
from trtpoets.adoption.tflite.description import facts_of_tflite
from trtpoets.convert.graph.onnx_facts import TensorFacts

pytest.importorskip("ai_edge_litert")


def test_a_float_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("ant\nbee\ncow\ndog\n")
    facts = facts_of_tflite(tflite_classifier().write(tmp_path / "net.tflite"))
    assert facts.inputs == (TensorFacts("photo", "fp32", (1, 8, 8, 3)),)
    assert facts.outputs == (TensorFacts("scores", "fp32", (1, 4)),)
    assert facts.producer == "made by a test"
    assert facts.operators["CONV_2D"] == facts.operators["SOFTMAX"] == 1
    assert list(facts.weights) == ["fp32"] and facts.weights["fp32"] > 0
    assert facts.labels == ("ant", "bee", "cow", "dog") and facts.refused == ""


def test_an_integer_file(tmp_path: Path) -> None:
    facts = facts_of_tflite(tflite_classifier(dtype="uint8", signature=(-1, 8, 8, 3)).write(tmp_path / "net.tflite"))
    assert facts.inputs == (TensorFacts("photo", "uint8", (None, 8, 8, 3)),)
    assert facts.preprocessing[0] == "the input photo is uint8, scale 0.00392157, zero point 0"
    assert any("its range is 0..1" in sentence for sentence in facts.preprocessing[1:])


def test_another_network(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.outputs = [*file.outputs, file.inputs[0]]
    facts = facts_of_tflite(file.write(tmp_path / "net.tflite"))
    assert "has 2 outputs" in facts.refused
    assert [tensor.name for tensor in facts.outputs] == ["scores", "photo"]
