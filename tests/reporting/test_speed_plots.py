"""Plots of speed."""

from __future__ import annotations

from tests.support.pages import POINTS
from trtpoets.reporting import speed_plots


def test_nothing_beats_those_on_the_front() -> None:
    assert [item.name for item in speed_plots.pareto(POINTS)] == ["x", "tensorflow"]
    twin = POINTS[1]._replace(name="twin", median=3.5)
    assert "twin" not in [item.name for item in speed_plots.pareto([*POINTS, twin])]
