"""The constants at the beginning of a graph determine the pixels that it takes, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.onnx.networks import SIDE, Foreign, image, saved, scores
from trtpoets.adoption.contract import IMAGENET, RAW, SIGNED, UNIT, Pixels
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.original import Channels, Source

Build = Callable[[Foreign], str]


def channels(*values: float) -> np.ndarray:
    return np.array(values).reshape(1, 3, 1, 1)


def applied(*steps: tuple[str, object]) -> Build:
    def build(net: Foreign) -> str:
        tensor = "input"
        for operator, constant in steps:
            tensor = net.op(operator, tensor, net.number(constant))
        return tensor

    return build


def reversed_first(net: Foreign) -> str:
    bgr = net.op("Gather", "input", net.constant(np.array([2, 1, 0])), axis=1)
    return net.op("Sub", bgr, net.number(channels(103.939, 116.779, 123.68)))


def reversed_by_slice(net: Foreign) -> str:
    numbers = [net.constant(np.array([value])) for value in (-1, np.iinfo(np.int64).min, 1, -1)]
    return net.op("Sub", net.op("Slice", "input", *numbers), net.number(channels(103.939, 116.779, 123.68)))


def reversed_by_concat(net: Foreign) -> str:
    net.op("Split", "input", outputs=["r", "g", "b"], axis=1)
    bgr = net.op("Concat", "b", "g", "r", axis=1)
    return net.op("Sub", bgr, net.number(channels(103.939, 116.779, 123.68)))


def statistics(mean: float, std: float) -> Build:
    def build(net: Foreign) -> str:
        values = [[0.9, 1.0, 1.1], [0.1] * 3, [mean * 0.9, mean, mean * 1.1], [std**2] * 3]
        return net.op("BatchNormalization", "input", *map(net.number, values))

    return build


def branched(net: Foreign) -> str:
    return net.op("Add", net.op("Div", "input", net.number(255)), net.op("Relu", "input"))


NOTHING: list[Build] = [
    applied(),
    applied(("Mul", 1.0)),
    applied(("Add", 0.5)),
    applied(("Mul", 3.0)),
    applied(("Div", channels(0.229, 0.224, 0.225))),
    statistics(0.0, 1.0),
    branched,
]

FIXED: dict[str, tuple[Build, Pixels, Channels]] = {
    "divided by 255": (applied(("Div", 255)), RAW, Channels.RGB),
    "Rescaling": (applied(("Mul", 1 / 255), ("Add", 0.0)), RAW, Channels.RGB),
    "-1..1": (applied(("Div", 127.5), ("Sub", 1)), RAW, Channels.RGB),
    "minus 128": (applied(("Sub", 128), ("Mul", 1 / 128)), RAW, Channels.RGB),
    "MATLAB": (applied(("Sub", channels(125.3, 122.9, 113.9))), RAW, Channels.RGB),
    "MATLAB, mean image": (
        applied(("Sub", np.random.default_rng(0).normal(120, 9, (1, 3, SIDE, SIDE)))),
        RAW,
        Channels.RGB,
    ),
    "Caffe": (applied(("Sub", channels(104, 117, 123))), RAW, Channels.BGR),
    "Caffe, RGB": (applied(("Sub", channels(123.68, 116.779, 103.939))), RAW, Channels.RGB),
    "Keras caffe mode": (reversed_first, RAW, Channels.RGB),
    "Slice": (reversed_by_slice, RAW, Channels.RGB),
    "Concat": (reversed_by_concat, RAW, Channels.RGB),
    "ImageNet of 0..255": (
        applied(("Div", 255), ("Sub", channels(0.485, 0.456, 0.406)), ("Div", channels(0.229, 0.224, 0.225))),
        RAW,
        Channels.RGB,
    ),
    "ImageNet of 0..1": (
        applied(("Sub", channels(0.485, 0.456, 0.406)), ("Div", channels(0.229, 0.224, 0.225))),
        UNIT,
        Channels.RGB,
    ),
    "0..1 to -1..1": (applied(("Mul", 2), ("Sub", 1)), UNIT, Channels.RGB),
    "0..1 to 0..255": (
        applied(
            ("Mul", 255),
        ),
        UNIT,
        Channels.RGB,
    ),
    "-1..1 to 0..255": (applied(("Add", 1), ("Mul", 127.5)), SIGNED, Channels.RGB),
    "statistics of 0..255": (statistics(120, 60), RAW, Channels.RGB),
    "statistics of 0..1": (statistics(0.45, 0.22), UNIT, Channels.RGB),
}


def classifier(path: Path, build: Build) -> Path:
    net = Foreign(13)
    net.op("Identity", net.logits(build(net)), outputs=["output"])
    return saved(net.model([image()], [scores()]), path)


@pytest.mark.parametrize("index", range(len(NOTHING)))
def test_usual_networks_fix_nothing(tmp_path: Path, index: int) -> None:
    assert read_onnx_classifier(classifier(tmp_path / "a.onnx", NOTHING[index])).fixed is None


@pytest.mark.parametrize("name", FIXED)
def test_normalisation_inside_the_graph(tmp_path: Path, name: str) -> None:
    build, pixels, order = FIXED[name]
    fixed = read_onnx_classifier(classifier(tmp_path / "a.onnx", build)).fixed
    assert fixed is not None
    assert fixed.pixels == Pixels(pixels.scale, pixels.offset, order, pixels.name)
    assert (fixed.evidence.about, fixed.evidence.source) == ("pixels", Source.GRAPH)
    assert pixels.name in fixed.evidence.text
    assert "the graph begins with" in fixed.evidence.text
    known = name in ("Caffe", "Caffe, RGB", "Keras caffe mode", "Slice", "Concat") or name.startswith("ImageNet")
    assert ("are those of ImageNet in" in fixed.evidence.text) == known


def transform_input(net: Foreign, std: float = 0.229) -> str:
    """As torchvision's Inception v3 and GoogLeNet begin."""
    channels = []
    for index, (mean, deviation) in enumerate(((0.485, std), (0.456, 0.224), (0.406, 0.225))):
        channel = net.op("Gather", "input", net.constant(np.array(index)), axis=1)
        channel = net.op("Unsqueeze", channel, net.constant(np.array([1])))
        scaled = net.op("Mul", channel, net.number(deviation / 0.5))
        channels.append(net.op("Add", scaled, net.number((mean - 0.5) / 0.5)))
    return net.op("Concat", *channels, axis=1)


def test_the_input_of_torchvisions_inception_has_the_statistics_of_imagenet(tmp_path: Path) -> None:
    fixed = read_onnx_classifier(classifier(tmp_path / "a.onnx", transform_input)).fixed
    assert fixed is not None and fixed.pixels == IMAGENET
    assert "torchvision's transform_input" in fixed.evidence.text
    assert read_onnx_classifier(classifier(tmp_path / "b.onnx", lambda net: transform_input(net, 0.5))).fixed is None
