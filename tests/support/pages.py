"""Reads the page as a browser does."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from tests.support.report_documents import report_of
from trtpoets.core.types import Photo
from trtpoets.reporting import speed_plots
from trtpoets.reporting.html import page_from_report

_VOID = {"meta", "img", "br", "wbr"}


class Reader(HTMLParser):
    """Collects text, attributes and ids; complains about elements that don't match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(documents: dict[str, Any], photos: dict[str, Photo] | None = None) -> Reader:
    return Reader(page_from_report(report_of(documents), photos))


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    'quo\'te & "co"',
    "emoji \U0001f33c",
    "not utf \udcff",
    "x" * 3000,
    "$a_1$ \\frac",
)

POINTS = [
    speed_plots.Point("tensorflow", 9.0, 8.0, 10.0, 0.9, 0.8, 0.95),
    speed_plots.Point("x", 3.0, 2.5, 3.5, 0.88, 0.8, 0.95),
    speed_plots.Point("y", 4.0, 3.5, 70.0, 0.87, 0.8, 0.95),
]
