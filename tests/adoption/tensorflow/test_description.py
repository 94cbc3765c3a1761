"""Frozen graphs and SavedModels are described by their protobufs, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.adoption.tensorflow.networks import SIDE, graph, inception_graph, retrain_graph, weights, written
from tests.adoption.tensorflow.reading import classifier
from trtpoets.adoption.tensorflow.description import facts_of_graph_def, facts_of_saved_model
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # importing it takes seconds of each worker of the tests
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_a_frozen_graph(tmp_path: Path) -> None:
    (tmp_path / "retrained_labels.txt").write_text("ant\nbee\ncow\n")
    facts = facts_of_graph_def(written(retrain_graph(), tmp_path / "graph.pb"))
    assert facts.inputs == (TensorFacts("input", "fp32", (1, SIDE, SIDE, 3)),)
    assert facts.outputs == (TensorFacts("final_result", "fp32", (None, 3)),)
    assert facts.operators["Conv2D"] == facts.operators["DepthwiseConv2dNative"] == 1
    assert facts.labels == ("ant", "bee", "cow")
    assert "HistogramSummary" not in facts.operators
    own = 3 * 3 * 3 * 6 + 3 * 3 * 6 + 4 * 6 + 6 * 3 + 3
    assert facts.weights == {"fp32": own}
    assert facts.refused == ""


def test_scaling_in_a_graph(tmp_path: Path) -> None:
    build = classifier(lambda v1, value: v1.multiply(v1.subtract(value, 127.5), 1 / 127.5), name="photo")
    (sentence,) = facts_of_graph_def(written(build, tmp_path / "graph.pb")).preprocessing
    assert sentence == "the graph begins with Sub 127.5, Mul 0.00784314 behind photo"
    facts = facts_of_graph_def(written(inception_graph(), tmp_path / "inception.pb"))
    assert facts.inputs == (TensorFacts("DecodeJpeg/contents", "string", ()),)
    assert facts.preprocessing[0].startswith("the graph begins with DecodeJpeg, Cast, ExpandDims")


def test_several_outputs(tmp_path: Path) -> None:
    def build(v1: object) -> None:
        photo = v1.placeholder("float32", [None, SIDE, SIDE, 3], name="photo")  # type: ignore[attr-defined]
        for name in ("a", "b"):
            v1.nn.relu(photo, name=name)  # type: ignore[attr-defined]

    facts = facts_of_graph_def(written(graph(build), tmp_path / "graph.pb"))
    assert facts.refused == "it has 2 outputs (a, b); a classifier has one"


def test_a_saved_model(tmp_path: Path) -> None:
    tf = tensorflow()
    module = tf.Module()
    module.kernel, module.unused = tf.Variable(weights(3, 3, 3, 6)), tf.Variable(weights(99))
    module.head = tf.Variable(weights(6, 2))

    def serve(photo: object) -> dict[str, object]:
        value = tf.nn.relu(tf.nn.conv2d(photo, module.kernel, 2, "SAME"))
        return {"scores": tf.nn.softmax(tf.reduce_mean(value, (1, 2)) @ module.head)}

    specification = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="photo")
    module.serve = tf.function(serve, input_signature=[specification], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "net"), signatures={"serving_default": module.serve})
    facts = facts_of_saved_model(tmp_path / "net")
    assert facts.inputs == (TensorFacts("photo", "fp32", (None, SIDE, SIDE, 3)),)
    assert facts.outputs == (TensorFacts("scores", "fp32", (None, 2)),)
    assert facts.producer == f"tensorflow {tf.__version__}"
    assert facts.operators["Conv2D"] == facts.operators["Softmax"] == 1
    assert facts.weights == {"fp32": 3 * 3 * 3 * 6 + 6 * 2}, "only those that the signature needs"
    program = (
        "import sys; from pathlib import Path; from trtpoets.adoption.tensorflow.description import *; "
        "facts_of_saved_model(Path(sys.argv[1])); assert not {'tensorflow', 'keras', 'google'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "net")], check=True)


def test_cycles(tmp_path: Path) -> None:
    definition = retrain_graph()
    nodes = {node.name: node for node in definition.node}
    (reader,) = (node for node in definition.node if "input" in node.input)
    reader.op = "Identity"
    reader.input[:] = ["input", "input_1/BottleneckInputPlaceholder"]
    nodes["Wx_plus_b/add/y"].op = "Identity"
    nodes["Wx_plus_b/add/y"].input.append("Wx_plus_b/add/y")
    for node in (reader, nodes["features"]):
        node.input.append(node.name)
    facts = facts_of_graph_def(written(definition, tmp_path / "graph.pb"))
    assert facts.inputs[0].name == "input" and facts.outputs[0].shape is None


@pytest.mark.parametrize("content", [b"\x12\x00", b"\x0a\xff", b"\x08\x01\x12\x02\x12\x00", b"\x0a\x02\x0a\x00"])
def test_damaged_protobufs(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    for read, path in ((facts_of_saved_model, tmp_path), (facts_of_graph_def, tmp_path / "saved_model.pb")):
        try:
            facts = read(path)
        except ValueError:
            continue
        assert facts.inputs == ()
