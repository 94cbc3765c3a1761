"""Ranges of activations from histograms."""

import numpy as np
import onnx
import pytest

from tests.support.activations import activations
from trtpoets.convert.int8.activation_stats import GrowingHistogram, activation_statistics
from trtpoets.convert.int8.thresholds import BINS, entropy_threshold, mse_threshold, percentile_threshold
from trtpoets.core.types import OnnxModel, Photo


def test_histograms_count_every_value_of_a_small_map(model: OnnxModel, photos: list[Photo]) -> None:
    (array,) = activations(model, photos, ["project:0"])
    top = float(np.abs(array).max())
    statistics = activation_statistics(
        onnx.load(model.path), ["project:0"], photos, model.spec.preprocess, 2, lambda done: None
    )
    counts = statistics.counts["project:0"]
    assert statistics.ranges["project:0"] == pytest.approx((array.min(), array.max()), abs=1e-5)
    expected, _ = np.histogram(np.abs(array), bins=BINS, range=(0, top))
    assert counts.sum() == pytest.approx(array.size)
    widest = np.max(expected)
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= widest + 3, "values of one fine bin may be divided"


def test_denormal_magnitudes_are_counted() -> None:
    histogram = GrowingHistogram()
    histogram.add(np.array([0.0, 5e-43, -1e-42], np.float32))
    assert histogram.counts.sum() == 3
    assert np.count_nonzero(histogram.counts) == 3
    assert 1e-42 <= histogram.top <= 2e-42


def test_a_histogram_grows_with_the_values() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=(6, 1000))).astype(np.float32)
    values *= np.array([0, 1e-3, 1, 0.5, 40, 3], np.float32)[:, None]
    histogram = GrowingHistogram()
    for part in values:
        histogram.add(part)
    top = float(np.max(values))
    counts = histogram.over(top)
    expected, _ = np.histogram(values, bins=BINS, range=(0, top))
    assert counts.sum() == pytest.approx(values.size)
    assert counts[0] >= 1000, "zeros stay in the first bin, which no method counts"
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= np.max(expected)
    for method in (mse_threshold, lambda c, t: percentile_threshold(c, t, 99.0)):
        assert method(counts, top) == pytest.approx(method(expected, top), rel=0.02)


def test_thresholds_of_known_distributions() -> None:
    uniform = np.full(BINS, 1000)
    assert percentile_threshold(uniform, 4.0, 50.5) == pytest.approx(4.0 * 0.505, rel=1e-3)
    assert percentile_threshold(uniform, 4.0, 100.0) == 4.0
    assert entropy_threshold(uniform, 4.0) > 3.9, "a uniform distribution has no outliers"
    outlier = np.zeros(BINS, np.int64)
    outlier[:200] = np.exp(-np.arange(200) / 40) * 1e6
    outlier[-1] = 1
    assert entropy_threshold(outlier, 1.0) < 0.2, "one value in millions does not justify a ten times larger scale"
    assert mse_threshold(uniform, 4.0) > 3.9
    assert mse_threshold(outlier, 1.0) < 0.3
    assert entropy_threshold(np.array([5] + [0] * (BINS - 1)), 3.0) == 3.0
