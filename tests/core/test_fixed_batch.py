"""Networks with a fixed number of photos run on any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import RunFailed
from trtpoets.core.fixed_batch import FixedBatchSession, whole_groups


class Session:
    """Gives the mean of each photo, twice per photo, and the largest value of all photos."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray], options: Any = None) -> list[Any]:
        photos = inputs["photos"]
        self.sizes.append(len(photos))
        rows = photos.mean(axis=(1, 2, 3))
        values = {"rows": rows, "twice": np.repeat(rows, 2), "largest": photos.max(), "odd": np.zeros(3)}
        return [values[name] for name in outputs or ()]

    def get_providers(self) -> list[str]:
        return ["here"]


def photos(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 2, 2, 3)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_rows_belong_to_the_photos(count: int) -> None:
    session = Session()
    rows, twice = FixedBatchSession(session, 4).run(["rows", "twice"], {"photos": photos(count)})
    expected = photos(count).mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(twice, np.repeat(expected, 2))
    assert session.sizes == [4] * -(-count // 4)


def test_outputs_that_cannot_be_divided_are_an_error() -> None:
    session = FixedBatchSession(Session(), 4)
    assert session.run(["odd"], {"photos": photos(4)})[0].shape == (3,)
    assert session.run(["largest"], {"photos": photos(2)})[0] == photos(2).max()
    with raises(RunFailed, "TP1957", "3"):
        session.run(["odd"], {"photos": photos(3)})
    with raises(RunFailed, "TP1956"):
        session.run(["largest"], {"photos": photos(5)})
    assert session.get_providers() == ["here"]


def test_whole_groups() -> None:
    for count, batch, expected in ((5, 4, 4), (3, 4, 4), (8, 4, 8), (3, 0, 3), (1, 4, 4)):
        assert len(whole_groups(photos(count), batch)) == expected
    np.testing.assert_array_equal(whole_groups(photos(3), 4), photos(3)[[0, 1, 2, 0]])
