"""Plots of accuracy, of training, and of INT8."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

from trtpoets.reporting.drawing import ACCENT, INK, SECOND, SOFT, svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def accuracy_plot(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Return a plot of dots with intervals, one line per runner: (name, value, low, high), shares 0..1."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for line, (_, value, low, high) in enumerate(rows):
            axes.plot([100 * low, 100 * high], [line, line], color=ACCENT, linewidth=5, alpha=0.35)
            axes.plot([100 * value], [line], "o", color=ACCENT, markersize=6)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("accuracy, % (with 95 % interval)")

    return svg("accuracy", 0.8 + 0.34 * len(rows), draw)


def curves_plot(
    word: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]], best: int | None, mark: str = "kept"
) -> str:
    """Return a plot of curves over training steps; a thin line marks the best step. `word` names the unit.

    `mark` says what the best step is: "kept", or "best" if something else is shipped.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), (ACCENT, SECOND), strict=False):
            axes.plot(steps, values, color=colour, label=name)
        if best is not None:
            axes.axvline(best, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)), label=f"{mark}: step {best:,}")
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_xlim(0, max(steps))
        axes.set_xlabel("training step")
        axes.set_title(word)
        figure.legend(loc="outside lower left", ncols=3, fontsize=9)

    return svg(f"curves-{re.sub('[^a-z]+', '-', word)}", 2.9, draw)


