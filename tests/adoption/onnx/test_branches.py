"""If nodes whose condition is the same for all photos are replaced by the branch that is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference
from tests.support.errors import raises
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.errors import BadArtefact


def branch(name: str, factor: float, source: str = "logits", *extra: Any) -> Any:
    """A graph that multiplies a tensor of the outer graph by a constant of its own."""
    nodes = [
        helper.make_node(
            "Constant", [], ["factor"], name="/factor", value=numpy_helper.from_array(np.float32(factor), "v")
        ),
        helper.make_node("Mul", [source, "factor"], ["product"], name="/product"),
        *extra,
    ]
    end = extra[-1].output[0] if extra else "product"
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(end, 1, None)])


def choice(net: Foreign, condition: str, then: Any, other: Any, output: str = "output") -> None:
    net.op("If", condition, outputs=[output], then_branch=then, else_branch=other)


def written(net: Foreign, path: Path, shape: tuple[Any, ...] = ("N", 3, SIDE, SIDE)) -> Path:
    return saved(net.model([image(shape)], [scores(None)]), path)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def with_logits() -> Foreign:
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["logits"])
    return net


@pytest.mark.parametrize("training", [False, True])
def test_a_constant_condition(tmp_path: Path, training: bool) -> None:
    """As tf2onnx writes the learning phase of Keras."""
    net = with_logits()
    choice(net, net.constant(np.bool_(training)), branch("then", 3), branch("else", 0.5))
    assert largest_difference(written(net, tmp_path / "a.onnx"), tmp_path / "fp32.onnx") < 1e-5
    assert "If" not in operators(tmp_path / "fp32.onnx")


@pytest.mark.parametrize("shape", [(1, 3, SIDE, SIDE), ("N", 3, SIDE, SIDE), ("N", 3, "H", "W")])
def test_a_comparison_of_a_shape(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    """As torch.onnx.export writes squeeze(-1): the size is compared with 1 at run time."""
    net = Foreign()
    pooled = net.op("GlobalAveragePool", net.op("Relu", net.op("Conv", "input", net.number(net.random.normal(
        0, 0.3, (8, 3, 3, 3))))))  # fmt: skip
    net.op("Identity", pooled, outputs=["pooled"])
    size = net.op("Gather", net.op("Shape", "pooled"), net.constant(np.int64(-1)), axis=0)
    condition = net.op("Equal", size, net.constant(np.int64(1)))
    axes = net.constant(np.array([-1]))
    squeezed = helper.make_node("Squeeze", ["pooled", axes], ["squeezed"], name="/squeezed")
    unchanged = helper.make_node("Identity", ["pooled"], ["unchanged"])
    ends = [helper.make_tensor_value_info(name, 1, None) for name in ("squeezed", "unchanged")]
    choice(
        net,
        condition,
        helper.make_graph([squeezed], "then", [], ends[:1]),
        helper.make_graph([unchanged], "else", [], ends[1:]),
        "chosen",
    )
    net.op("Gemm", net.op("Flatten", "chosen"), net.number(net.random.normal(0, 1, (8, CLASSES))), outputs=["output"])
    path = written(net, tmp_path / "a.onnx", shape)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    assert "If" not in operators(tmp_path / "fp32.onnx")


def test_nested_branches_with_equal_names(tmp_path: Path) -> None:
    """Both branches, and the inner ones, use the same names for their tensors."""
    net = with_logits()
    yes = net.constant(np.bool_(True))
    inner = helper.make_node(
        "If",
        [yes],
        ["inner"],
        name="/inner",
        then_branch=helper.make_graph(
            [helper.make_node("Add", ["product", "product"], ["sum"], name="/sum")],
            "inner_then",
            [],
            [helper.make_tensor_value_info("sum", 1, None)],
        ),
        else_branch=helper.make_graph(
            [helper.make_node("Neg", ["product"], ["sum"], name="/sum")],
            "inner_else",
            [],
            [helper.make_tensor_value_info("sum", 1, None)],
        ),
    )
    choice(net, yes, branch("then", 3, "logits", inner), branch("else", 2), "first")
    choice(net, yes, branch("then", 0.4, "first"), branch("else", 2, "first"))
    assert largest_difference(written(net, tmp_path / "a.onnx"), tmp_path / "fp32.onnx") < 1e-5
    assert "If" not in operators(tmp_path / "fp32.onnx")


def refuse(path: Path, *values: str) -> None:
    """Assert that the control flow in a file is refused, with these values in the message."""
    with raises(BadArtefact, "TP9224", path, *values) as caught:
        read_onnx_classifier(path)
    assert caught.value.hint


def test_a_condition_on_the_photo_is_refused_with_its_node(tmp_path: Path) -> None:
    net = with_logits()
    choice(
        net, net.op("Greater", net.op("ReduceMax", "logits", keepdims=0), net.number(0)), branch("a", 1), branch("b", 2)
    )
    refuse(written(net, tmp_path / "a.onnx"), "If /output/If", "values of the photos")


def test_a_condition_on_a_shape_that_depends_on_the_photo_is_refused(tmp_path: Path) -> None:
    net = with_logits()
    count = net.op("Size", net.op("NonZero", net.op("Relu", "logits")))
    choice(net, net.op("Greater", count, net.constant(np.int64(2))), branch("a", 1), branch("b", 2))
    refuse(written(net, tmp_path / "a.onnx"), "values of the photos")


def test_a_condition_on_the_number_of_photos_is_refused(tmp_path: Path) -> None:
    net = with_logits()
    size = net.op("Gather", net.op("Shape", "input"), net.constant(np.int64(0)), axis=0)
    choice(net, net.op("Equal", size, net.constant(np.int64(1))), branch("a", 1), branch("b", 2))
    refuse(written(net, tmp_path / "a.onnx"), "number of photos")


def test_a_loop_is_refused_with_its_node(tmp_path: Path) -> None:
    net = with_logits()
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "carried"], ["next"]),
            helper.make_node("Identity", ["condition"], ["again"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", 7, []),
            helper.make_tensor_value_info("condition", 9, []),
            helper.make_tensor_value_info("carried", 1, None),
        ],
        [helper.make_tensor_value_info("again", 9, []), helper.make_tensor_value_info("next", 1, None)],
    )
    net.op("Loop", net.constant(np.int64(2)), net.constant(np.bool_(True)), "logits", outputs=["output"], body=body)
    refuse(written(net, tmp_path / "a.onnx"), "Loop /output/Loop")
