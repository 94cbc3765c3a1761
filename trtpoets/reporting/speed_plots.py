"""Plots of speed: latency against accuracy, distributions of latency, and throughput against the batch size."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from trtpoets.core.formatting import milliseconds
from trtpoets.judge.bench.benchmark import BASELINE
from trtpoets.reporting.drawing import ACCENT, INK, SECOND, SOFT, svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDE = 6.0
"""Latencies or rates that differ by more than this factor get a logarithmic scale."""

_MARKERS = "osD^vPX<>*"


class Point(NamedTuple):
    """A runner: its median latency, 5th and 95th percentile (`quick`, `slow`) in ms, and its accuracy 0..1."""

    name: str
    median: float
    quick: float
    slow: float
    accuracy: float
    low: float
    high: float


def tradeoff_plot(points: Sequence[Point]) -> str:
    """Return a plot of accuracy against latency with both intervals; a line joins the Pareto front."""
    front = pareto(points)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        if len(front) > 1:
            steps = [(point.median, 100 * point.accuracy) for point in front]
            axes.plot(*zip(*steps, strict=True), color=SOFT, linewidth=1, linestyle=(0, (4, 3)), drawstyle="steps-post")
        for point, marker in zip(points, itertools.cycle(_MARKERS), strict=False):
            colour = SECOND if point.name == BASELINE else ACCENT
            x, y = point.median, 100 * point.accuracy
            axes.plot([x, x], [100 * point.low, 100 * point.high], color=colour, linewidth=5, alpha=0.25)
            axes.plot([point.quick, point.slow], [y, y], color=colour, linewidth=1.2)
            face = colour if point in front else "none"
            axes.plot([x], [y], marker, color=colour, markerfacecolor=face, markersize=6, label=point.name)
        _scale(axes, "x", min(point.quick for point in points), max(point.slow for point in points))
        axes.grid()
        axes.tick_params(length=0)
        axes.set_xlabel("latency, ms")
        axes.set_title("accuracy, %")
        # A legend instead of names beside the dots, which would overlap where runners are alike.
        figure.legend(loc="outside lower left", ncols=2, fontsize=9)

    return svg("tradeoff", 3.0 + 0.1 * len(points), draw)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto front of latency and accuracy: the points that no other point dominates, the fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.median, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def latency_plot(rows: Sequence[tuple[str, Mapping[float, float]]]) -> str:
    """Return a plot of the distribution of latencies, one line per runner: (name, percentile -> ms).

    The percentiles must include 50. Latencies are relative to the median of the runner, so that the spread of a fast
    runner is visible. Thicker bands are closer to the median; a short tick marks the 90th percentile, a tall one the
    99th.
    """
    bands = ((0, 100, 1.2, 0.6), (5, 95, 5.0, 0.35), (25, 75, 9.0, 0.6))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for line, (name, times) in enumerate(rows):
            colour = SECOND if name == BASELINE else ACCENT
            share = {percent: 100 * value / times[50] for percent, value in times.items()}
            for low, high, width, alpha in bands:
                if low in share and high in share:
                    axes.plot([share[low], share[high]], [line] * 2, color=colour, linewidth=width, alpha=alpha)
            if 0 not in share:
                axes.plot([100, max(share.values())], [line] * 2, color=colour, linewidth=1.2)
            for percent, half in ((90, 0.17), (99, 0.3)):
                if percent in share:
                    axes.plot([share[percent]] * 2, [line - half, line + half], color=INK, linewidth=1.1)
            axes.plot([100], [line], "o", color=INK, markersize=4.5)
        axes.set_yticks(range(len(rows)), [f"{name}\n{milliseconds(times[50])} ms" for name, times in rows], fontsize=9)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("latency, % of the runner's median")

    return svg("latency", 0.9 + 0.42 * len(rows), draw)


def _scale(axes: Any, axis: str, least: float, most: float) -> None:
    """Set the scale of `axis`, "x" or "y": linear from 0, or logarithmic if the values differ by a large factor."""
    if most <= _WIDE * least:
        axes.set(**{f"{axis}lim": (0, 1.08 * most)})
        return
    low, high = least / 1.3, 1.3 * most
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low, high)})
    ticks = [lead * 10.0**power for power in range(-4, 6) for lead in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set(**{f"{axis}ticks": ticks, f"{axis}ticklabels": [f"{tick:,g}" for tick in ticks]})
    axes.minorticks_off()


def throughput_plot(rows: Sequence[tuple[str, int, float]]) -> str:
    """Return a plot of photos/s by batch size, one line per runner: (name, batch, photos/s); bars for two sizes."""
    batches = sorted({batch for _, batch, _ in rows})
    return _bars(rows, batches) if len(batches) < 3 else _lines(rows, batches)


def _lines(rows: Sequence[tuple[str, int, float]], batches: Sequence[int]) -> str:
    names = list(dict.fromkeys(name for name, _, _ in rows))
    dashes = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, marker, dash in zip(names, itertools.cycle(_MARKERS), itertools.cycle(dashes), strict=False):
            chosen = sorted((batch, rate) for runner, batch, rate in rows if runner == name)
            places, rates = [math.log2(batch) for batch, _ in chosen], [rate for _, rate in chosen]
            colour = SECOND if name == BASELINE else ACCENT
            axes.plot(places, rates, marker=marker, color=colour, linestyle=dash, markersize=5, label=name)
        axes.set_xticks([math.log2(batch) for batch in batches], [str(batch) for batch in batches])
        _scale(axes, "y", min(rate for _, _, rate in rows), max(rate for _, _, rate in rows))
        axes.grid()
        axes.tick_params(length=0)
        axes.set_xlabel("photos in a batch")
        axes.set_title("photos per second")
        figure.legend(loc="outside lower left", ncols=2, fontsize=9)

    return svg("speed", 2.9 + 0.1 * len(names), draw)


def _bars(rows: Sequence[tuple[str, int, float]], batches: Sequence[int]) -> str:
    names = list(dict.fromkeys(name for name, _, _ in rows))
    top = max(rate for _, _, rate in rows)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        height = 0.8 / len(batches)
        for number, batch in enumerate(batches):
            chosen = [(names.index(name), rate) for name, size, rate in rows if size == batch]
            places = [line - 0.4 + height * (number + 0.5) for line, _ in chosen]
            rates = [rate for _, rate in chosen]
            axes.barh(places, rates, height * 0.88, color=(ACCENT, SECOND)[number], label=f"batch {batch}")
            for place, rate in zip(places, rates, strict=True):
                axes.text(rate + top * 0.015, place, f"{rate:,.0f}", va="center", fontsize=8.5)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, top * 1.16)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("photos per second, more is better")
        if len(batches) > 1:
            figure.legend(loc="outside upper left", ncols=len(batches), fontsize=9)

    return svg("speed", 1.0 + 0.27 * len(rows), draw)
