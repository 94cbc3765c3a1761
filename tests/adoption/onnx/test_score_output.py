"""The output with the scores is found among labels and maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.original import Answers


@pytest.mark.parametrize("after", ["Reshape", "Squeeze", "Identity", "Cast", "Unsqueeze"])
def test_nodes_after_the_softmax(tmp_path: Path, after: str) -> None:
    net = Foreign(13, np.float16 if after == "Cast" else np.float32)
    x = net.op("Softmax", net.op("Unsqueeze", net.logits("input"), net.constant(np.array([2, 3]))), axis=1)
    more = {
        "Reshape": [net.constant(np.array([-1, CLASSES]))],
        "Squeeze": [net.constant(np.array([2, 3]))],
        "Unsqueeze": [net.constant(np.array([1]))],
    }.get(after, [])
    net.op(after, x, *more, outputs=["output"], **({"to": onnx.TensorProto.FLOAT} if after == "Cast" else {}))
    path = saved(net.model([image(dtype=net.dtype)], [scores(None)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.answers, foreign.output.size) == (Answers.PROBABILITIES, CLASSES)
    assert largest_difference(path, tmp_path / "fp32.onnx") < (2e-3 if after == "Cast" else 1e-5)


@pytest.mark.parametrize("kind", ["Azure", "scikit-learn"])
def test_labels_and_maps_as_outputs(tmp_path: Path, kind: str) -> None:
    net = Foreign(8)
    probabilities = net.op("Softmax", net.logits("data"), axis=1)
    names = ["daisy", "rose", "tulip"]
    best = net.op("ArgMax", probabilities, axis=1, keepdims=0)
    label = net.op("LabelEncoder", best, domain="ai.onnx.ml", classes_strings=names, default_string="?")
    if kind == "Azure":
        net.op("Identity", label, outputs=["classLabel"])
    else:
        net.op("Identity", label, outputs=["output_label"])
        probabilities = net.op("Normalizer", probabilities, domain="ai.onnx.ml", norm="L1")
    outputs = ["classLabel", "loss"] if kind == "Azure" else ["output_label", "output_probability"]
    net.op("ZipMap", probabilities, outputs=outputs[1:], domain="ai.onnx.ml", classlabels_strings=names)
    values = [
        onnx.helper.make_tensor_value_info(outputs[0], onnx.TensorProto.STRING, ["N"]),
        onnx.helper.make_value_info(
            outputs[1],
            onnx.helper.make_sequence_type_proto(
                onnx.helper.make_map_type_proto(
                    onnx.TensorProto.STRING, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
                )
            ),
        ),
    ]
    path = saved(net.model([image(("N", 3, SIDE, SIDE), "data")], values), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.output.answers is Answers.PROBABILITIES
    assert foreign.clues.metadata["onnx.outputs"].split() == outputs
    assert foreign.clues.files["labels.txt"].split() == names
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_label_as_the_only_output(tmp_path: Path) -> None:
    net = Foreign()
    net.op("ArgMax", net.logits("input"), outputs=["label"], axis=1, keepdims=0)
    path = saved(net.model([image()], [scores(("N",), "label", np.int64)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.answers, foreign.output.size) == (Answers.LOGITS, CLASSES)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_logits_softmax_and_label_together(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["logits"])
    net.op("Softmax", "logits", outputs=["probabilities"])
    net.op("ArgMax", "logits", outputs=["label"], axis=1, keepdims=0)
    net.op("TopK", "probabilities", net.constant(np.array([2])), outputs=["best", "indices"])
    outputs = [scores(name="logits"), scores(name="probabilities"), scores(("N",), "label", np.int64)]
    outputs += [scores(("N", 2), "best"), scores(("N", 2), "indices", np.int64)]
    path = saved(net.model([image()], outputs), tmp_path / "a.onnx")
    assert read_onnx_classifier(path).output.name == "probabilities"
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-6
