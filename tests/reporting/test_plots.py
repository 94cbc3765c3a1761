"""Plots take the colours of the page."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

from tests.support.pages import POINTS, Reader
from trtpoets.reporting import plots, speed_plots


def test_plots_take_the_pages_colours() -> None:
    pictures = [
        plots.accuracy_plot([("tensorflow", 0.9, 0.8, 0.95)]),
        speed_plots.throughput_plot([("a", 1, 10.0), ("a", 8, 20.0), ("b", 1, 12.0), ("b", 32, 50.0)]),
        speed_plots.throughput_plot([("a", 1, 10.0), ("tensorflow", 8, 20.0), ("b", 2, 12.0), ("b", 32, 50.0)]),
        speed_plots.tradeoff_plot(POINTS),
        speed_plots.latency_plot(
            [("tensorflow", {0: 1, 5: 2, 25: 3, 50: 4, 75: 5, 90: 6, 95: 7, 100: 9}), ("b", {50: 1, 99: 2})]
        ),
        plots.histograms_plot([("a layer", 0.5, 1.0, [0.5, 0.4, 0.1, 0.0]), ("x" * 99, 2.0, 1.0, [1.0, 0.0])]),
        plots.rates_plot("accuracy", {f"{rate}": ([50, 100], [0.5, 0.6]) for rate in range(5)}),
        plots.curves_plot("accuracy", [0, 10], {"train": [0.1, 0.9], "validation": [0.1, 0.8]}, 10),
    ]
    for picture in pictures:
        Reader(picture)
        assert not re.search(r"#[0-9a-f]{6}", picture)
        assert {"currentColor", "var(--accent)", "var(--line)"} <= set(
            re.findall(r"currentColor|var\(--\w+\)", picture)
        )
        assert not re.search(r"<svg[^>]* (width|height)=", picture)
        assert "font-family" not in picture
        for name in re.findall(r'(?:url\(|href=")#([^)"]+)', picture):
            assert f'id="{name}"' in picture


def luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_are_distinguishable(mode: int) -> None:
    css = (files("trtpoets.reporting") / "templates" / "page.css").read_text()
    block = re.findall(r":root \{([^}]*)\}", css)[mode]
    colours = {}
    for name, value in re.findall(r"--(\w+): #([0-9a-f]{3,6});", block):
        digits = value if len(value) == 6 else "".join(2 * digit for digit in value)
        colours[name] = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    for name in ("ink", "soft", "accent", "second", "bad"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    assert contrast(colours["soft"], colours["card"]) >= 4.5
    share = float(re.findall(r"color-mix\(.*\* (\d+)%\)", css)[0]) / 100
    for tone in ("accent", "bad"):
        deepest = share * colours[tone] + (1 - share) * colours["card"]
        assert contrast(colours["ink"], deepest) >= 4.5, tone
