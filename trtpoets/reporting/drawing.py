"""Draws plots as SVG that use the colours and the font of the page that contains them.

matplotlib draws each colour as a placeholder, which is then replaced by a CSS variable, so that one plot serves the
light and the dark page; text stays text. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from trtpoets.core.optional import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INK, SOFT, LINE, ACCENT, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
"""Placeholders for the page's text, secondary text, thin lines, main colour and second colour."""

_CSS = {
    INK: "currentColor",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
}
_WIDTH = 4.4
"""Inches; at 72 units an inch text of 10 units is 10 pixels high where a phone shows the picture 320 pixels wide."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trtpoets",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
}


_drawn: ContextVar[bool] = ContextVar("drawn", default=True)


@contextmanager
def without_plots() -> Iterator[None]:
    """Within the context, `svg` draws nothing and returns "": for documents with the texts of a report only."""
    token = _drawn.set(False)
    try:
        yield
    finally:
        _drawn.reset(token)


def svg(name: str, height: float, draw: Callable[[Any], None]) -> str:
    """Return a plot as an <svg> element for the page, drawn without pyplot's global state.

    `name` is unique on the page, `height` is in inches. Raises MissingDependency without the extra `report`.
    """
    if not _drawn.get():
        return ""
    with needs("report", reason="drawing plots"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    out = io.StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), name)


def _inline(text: str, name: str) -> str:
    """Return only the <svg> element: it scales with the page, has CSS colours, the page's font, and unique ids."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r" font-family: [^;\"]+;", "", text)
    for placeholder, colour in _CSS.items():
        text = text.replace(placeholder, colour)
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1).strip()
