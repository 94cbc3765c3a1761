"""What is known about a network without running it: producer, labels, conventions."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.adoption.description import by_number, known_about, model_of
from trtpoets.adoption.foreign import Clues
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.original import Format, Layout

SCORES = TensorFacts("final_result", "fp32", (None, 2))


def image(*shape: int | None) -> TensorFacts:
    return TensorFacts("input", "fp32", shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 128, 96, 3), (128, 96, 3, Layout.NHWC)),
        ((None, 1, 28, 28), (28, 28, 1, Layout.NCHW)),
        ((None, None, None, 3), (0, 0, 3, Layout.NHWC)),
    ],
)
def test_images(shape: tuple[int | None, ...], expected: tuple[int, int, int, Layout]) -> None:
    model = model_of(Path("net.pb"), Format.GRAPH_DEF, image(*shape), SCORES, 2, Clues())
    assert model is not None
    assert (model.height, model.width, model.channels, model.input.layout) == expected


@pytest.mark.parametrize("shape", [(1, 3), (1, 8, 8, 4), ()])
def test_other_inputs(shape: tuple[int, ...]) -> None:
    assert model_of(Path("net.pb"), Format.GRAPH_DEF, image(*shape), SCORES, 2, Clues()) is None


def test_labels_and_conventions(tmp_path: Path) -> None:
    (tmp_path / "retrained_labels.txt").write_text("daisy\nrose\n")
    clues = Clues(nodes=("input", "MobilenetV1/Conv2d_0", "final_result"))
    model = model_of(tmp_path / "net.pb", Format.GRAPH_DEF, image(1, 128, 128, 3), SCORES, 2, clues)
    producer, labels, where, sentences = known_about(model, ["first"])
    assert (producer, labels) == ("retrain.py of TensorFlow for Poets", ("daisy", "rose"))
    assert where == "retrained_labels.txt beside the file"
    assert sentences[0] == "first" and "its files take -1..1, RGB" in sentences[1]
    (tmp_path / "retrained_labels.txt").write_text("daisy\n")
    _, labels, where, _ = known_about(model)
    assert labels == () and "has 1 label" in where
    assert known_about(None, ["first"]) == ("", (), "", ("first",))


def test_numbers_of_names() -> None:
    assert list(by_number(["b", "c", "a", "c"]).items()) == [("c", 2), ("a", 1), ("b", 1)]
