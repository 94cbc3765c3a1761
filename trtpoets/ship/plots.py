"""Numbers -> small SVG pictures that take their colours and font from the page they stand in.

Drawn by matplotlib. Each colour is drawn as a stand-in and then replaced by a CSS variable, so that one picture does
for light and dark; text stays text. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from typing import TYPE_CHECKING, Any

from trtpoets.core.optional import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_INK, _SOFT, _LINE, _ACCENT, _SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
_CSS = {
    _INK: "currentColor",
    _SOFT: "var(--soft)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
}
_WIDTH = 5.0
"""Inches; at 72 units an inch the text of 10 units stays readable when a phone shows the picture 370 pixels wide."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trtpoets",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "savefig.transparent": True,
}


def accuracy_plot(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Dots with their intervals, one line a runner: (name, value, low, high), shares 0..1."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for line, (_, value, low, high) in enumerate(rows):
            axes.plot([100 * low, 100 * high], [line, line], color=_ACCENT, linewidth=5, alpha=0.35)
            axes.plot([100 * value], [line], "o", color=_ACCENT, markersize=6)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("accuracy, % (with 95 % interval)")

    return _svg("accuracy", 0.8 + 0.34 * len(rows), draw)


def speed_plot(rows: Sequence[tuple[str, int, float]]) -> str:
    """Bars of photos/s, grouped by batch size: (name, batch, photos/s)."""
    batches = sorted({batch for _, batch, _ in rows})
    names = list(dict.fromkeys(name for name, _, _ in rows))
    top = max(rate for _, _, rate in rows)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        height = 0.8 / len(batches)
        for number, batch in enumerate(batches):
            chosen = [(names.index(name), rate) for name, each, rate in rows if each == batch]
            places = [line - 0.4 + height * (number + 0.5) for line, _ in chosen]
            rates = [rate for _, rate in chosen]
            # The first and last batch size have colours of their own; those between them fade from one to the other.
            share = 1.0 - 0.7 * number / max(len(batches) - 1, 1) if len(batches) > 2 else 1.0
            colour = _ACCENT if number == 0 or len(batches) > 2 else _SECOND
            axes.barh(places, rates, height * 0.88, color=colour, alpha=share, label=f"batch {batch}")
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

    return _svg("speed", 1.0 + 0.27 * len(rows), draw)


def tradeoff_plot(rows: Sequence[tuple[str, float, float, float, float]]) -> str:
    """Accuracy against latency, up and left is better: (name, median ms, accuracy, low, high)."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (name, latency, value, low, high), marker in zip(rows, itertools.cycle("osD^vPX<>*"), strict=False):
            colour = _SECOND if name == "tensorflow" else _ACCENT
            axes.plot([latency, latency], [100 * low, 100 * high], color=colour, linewidth=5, alpha=0.25)
            axes.plot([latency], [100 * value], marker, color=colour, markersize=6, label=name)
        axes.set_xlim(0, 1.1 * max(row[1] for row in rows))
        axes.grid()
        axes.tick_params(length=0)
        axes.set_xlabel("median latency, ms")
        axes.set_title("accuracy, %")
        # Names beside the dots would lie on each other where runners are alike, as they should be.
        figure.legend(loc="outside lower left", ncols=2, fontsize=9)

    return _svg("tradeoff", 3.0 + 0.1 * len(rows), draw)


def curves_plot(word: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]], best: int | None) -> str:
    """Lines over training steps, the first in the accent colour; a thin line marks the step that was kept."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), (_ACCENT, _SECOND), strict=False):
            axes.plot(steps, values, color=colour, label=name)
        if best is not None:
            axes.axvline(best, color=_SOFT, linewidth=0.8, linestyle=(0, (3, 3)), label=f"kept: step {best:,}")
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_xlim(0, max(steps))
        axes.set_xlabel("training step")
        axes.set_title(word)
        figure.legend(loc="outside lower left", ncols=3, fontsize=9)

    return _svg(f"curves-{word}", 2.9, draw)


def layers_plot(decibels: Sequence[float], hollow: Sequence[bool]) -> str:
    """A line over the layers in their order, dB at each; `hollow` marks dots to be drawn empty."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(range(1, len(decibels) + 1), decibels, color=_ACCENT, linewidth=1)
        for empty in (False, True):
            chosen = [(at, db) for at, (db, each) in enumerate(zip(decibels, hollow, strict=True), 1) if each is empty]
            colour = _SECOND if empty else _ACCENT
            places, values = [at for at, _ in chosen], [db for _, db in chosen]
            axes.plot(
                places, values, "o", color=colour, markersize=7 if empty else 4, fillstyle="none" if empty else "full"
            )
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.set_ylim(min(0.0, *decibels), 1.08 * max(1.0, *decibels))
        axes.set_xlabel("layer, from the photos to the scores")
        axes.set_title("signal to quantisation noise, dB")

    return _svg("layers", 2.6, draw)


def histograms_plot(rows: Sequence[tuple[str, float, float, Sequence[float]]]) -> str:
    """Small histograms of magnitudes, two beside each other: (name, limit, top, shares in equal bins over 0..top).

    Shares are on one logarithmic scale for all; what lies beyond the limit, and so is cut, has the second colour.
    """
    lines = (len(rows) + 1) // 2
    least = min((share for *_, shares in rows for share in shares if share > 0), default=1.0)
    floor = 10.0 ** (math.floor(math.log10(least)) - 0.3)

    def draw(figure: Any) -> None:
        grid = figure.subplots(lines, 2, sharey=True, squeeze=False)
        for axes, (name, limit, top, shares) in zip(grid.flat, rows, strict=False):
            edges = [top * number / len(shares) for number in range(len(shares) + 1)]
            heights = [max(share, floor) for share in shares]
            held = sum(_middle(*each) <= limit for each in itertools.pairwise(edges))
            for begin, end, colour in ((0, held, _ACCENT), (held, len(shares), _SECOND)):
                if begin < end:
                    part = edges[begin : end + 1]
                    axes.stairs(heights[begin:end], part, baseline=floor, fill=True, color=colour)
            axes.axvline(limit, color=_INK, linewidth=0.9, linestyle=(0, (3, 2)))
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

    return _svg("ranges", 0.4 + 1.15 * lines, draw)


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _short(name: str, most: int = 26) -> str:
    """A name that fits above a small plot, in letters that every font has. Its ends tell more than its middle."""
    name = name.encode("ascii", "replace").decode()
    return name if len(name) <= most else f"{name[: most // 2 - 1]}..{name[len(name) - most // 2 :]}"


def _svg(name: str, height: float, draw: Callable[[Any], None]) -> str:
    """Draw on a figure of its own, without pyplot's global state, and make it a citizen of the page."""
    with needs("report", reason="drawing plots"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    out = io.StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Only the <svg> element, scaling with the page, with CSS colours, the page's font, and ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r" font-family: [^;\"]+;", "", svg)
    for stand_in, colour in _CSS.items():
        svg = svg.replace(stand_in, colour)
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1).strip()
