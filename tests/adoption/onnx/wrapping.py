"""Wraps ONNX files for tests, and compares the scores with those of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.adoption.onnx.networks import SIDE
from trtpoets.adoption.contract import UNIT, Contract, Geometry, Pixels
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.core.onnx_file import open_session, read_onnx
from trtpoets.core.original import Channels, Original, classes_of, scores_from_output, values_from_photos
from trtpoets.core.types import ModelSpec
from trtpoets.device.original_onnx import OnnxNetwork

GRAY = Pixels((1 / 255,) * 3, (0.0,) * 3, Channels.GRAY, "0..1")


def spec_for(foreign: ForeignModel, pixels: Pixels = UNIT, side: int = SIDE) -> ModelSpec:
    preprocess = Contract(pixels, Geometry()).preprocess(foreign.height or side, foreign.width or side)
    original = Original(
        foreign.format,
        foreign.path.name,
        foreign.sha256,
        foreign.clues.writer,
        foreign.input,
        foreign.output,
        pixels.channels,
    )
    labels = tuple(f"class {index}" for index in range(classes_of(foreign.output)))
    return ModelSpec("adopted", "onnx", preprocess, labels, foreign.sha256, original)


def largest_difference(path: Path, out: Path, pixels: Pixels = UNIT, count: int = 5) -> float:
    """Wrap a file; return the largest difference of its scores from those of the file for random photos."""
    foreign = read_onnx_classifier(path)
    spec = spec_for(foreign, pixels)
    wrapped, _ = fp32_from_onnx(foreign, spec, out)
    assert read_onnx(out).spec == spec
    size = (spec.preprocess.height, spec.preprocess.width)
    photos = np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    assert spec.original is not None
    with OnnxNetwork(path, foreign.input, foreign.output, threads=1) as network:
        raw = network.infer(values_from_photos(photos, spec.preprocess, pixels.channels))
    assert raw.shape == (count, foreign.output.size)
    assert raw.dtype == foreign.output.dtype
    expected = scores_from_output(raw, foreign.output)
    session = open_session(wrapped.path, 1)
    (given,) = session.run(["scores"], {"photos": photos})
    assert given.shape == (count, len(spec.labels))
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    assert count == 1 or np.max(expected.std(axis=0)) > 1e-4, "the photos make no difference"
    return float(np.abs(given - expected).max())