def rates_plot(
    word: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, logarithmic: bool = False
) -> str:
    """Return a plot of the curves of several learning rates: learning rate -> (steps, values). Dashes differ too.

    A `logarithmic` axis shows values of very different sizes, which must be above 0.
    """
    dashes = ("solid", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
    styles = zip(itertools.cycle((ACCENT, SECOND, INK)), itertools.cycle(dashes))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (name, (steps, values)), (colour, dash) in zip(lines.items(), styles, strict=False):
            axes.plot(steps, values, color=colour, linestyle=dash, label=name)
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_xlim(0, max(steps[-1] for steps, _ in lines.values()))
        if logarithmic:
            axes.set_yscale("log")
        axes.set_xlabel("training step")
        axes.set_title(word)
        figure.legend(loc="outside lower left", ncols=min(len(lines), 4), fontsize=9)

    return svg(f"rates-{word.replace(' ', '-')}", 2.9, draw)


def learning_curve_plot(
    measured: Sequence[tuple[int, float, float, float]], expected: Sequence[tuple[int, float, float, float]]
) -> str:
    """Return a plot of accuracy by the number of photos: (photos, value, low, high), shares 0..1."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        last = measured[-1]
        photos, values, lows, highs = zip(*measured, strict=True)
        axes.plot(photos, [100 * value for value in values], "o-", color=ACCENT, markersize=4, label="measured")
        axes.fill_between(photos, [100 * low for low in lows], [100 * high for high in highs], color=ACCENT, alpha=0.2)
        if expected:
            photos, values, lows, highs = zip((last[0], last[1], last[1], last[1]), *expected, strict=True)
            dashed = (0, (4, 2))
            axes.plot(photos, [100 * value for value in values], color=SECOND, linestyle=dashed, label="expected")
            axes.fill_between(
                photos, [100 * low for low in lows], [100 * high for high in highs], color=SECOND, alpha=0.2
            )
        axes.set_xscale("log", base=2)
        ticks = [number for number, *_ in (*measured, *expected)]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=9)
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_xlabel("training photos")
        axes.set_title("accuracy, %")
        figure.legend(loc="outside lower left", ncols=2, fontsize=9)

    return svg("learning-curve", 2.9, draw)


def race_plot(networks: Sequence[tuple[str, float, float, float, float, bool]]) -> str:
    """Return a plot of accuracy by latency: (name, ms, value, low, high, on the frontier), shares 0..1."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for _, latency, value, low, high, on_frontier in networks:
            colour = ACCENT if on_frontier else SECOND
            axes.plot([latency, latency], [100 * low, 100 * high], color=colour, linewidth=4, alpha=0.3)
            axes.plot([latency], [100 * value], "o", color=colour, markersize=6)
        best = sorted((latency, 100 * value) for _, latency, value, _, _, on_frontier in networks if on_frontier)
        axes.plot(*zip(*best, strict=True), color=ACCENT, linewidth=1)
        latencies = [latency for _, latency, *_ in networks]
        axes.set_xscale("log")
        axes.set_xlim(min(latencies) / 1.4, 6 * max(latencies))
        powers = range(math.floor(math.log10(min(latencies))), math.ceil(math.log10(max(latencies))) + 1)
        ticks = [step * 10.0**power for power in powers for step in (1, 3)]
        shown = [tick for tick in ticks if min(latencies) / 1.4 <= tick <= 6 * max(latencies)]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
        _annotate(axes, [(name, latency, 100 * value) for name, latency, value, *_ in networks])
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_xlabel("milliseconds for one photo")
        axes.set_title("accuracy, %")

    return svg("race", 2.9, draw)


def _annotate(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write the name of each (name, x, y) right of its point, or higher where it would overlap a lower one."""
    height, width = 9.0, 4.6  # of a line and of a letter, in units of 1/72 inch
    placed: list[tuple[float, float, float]] = []
    for name, x, y in sorted(points, key=lambda point: point[2]):
        left, bottom = axes.transData.transform((x, y)) * 72 / axes.figure.dpi
        right, lifted = left + width * len(name), bottom
        for other_left, other_right, other_bottom in sorted(placed, key=lambda box: box[2]):
            if left < other_right and other_left < right and abs(lifted - other_bottom) < height:
                lifted = other_bottom + height
        placed.append((left, right, lifted))
        axes.annotate(name, (x, y), xytext=(6, 4 + lifted - bottom), textcoords="offset points", fontsize=8)


def layers_plot(decibels: Sequence[float], hollow: Sequence[bool]) -> str:
    """Return a plot of the SQNR in dB of each layer, in order; `hollow` marks dots that are drawn empty."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(range(1, len(decibels) + 1), decibels, color=ACCENT, linewidth=1)
        for empty in (False, True):
            chosen = [
                (at, db)
                for at, (db, is_hollow) in enumerate(zip(decibels, hollow, strict=True), 1)
                if is_hollow is empty
            ]
            colour = SECOND if empty else ACCENT
            places, values = [at for at, _ in chosen], [db for _, db in chosen]
            axes.plot(
                places, values, "o", color=colour, markersize=7 if empty else 4, fillstyle="none" if empty else "full"
            )
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_ylim(min(0.0, *decibels), 1.08 * max(1.0, *decibels))
        axes.set_xlabel("layer, from the photos to the scores")
        axes.set_title("signal to quantisation noise, dB")

    return svg("layers", 2.6, draw)


def frontier_plot(points: Sequence[tuple[float, float]], written: int, what: str) -> str:
    """Return a plot of mixes of INT8 and float: (cost, SQNR of the features in dB). `what` names the cost.

    A circle marks the mix with the index `written`.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        costs, decibels = zip(*points, strict=True)
        axes.plot(costs, decibels, "o-", color=ACCENT, linewidth=1, markersize=4)
        axes.plot(*([value] for value in points[written]), "o", color=SECOND, markersize=8, fillstyle="none")
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_xlabel(what)
        axes.set_title("signal to quantisation noise of the features, dB")

    return svg("frontier", 2.6, draw)


def histograms_plot(rows: Sequence[tuple[str, float, float, Sequence[float]]]) -> str:
    """Return small histograms of magnitudes in two columns: (name, limit, top, shares in equal bins over 0..top).

    All shares have the same logarithmic scale. Values beyond the limit, which are clipped, have the second colour.
    """
    lines = (len(rows) + 1) // 2
    least = min((share for *_, shares in rows for share in shares if share > 0), default=1.0)
    floor = 10.0 ** (math.floor(math.log10(least)) - 0.3)

    def draw(figure: Any) -> None:
        grid = figure.subplots(lines, 2, sharey=True, squeeze=False)
        for axes, (name, limit, top, shares) in zip(grid.flat, rows, strict=False):
            edges = [top * number / len(shares) for number in range(len(shares) + 1)]
            heights = [max(share, floor) for share in shares]
            unclipped = sum(_middle(*bounds) <= limit for bounds in itertools.pairwise(edges))
            for begin, end, colour in ((0, unclipped, ACCENT), (unclipped, len(shares), SECOND)):
                if begin < end:
                    part = edges[begin : end + 1]
                    axes.stairs(heights[begin:end], part, baseline=floor, fill=True, color=colour)
            axes.axvline(limit, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
            axes.set_xlim(0, 1.04 * max(top, limit))
            axes.set_xticks([0, top], ["0", f"{top:.3g}"], fontsize=9)
            axes.set_title(_short(name), fontsize=9, pad=3, parse_math=False)
            axes.set_yscale("log")
            axes.set_ylim(floor, 2)
            axes.minorticks_off()
            ticks = [10.0**power for power in range(0, math.floor(math.log10(floor)), -2)]
            axes.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks], fontsize=8.5)
            axes.grid(axis="y")
            axes.tick_params(length=0)
        for axes in grid.flat[len(rows) :]:
            axes.set_visible(False)

    return svg("ranges", 0.4 + 1.15 * lines, draw)


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _short(name: str, most: int = 26) -> str:
    """Return a name in ASCII that fits above a small plot, with its middle shortened."""
    name = name.encode("ascii", "replace").decode()
    return name if len(name) <= most else f"{name[: most // 2 - 1]}..{name[len(name) - most // 2 :]}"
