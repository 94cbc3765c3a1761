"""Candidate pairs of near-copies."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from trtpoets.train.near_copies.candidates import nearest


def test_neighbours_are_found_in_blocks_of_bounded_memory() -> None:
    rows = np.random.default_rng(0).normal(size=(8_000, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[7_999] = rows[3]
    tracemalloc.start()
    places, values = nearest(rows, rows, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # all products would take 256 MB
    assert places[3, 0] == 7_999
    assert places[7_999, 0] == 3
    assert values[3, 0] == pytest.approx(1, abs=1e-5)
    some = rows[:50] @ rows.T
    some[np.arange(50), np.arange(50)] = -2
    assert (places[:50] == np.argsort(-some, axis=1)[:, :4]).all()
