"""Nearest neighbours in trees: nearly those that comparing all pairs finds, in much less time."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.train.near_copies import pivot_trees
from trtpoets.train.near_copies.candidates import nearest
from trtpoets.train.near_copies.pivot_trees import nearest_in_trees


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, copies: int, width: int = 32) -> np.ndarray:
    """Photos of 12 kinds; the last `copies` are near-copies of the first ones."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(12, width))
    rows = centres[random.integers(0, 12, count - copies)] + random.normal(size=(count - copies, width))
    return unit(np.concatenate([rows, rows[:copies] + 0.15 * random.normal(size=(copies, width))]))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pivot_trees, "_PART", 100)
    monkeypatch.setattr(pivot_trees, "_PIVOTS", 8)


def test_copies_are_found() -> None:
    rows = clustered(3000, 500)
    indices, values = nearest_in_trees(rows.__getitem__, rows.__getitem__, len(rows), 8)
    found = [original in indices[2500 + original] for original in range(500)]
    assert np.mean(found) >= 0.98
    exact, _ = nearest(rows, rows, 8)
    assert np.mean(exact[:, 0] == indices[:, 0]) > 0.7
    assert (np.diff(values, axis=1) <= 0).all()
    finite = np.isfinite(values)
    assert (indices[finite] != np.repeat(np.arange(3000), 8).reshape(3000, 8)[finite]).all()
    near = (rows[:, None] * rows[indices]).sum(axis=2)
    np.testing.assert_allclose(near[finite], values[finite], atol=1e-5)
    assert all(len(set(line[mask].tolist())) == mask.sum() for line, mask in zip(indices, finite, strict=True))
    again, _ = nearest_in_trees(rows.__getitem__, rows.__getitem__, len(rows), 8)
    assert np.array_equal(again, indices)


def test_other_vectors_than_those_of_the_photos() -> None:
    rows = clustered(1500, 0)
    others = np.roll(rows, -1, axis=0)  # the neighbour of photo n is photo n - 1
    indices, values = nearest_in_trees(rows.__getitem__, others.__getitem__, len(rows), 2)
    assert (indices[1:, 0] == np.arange(1499)).mean() == 1
    assert values[5, 0] == pytest.approx(1)


def test_photos_that_are_all_alike() -> None:
    rows = unit(np.ones((2000, 4)))
    _, values = nearest_in_trees(rows.__getitem__, rows.__getitem__, len(rows), 3)
    np.testing.assert_allclose(values, 1, atol=1e-6)


def test_the_number_of_comparisons_grows_slowly() -> None:
    compared = []
    for count in (2000, 8000):
        vectors = clustered(count, 0).__getitem__
        parts = pivot_trees._parts(vectors, vectors, count, np.random.default_rng(0))
        compared.append(sum(len(asked) * len(known) for asked, known in parts))
    assert compared[1] < 6 * compared[0]  # comparing all pairs: 16 times
