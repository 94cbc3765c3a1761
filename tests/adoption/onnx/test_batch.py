"""A fixed batch becomes dynamic where the results prove it equivalent, and stays fixed or is refused otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference, spec_for
from tests.support.errors import raises
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.onnx_metadata import fixed_batch


def halves(net: Foreign, batch: int) -> str:
    """The photos of a batch in two halves, each by its own node: the batch can't be derived."""
    size = net.constant(np.array([batch // 2, batch // 2]))
    outputs = ["first", "second"]
    net.op("Split", "input", size, outputs=outputs, axis=0)
    return net.op("Concat", *(net.op("Abs", name) for name in outputs), axis=0)


def first_photo(net: Foreign, batch: int) -> str:
    """The photo without the axis of the batch, as some exporters write a batch of 1."""
    photo = net.op("Gather", "input", net.constant(np.array(0)), axis=0)
    return net.op("Unsqueeze", photo, net.constant(np.array([0])))


@pytest.mark.parametrize(("build", "batch"), [(first_photo, 1), (halves, 4), (halves, 64)])
def test_a_batch_that_cannot_be_made_dynamic_stays_fixed(
    tmp_path: Path, build: Callable[[Foreign, int], str], batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    net = Foreign()
    net.op("Identity", net.logits(build(net, batch)), outputs=["output"])
    path = saved(net.model([image((batch, 3, SIDE, SIDE))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    for count in (1, 5):
        assert largest_difference(path, tmp_path / "fp32.onnx", count=count) < 1e-5
    assert fixed_batch(tmp_path / "fp32.onnx") == batch
    assert f"the batch of a.onnx stays fixed at {batch}, because it can't be made dynamic" in caplog.text
    sizes = [value.type.tensor_type.shape.dim[0].dim_value for value in onnx.load(tmp_path / "fp32.onnx").graph.output]
    assert sizes == [batch]


def test_a_batch_of_one_in_a_file_that_claims_any_is_an_error(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits(first_photo(net, 1)), outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    with raises(ConversionFailed, "TP9260", "1"):
        fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")


def test_batch_that_mixes_photos_is_an_error(tmp_path: Path) -> None:
    net = Foreign()
    x = net.op("Sub", "input", net.op("ReduceMean", "input", axes=[0], keepdims=1))
    net.op("Identity", net.logits(x), outputs=["output"])
    path = saved(net.model([image((4, 3, SIDE, SIDE))], [scores((4, CLASSES))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    with raises(ConversionFailed, "TP9260", "a.onnx", "other photos"):
        fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")
